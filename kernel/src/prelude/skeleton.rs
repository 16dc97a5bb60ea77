//! The skeleton: the sources of the prelude and of the standard library without function bodies, for rust-analyzer.
//!
//! Variable types, completion and documentation need only signatures. The skeleton omits bodies, crates
//! that only bodies use, functions that no notebook can name, and the methods of trait impls, which the
//! trait declares. So rust-analyzer reads fewer sources, and each cell is faster. The first cell waits
//! until they are read.

use std::ops::Range;
use std::path::Path;

use proc_macro2::{Span, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

use crate::prelude::modules;
use crate::prelude::operators::generic_impls;
use crate::prelude::tokens::{replace, with_fewer_comments, without_const_traits};

/// Crates of the standard library that a notebook can name.
const STANDARD: [&str; 3] = ["core", "alloc", "std"];

/// Folders and files without a type that notebooks use: tests, compiler internals, unstable types, and
/// parts of the standard library that only its own bodies use. Parts of `core::intrinsics` stay,
/// because they are public under another name, such as `std::mem::transmute`.
const OMITTED: [&str; 23] = [
    "alloctests",
    "backtrace",
    "benches",
    "compiler-builtins",
    "coretests",
    "f128.rs",
    "f16.rs",
    "flt2dec",
    "intrinsics/simd.rs",
    "panic_abort",
    "panic_unwind",
    "portable-simd",
    "proc_macro",
    "profiler_builtins",
    "rtstartup",
    "std_detect",
    "stdarch",
    "sys",
    "test",
    "tests",
    "tests.rs",
    "unicode",
    "unwind",
];

/// Name of the crate `hashbrown` in the standard library, which does not include its sources.
const MISSING: &str = "base";

/// Modules of `std::os` for the systems that the kernel supports.
const SYSTEMS: [&str; 8] = ["darwin", "fd", "linux", "macos", "mod.rs", "net", "raw", "unix"];

/// Whether a file or folder contains nothing that a notebook can name.
fn is_unseen(path: &Path) -> bool {
    let is_of_another_system = path.parent().is_some_and(|parent| parent.ends_with("std/src/os"))
        && !SYSTEMS.iter().any(|name| path.ends_with(name));
    is_of_another_system || OMITTED.iter().any(|name| path.ends_with(name))
}

/// Copies the sources of the standard library's crates.
pub fn copy_library(from: &Path, to: &Path) -> Result<(), String> {
    copy_sources(from, to, None)?;
    STANDARD.iter().try_for_each(|name| join_modules(&to.join(name).join("src")))
}

/// Copies a crate's sources. `above` precedes the items, each of which is only for rust-analyzer.
pub fn copy_crate(from: &Path, to: &Path, above: &str) -> Result<(), String> {
    copy_sources(from, to, Some(above))?;
    join_modules(to)
}

fn join_modules(sources: &Path) -> Result<(), String> {
    let root = sources.join("lib.rs");
    modules::join(&root).map_err(|error| format!("{}: {error}", root.display()))
}

/// Copies sources without bodies and without items that notebooks cannot name. Manifests are not copied:
/// without one, rust-analyzer does not call cargo, which would look for the dependencies.
///
/// With `gate`, this text precedes the items of the crate's root, each of which is only for rust-analyzer.
fn copy_sources(from: &Path, to: &Path, gate: Option<&str>) -> Result<(), String> {
    let complain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(to).map_err(|error| complain(to, error))?;
    for entry in std::fs::read_dir(from).map_err(|error| complain(from, error))? {
        let path = entry.map_err(|error| complain(from, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = to.join(&name);
        if is_unseen(&path) {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &target, None)?;
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| complain(&path, error))?;
        let text = without_const_traits(&text);
        let text = match gate {
            Some(above) if name == "lib.rs" => {
                gated_root(&text, above).map_err(|error| format!("{}: {error}", path.display()))?
            }
            // A file with new Rust syntax may not parse here; rust-analyzer then reads it unchanged.
            _ => without_bodies(&text).unwrap_or(text),
        };
        std::fs::write(&target, with_fewer_comments(&text)).map_err(|error| complain(&target, error))?;
    }
    Ok(())
}

/// Removes the bodies of functions from a source.
pub fn without_bodies(source: &str) -> Result<String, syn::Error> {
    let file = syn::parse_file(source)?;
    let mut cuts = Cuts::default();
    cuts.visit_file(&file);
    Ok(replace(source, cuts.0.into_iter()))
}

/// Removes the bodies from a crate's root, inserts `above`, and hides each item from rustc.
fn gated_root(source: &str, above: &str) -> Result<String, syn::Error> {
    let source = without_bodies(source)?;
    let file = syn::parse_file(&source)?;
    let first = file.items.first().map_or(0, |item| item.span().byte_range().start);
    let gates = file.items.iter().enumerate().map(|(at, item)| {
        let start = item.span().byte_range().start;
        let above = if at == 0 { above } else { "" };
        (start..start, format!("{above}#[cfg(rust_analyzer)]\n"))
    });
    debug_assert!(file.attrs.iter().all(|attribute| attribute.span().byte_range().start <= first));
    Ok(replace(&source, gates))
}

/// Ranges of a source and their replacements, in order and without overlap.
#[derive(Default)]
pub struct Cuts(pub Vec<(Range<usize>, String)>);

impl Cuts {
    /// Adds a cut for a function: all of it if a notebook cannot name it (private functions and unstable
    /// methods), otherwise its body. Lang items stay.
    fn add_function(
        &mut self,
        attributes: &[syn::Attribute],
        visibility: &syn::Visibility,
        is_method: bool,
        whole: Span,
        body: &syn::Block,
    ) {
        let has = |name| attributes.iter().any(|attribute| attribute.path().is_ident(name));
        let is_private = !matches!(visibility, syn::Visibility::Public(_));
        if (is_private || is_method && has("unstable")) && !has("lang") {
            self.0.push((whole.byte_range(), String::new()));
            return;
        }
        for attribute in attributes {
            self.visit_attribute(attribute);
        }
        self.0.push((body.span().byte_range(), ";".to_owned()));
    }
}

/// Whether attributes with this name affect neither types nor documentation.
pub fn is_for_compiler(name: &str) -> bool {
    let known = ["stable", "inline", "must_use", "track_caller", "cold", "rustc_diagnostic_item"];
    known.contains(&name) || name.starts_with("rustc_const") || name.starts_with("rustc_allow_const")
}

impl<'ast> Visit<'ast> for Cuts {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let name = attribute.path().get_ident();
        let is_outer = matches!(attribute.style, syn::AttrStyle::Outer);
        if is_outer && name.is_some_and(|name| is_for_compiler(&name.to_string())) {
            self.0.push((attribute.span().byte_range(), String::new()));
        }
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let called = item.mac.path.get_ident().filter(|_| item.ident.is_none());
        let made = called.and_then(|name| generic_impls(&name.to_string(), item.mac.tokens.clone()));
        if let Some(made) = made {
            self.0.push((item.span().byte_range(), made));
            return;
        }
        let mut tokens = item.mac.tokens.clone().into_iter();
        // A macro rule consists of a pattern, an arrow, and the output.
        while let Some(token) = tokens.next() {
            if let TokenTree::Punct(arrow) = token
                && arrow.as_char() == '>'
                && let Some(TokenTree::Group(made)) = tokens.next()
            {
                self.add_generated(made.stream());
            }
        }
    }

    /// Replaces the types of a missing crate. rust-analyzer would not know that they depend on their
    /// parameters, and could not infer those.
    fn visit_field(&mut self, field: &'ast syn::Field) {
        for attribute in &field.attrs {
            self.visit_attribute(attribute);
        }
        if let syn::Type::Path(path) = &field.ty
            && path.path.segments.first().is_some_and(|first| first.ident == MISSING)
            && let Some(last) = path.path.segments.last()
            && let syn::PathArguments::AngleBracketed(arguments) = &last.arguments
        {
            let parts = arguments.args.iter().map(|argument| match argument {
                syn::GenericArgument::Lifetime(lifetime) => format!("&{lifetime} (),"),
                other => format!("{},", other.span().source_text().unwrap_or_default()),
            });
            self.0.push((field.ty.span().byte_range(), format!("({})", parts.collect::<String>())));
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        // Constant functions keep their bodies, because a type may depend on their values, as with
        // `size_of`.
        if item.sig.constness.is_none() {
            self.add_function(&item.attrs, &item.vis, false, item.span(), &item.block);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        for inner in &item.items {
            match inner {
                syn::ImplItem::Fn(function) if item.trait_.is_some() => {
                    self.0.push((function.span().byte_range(), String::new()));
                }
                _ => self.visit_impl_item(inner),
            }
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add_function(&item.attrs, &item.vis, true, item.span(), &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        match &item.default {
            Some(body) => {
                let visibility = syn::Visibility::Public(Default::default());
                self.add_function(&item.attrs, &visibility, true, item.span(), body);
            }
            None => item.attrs.iter().for_each(|attribute| self.visit_attribute(attribute)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 {\n    a + { 1 }\n}\n\
        const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { 3 } fn g(&self); }\nimpl S { pub const fn h() {} }\n\
        macro_rules! m { (fn $t:ty { }) => { /// Doc.\n#[cfg(x)] fn a() -> $t { 1 } }; (x) => { vec![] } }\n";

    #[test]
    fn bodies_are_removed_and_the_rest_is_unchanged() {
        let expected = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 ;\n\
            const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 ; fn g(&self); }\nimpl S { pub const fn h() ; }\n\
            macro_rules! m { (fn $t:ty { }) => { \n#[cfg(x)] fn a() -> $t ; }; (x) => { vec![] } }\n";
        assert_eq!(without_bodies(SOURCE).unwrap(), expected);
    }

    #[test]
    fn types_of_a_missing_crate_depend_on_their_parameters() {
        let source = "pub struct Keys<'a, K, V> { #[stable] inner: base::Keys<'a, K, Vec<V>>, len: usize }\nstruct A(base::B);";
        let expected =
            "pub struct Keys<'a, K, V> {  inner: (&'a (),K,Vec<V>,), len: usize }\nstruct A(base::B);";
        assert_eq!(without_bodies(source).unwrap(), expected);
    }

    #[test]
    fn arguments_of_another_macro_are_unchanged() {
        let source = "macro_rules! m { (a) => { m! { #[stable(x)] b } #[stable(y)] fn f() { 1 } }; (#[$s:meta] b) => { #[$s] type B = u8; } }";
        let expected = "macro_rules! m { (a) => { m! { #[stable(x)] b }  fn f() ; }; (#[$s:meta] b) => { #[$s] type B = u8; } }";
        assert_eq!(without_bodies(source).unwrap(), expected);
    }

    #[test]
    fn unstable_methods_are_removed_except_lang_items() {
        let source = "trait T { #[unstable(x)] fn a() {} #[unstable(x)] fn b(); #[lang = \"c\"] #[unstable(x)] fn c() {} }\n\
            macro_rules! m { () => { /// A.\n#[unstable(x)]\n#[cfg(y)] pub fn a() { 1 } #[stable(x)] fn b() { 2 }\n\
            #[unstable(x)] const C: u8 = 1; fn d() { 3 } #[unstable(x)] impl E { fn e() { 4 } } } }";
        let expected = "trait T {  #[unstable(x)] fn b(); #[lang = \"c\"] #[unstable(x)] fn c() ; }\n\
            macro_rules! m { () => { \n  fn b() ;\n\
            \u{20}const C: u8 = 1; fn d() ;  impl E { fn e() ; } } }";
        assert_eq!(without_bodies(source).unwrap(), expected);
    }

    #[test]
    fn private_functions_and_methods_of_trait_impls_are_removed() {
        let source = "#[inline] pub fn a() {} fn b() {} pub(crate) fn c() {} #[lang = \"d\"] fn d() {}\n\
            impl S { #[stable] pub fn e() {} fn f() {} #[must_use] pub const G: u8 = 1; }\n\
            impl Iterator for S { #[x] type Item = u8; fn next(&mut self) -> Option<u8> { None } }\n\
            macro_rules! m { () => { impl<T> Add for S<T> where T: for<'a> U<'a> { type Output = fn(u8); \
            #[x] fn add(self) {} const C: u8 = { 1 }; } impl<T: for<'a> U<'a>> S<T> { fn g() {} } } }";
        let expected = " pub fn a() ;   #[lang = \"d\"] fn d() ;\n\
            impl S {  pub fn e() ;   pub const G: u8 = 1; }\n\
            impl Iterator for S { #[x] type Item = u8;  }\n\
            macro_rules! m { () => { impl<T> Add for S<T> where T: for<'a> U<'a> { type Output = fn(u8); \
            \u{20}const C: u8 = { 1 }; } impl<T: for<'a> U<'a>> S<T> { fn g() ; } } }";
        assert_eq!(without_bodies(source).unwrap(), expected);
    }

    /// rust-analyzer reads a file that cannot be parsed here unchanged, and a kernel then starts more
    /// slowly.
    #[test]
    fn the_standard_library_can_be_parsed() {
        let library = crate::prelude::toolchain::library_sources().unwrap();
        let mut folders: Vec<_> = STANDARD.map(|name| library.join(name).join("src")).into();
        let mut unknown = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_str().unwrap();
                if is_unseen(&path) {
                    continue;
                } else if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") {
                    let text = without_const_traits(&std::fs::read_to_string(&path).unwrap());
                    if let Err(error) = without_bodies(&text) {
                        unknown.push(format!("{}: {:?}: {error}", path.display(), error.span().start()));
                    }
                }
            }
        }
        assert!(unknown.is_empty(), "{unknown:#?}");
    }

    #[test]
    fn a_gated_root_is_valid_rust_and_keeps_its_inner_attributes_first() {
        let gated = gated_root(SOURCE, "pub use real::*;\n").unwrap();
        let start =
            "//! About é.\n#![deny(missing_docs)]\npub use real::*;\n#[cfg(rust_analyzer)]\n/// Adds.\n";
        assert!(gated.starts_with(start), "{gated}");
        assert_eq!(gated.matches("#[cfg(rust_analyzer)]").count(), 5);
        syn::parse_file(&gated).unwrap();
    }
}
