//! What rust-analyzer sees of the prelude: its sources with empty bodies.
//!
//! Types of variables, completion and documentation need signatures alone. Without the bodies, and
//! without the crates that only bodies use, rust-analyzer has a small tree to read where candle's
//! is a large one, and every cell is quicker for it.

use std::ops::Range;
use std::path::Path;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Folders of which no type of a notebook's comes: tests, and those parts of the standard library
/// that are large and hold intrinsics, or what only its own bodies use.
const UNSEEN: [&str; 18] = [
    "alloctests",
    "backtrace",
    "benches",
    "compiler-builtins",
    "coretests",
    "dec2flt",
    "flt2dec",
    "intrinsics",
    "os",
    "panic_abort",
    "panic_unwind",
    "portable-simd",
    "std_detect",
    "stdarch",
    "sys",
    "tests",
    "unicode",
    "unwind",
];

/// Copies sources, each function's body replaced by one that never returns. No manifest goes with
/// them: without one rust-analyzer asks no cargo, which would look for what the sources depend on.
///
/// With `gate`, each item of the crate's root is for rust-analyzer only, after `above`.
pub fn copy_sources(from: &Path, to: &Path, gate: Option<&str>) -> Result<(), String> {
    let complain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(to).map_err(|error| complain(to, error))?;
    for entry in std::fs::read_dir(from).map_err(|error| complain(from, error))? {
        let path = entry.map_err(|error| complain(from, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = to.join(&name);
        if path.is_dir() {
            if !UNSEEN.contains(&name.as_str()) {
                copy_sources(&path, &target, None)?;
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| complain(&path, error))?;
        let text = match gate {
            Some(above) if name == "lib.rs" => {
                gated_root(&text, above).map_err(|error| format!("{}: {error}", path.display()))?
            }
            // What is new in Rust may be unknown here; rust-analyzer then reads it whole.
            _ => without_bodies(&text).unwrap_or(text),
        };
        std::fs::write(&target, text).map_err(|error| complain(&target, error))?;
    }
    Ok(())
}

/// The source with empty bodies.
pub fn without_bodies(source: &str) -> Result<String, syn::Error> {
    let file = syn::parse_file(source)?;
    let mut cuts = Cuts::default();
    cuts.visit_file(&file);
    Ok(replace(source, cuts.0.into_iter()))
}

/// The root with empty bodies, `above` first, and each item hidden from the compiler.
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

fn replace(source: &str, changes: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let mut result = String::with_capacity(source.len());
    let mut copied = 0;
    for (range, text) in changes {
        result.push_str(&source[copied..range.start]);
        result.push_str(&text);
        copied = range.end;
    }
    result + &source[copied..]
}

/// What goes, in order, none inside another, and what comes in its place.
#[derive(Default)]
struct Cuts(Vec<(Range<usize>, String)>);

impl Cuts {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        // A constant's value may be part of a type.
        if signature.constness.is_none() {
            self.empty(body.span());
        }
    }

    fn empty(&mut self, body: Span) {
        self.0.push((body.byte_range(), "{ loop {} }".to_owned()));
    }

    /// Bodies and attributes in what a macro makes: the standard library makes the methods of
    /// numbers twelve times over, each with its documentation.
    fn add_made(&mut self, tokens: TokenStream) {
        let mut in_signature = false;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match (token, tokens.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(attribute)))
                    if hash.as_char() == '#' && is_for_readers(attribute) =>
                {
                    self.0.push((
                        hash.span().byte_range().start..attribute.span().byte_range().end,
                        String::new(),
                    ));
                    tokens.next();
                }
                (TokenTree::Ident(word), _) if word == "fn" => in_signature = true,
                (TokenTree::Punct(end), _) if end.as_char() == ';' => in_signature = false,
                (TokenTree::Group(body), _) if in_signature && body.delimiter() == Delimiter::Brace => {
                    self.empty(body.span());
                    in_signature = false;
                }
                (TokenTree::Group(group), _) if !in_signature => self.add_made(group.stream()),
                _ => {}
            }
        }
    }
}

/// Whether an attribute says nothing of types: documentation, stability, hints to the compiler.
fn is_for_readers(attribute: &Group) -> bool {
    let first = attribute.stream().into_iter().next();
    attribute.delimiter() == Delimiter::Bracket
        && first.is_some_and(|word| {
            let word = word.to_string();
            let names = ["doc", "stable", "unstable", "inline", "must_use", "track_caller"];
            names.contains(&word.as_str())
                || word.starts_with("rustc_const")
                || word.starts_with("rustc_allow")
        })
}

impl<'ast> Visit<'ast> for Cuts {
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let mut tokens = item.mac.tokens.clone().into_iter();
        // A rule is what to match, an arrow, and what to make of it.
        while let Some(token) = tokens.next() {
            if let TokenTree::Punct(arrow) = token
                && arrow.as_char() == '>'
                && let Some(TokenTree::Group(made)) = tokens.next()
            {
                self.add_made(made.stream());
            }
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 {\n    a + { 1 }\n}\n\
        const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { 3 } fn g(&self); }\nimpl S { fn h() {} }\n\
        macro_rules! m { (fn $t:ty { }) => { /// Doc.\n#[cfg(x)] fn a() -> $t { 1 } }; (x) => { vec![] } }\n";

    #[test]
    fn bodies_go_and_all_else_stays() {
        let expected = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 { loop {} }\n\
            const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { loop {} } fn g(&self); }\nimpl S { fn h() { loop {} } }\n\
            macro_rules! m { (fn $t:ty { }) => { \n#[cfg(x)] fn a() -> $t { loop {} } }; (x) => { vec![] } }\n";
        assert_eq!(without_bodies(SOURCE).unwrap(), expected);
    }

    #[test]
    fn a_gated_root_is_still_rust_and_keeps_its_inner_attributes_first() {
        let gated = gated_root(SOURCE, "pub use real::*;\n").unwrap();
        let start =
            "//! About é.\n#![deny(missing_docs)]\npub use real::*;\n#[cfg(rust_analyzer)]\n/// Adds.\n";
        assert!(gated.starts_with(start), "{gated}");
        assert_eq!(gated.matches("#[cfg(rust_analyzer)]").count(), 5);
        syn::parse_file(&gated).unwrap();
    }
}
