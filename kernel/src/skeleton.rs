//! What rust-analyzer sees of the prelude and of the standard library: their sources with empty
//! bodies.
//!
//! Types of variables, completion and documentation need signatures alone. Without the bodies, and
//! without the crates that only bodies use, rust-analyzer has a small tree to read where candle's
//! is a large one, and every cell is quicker for it. The first waits until the standard library is
//! read, so that loses what no notebook can name, too.

use std::ops::Range;
use std::path::Path;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use ra_ap_rustc_lexer::{DocStyle, FrontmatterAllowed, TokenKind, tokenize};
use syn::spanned::Spanned;
use syn::visit::Visit;

use crate::operators::at_once;

/// Folders and files of which no type of a notebook's comes: tests, what compilers need, types
/// that are not stable, and those parts of the standard library that are large and hold
/// intrinsics, or what only its own bodies use.
const UNSEEN: [&str; 24] = [
    "alloctests",
    "backtrace",
    "benches",
    "compiler-builtins",
    "coretests",
    "dec2flt",
    "f128.rs",
    "f16.rs",
    "flt2dec",
    "intrinsics",
    "os",
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
        if UNSEEN.contains(&name.as_str()) {
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
            // What is new in Rust may be unknown here; rust-analyzer then reads it whole.
            _ => without_bodies(&text).unwrap_or(text),
        };
        std::fs::write(&target, with_fewer_comments(&text)).map_err(|error| complain(&target, error))?;
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

/// The source with blanks for what says that a trait can be used in constants: `const trait`, `const impl`,
/// `impl const`, `[const] Bound`, which are not Rust outside the standard library, nor known to syn.
fn without_const_traits(source: &str) -> String {
    let mut position = 0;
    let tokens: Vec<(&str, Range<usize>)> = tokenize(source, FrontmatterAllowed::No)
        .filter_map(|token| {
            let range = position..position + token.len as usize;
            position = range.end;
            let is_code = !matches!(
                token.kind,
                TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
            );
            is_code.then(|| (&source[range.clone()], range))
        })
        .collect();
    let at = |at: usize| tokens.get(at).map_or("", |(text, _)| text);
    let mut result = source.as_bytes().to_owned();
    let mut blank = |at: usize| result[tokens[at].1.clone()].fill(b' ');
    for here in (0..tokens.len()).filter(|here| at(*here) == "const") {
        let (before, after) = (at(here.wrapping_sub(1)), at(here + 1));
        if (before, after) == ("[", "]") {
            (here - 1..here + 2).for_each(&mut blank);
        } else if before != "*" && ["trait", "auto", "impl"].contains(&after)
            || (after, at(here + 2)) == ("unsafe", "trait")
            || before == "impl"
            || before == ">" && follows_impl(&tokens[..here])
            || [":", "+"].contains(&before) && after.starts_with(|c: char| c.is_ascii_uppercase())
        {
            blank(here);
        }
    }
    String::from_utf8(result).unwrap_or_else(|_| source.to_owned())
}

/// Whether the tokens end with `impl` and its parameters.
fn follows_impl(tokens: &[(&str, Range<usize>)]) -> bool {
    let mut open = 0;
    for (at, (text, _)) in tokens.iter().enumerate().rev() {
        match *text {
            // Of `Fn() -> T`, not a bracket.
            ">" if at > 0 && tokens[at - 1].0 == "-" => {}
            ">" => open += 1,
            "<" => open -= 1,
            "{" | "}" | ";" => return false,
            _ => {}
        }
        if open == 0 {
            return at > 0 && tokens[at - 1].0 == "impl";
        }
    }
    false
}

/// The source without the comments that are not documentation, and with each run of lines of
/// documentation as one comment: rust-analyzer keeps every token that it reads.
fn with_fewer_comments(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut lines = Vec::new();
    let mut style = DocStyle::Outer;
    let mut position = 0;
    for token in tokenize(source, FrontmatterAllowed::No) {
        let text = &source[position..position + token.len as usize];
        position += text.len();
        match token.kind {
            TokenKind::LineComment { doc_style: Some(doc_style) } => {
                if doc_style != style {
                    write_documentation(&mut result, style, &mut lines);
                    style = doc_style;
                }
                lines.push(text);
            }
            TokenKind::LineComment { doc_style: None } | TokenKind::BlockComment { doc_style: None, .. } => {}
            TokenKind::Whitespace if !lines.is_empty() => {}
            TokenKind::Whitespace => result.push(if text.contains('\n') { '\n' } else { ' ' }),
            _ => {
                write_documentation(&mut result, style, &mut lines);
                result.push_str(text);
            }
        }
    }
    write_documentation(&mut result, style, &mut lines);
    result
}

/// Empties `lines`, which begin with `///` or `//!`.
fn write_documentation(result: &mut String, style: DocStyle, lines: &mut Vec<&str>) {
    let ends_one = |line: &&str| line[3..].contains("*/") || line[3..].contains("/*");
    if lines.len() > 1 && !lines.iter().any(ends_one) {
        result.push_str(match style {
            DocStyle::Outer => "/**",
            DocStyle::Inner => "/*!",
        });
        // More than two asterisks begin no documentation.
        if lines[0][3..].starts_with(['*', '/']) {
            result.push('\n');
        }
        for line in lines.iter() {
            result.push_str(&line[3..]);
            result.push('\n');
        }
        result.push_str("*/\n");
    } else {
        for line in lines.iter() {
            result.push_str(line);
            result.push('\n');
        }
    }
    lines.clear();
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
    /// A method goes with its body where the compiler would not let a notebook name it.
    fn add_method(&mut self, attributes: &[syn::Attribute], method: Span, body: &syn::Block) {
        let has = |name| attributes.iter().any(|attribute| attribute.path().is_ident(name));
        if has("unstable") && !has("lang") {
            self.0.push((method.byte_range(), String::new()));
        } else {
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
        // Where what the compiler would not let a notebook name begins.
        let mut unstable = None;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match (token, tokens.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(attribute)))
                    if hash.as_char() == '#' && is_for_readers(attribute) =>
                {
                    let start = hash.span().byte_range().start;
                    if first_word(attribute).as_deref() == Some("unstable") {
                        unstable = Some((start, self.0.len()));
                    }
                    self.0.push((start..attribute.span().byte_range().end, String::new()));
                    tokens.next();
                }
                (TokenTree::Ident(word), _) if word == "fn" => in_signature = true,
                (TokenTree::Punct(end), _) if end.as_char() == ';' => {
                    in_signature = false;
                    unstable = None;
                }
                (TokenTree::Group(body), _) if in_signature && body.delimiter() == Delimiter::Brace => {
                    if let Some((start, cuts)) = unstable.take() {
                        self.0.truncate(cuts);
                        self.0.push((start..body.span().byte_range().end, String::new()));
                    } else {
                        self.empty(body.span());
                    }
                    in_signature = false;
                }
                (TokenTree::Group(group), _) if !in_signature => {
                    if group.delimiter() == Delimiter::Brace {
                        unstable = None;
                    }
                    self.add_made(group.stream());
                }
                _ => {}
            }
        }
    }
}

/// Whether an attribute says nothing of types: documentation, stability, hints to the compiler.
fn is_for_readers(attribute: &Group) -> bool {
    let known = ["doc", "stable", "unstable", "inline", "must_use", "track_caller"];
    first_word(attribute).is_some_and(|word| {
        known.contains(&word.as_str()) || word.starts_with("rustc_const") || word.starts_with("rustc_allow")
    })
}

fn first_word(attribute: &Group) -> Option<String> {
    let first = attribute.stream().into_iter().next()?;
    (attribute.delimiter() == Delimiter::Bracket).then(|| first.to_string())
}

impl<'ast> Visit<'ast> for Cuts {
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let called = item.mac.path.get_ident().filter(|_| item.ident.is_none());
        let made = called.and_then(|name| at_once(&name.to_string(), item.mac.tokens.clone()));
        if let Some(made) = made {
            self.0.push((item.span().byte_range(), made));
            return;
        }
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
        // A constant's value may be part of a type: `size_of` is.
        if item.sig.constness.is_none() {
            self.empty(item.block.span());
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add_method(&item.attrs, item.span(), &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add_method(&item.attrs, item.span(), body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 {\n    a + { 1 }\n}\n\
        const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { 3 } fn g(&self); }\nimpl S { const fn h() {} }\n\
        macro_rules! m { (fn $t:ty { }) => { /// Doc.\n#[cfg(x)] fn a() -> $t { 1 } }; (x) => { vec![] } }\n";

    #[test]
    fn bodies_go_and_all_else_stays() {
        let expected = "//! About é.\n#![deny(missing_docs)]\n/// Adds.\npub fn add(a: i32) -> i32 { loop {} }\n\
            const fn two() -> usize { 2 }\npub trait T { fn f(&self) -> u8 { loop {} } fn g(&self); }\nimpl S { const fn h() { loop {} } }\n\
            macro_rules! m { (fn $t:ty { }) => { \n#[cfg(x)] fn a() -> $t { loop {} } }; (x) => { vec![] } }\n";
        assert_eq!(without_bodies(SOURCE).unwrap(), expected);
    }

    #[test]
    fn unstable_methods_go_but_not_what_the_language_knows() {
        let source = "trait T { #[unstable(x)] fn a() {} #[unstable(x)] fn b(); #[lang = \"c\"] #[unstable(x)] fn c() {} }\n\
            macro_rules! m { () => { /// A.\n#[unstable(x)]\n#[cfg(y)] pub fn a() { 1 } #[stable(x)] fn b() { 2 }\n\
            #[unstable(x)] const C: u8 = 1; fn d() { 3 } #[unstable(x)] impl E { fn e() { 4 } } } }";
        let expected = "trait T {  #[unstable(x)] fn b(); #[lang = \"c\"] #[unstable(x)] fn c() { loop {} } }\n\
            macro_rules! m { () => { \n  fn b() { loop {} }\n\
            \u{20}const C: u8 = 1; fn d() { loop {} }  impl E { fn e() { loop {} } } } }";
        assert_eq!(without_bodies(source).unwrap(), expected);
    }

    #[test]
    fn const_traits_are_traits() {
        let source = "pub const unsafe trait A: [const] B { const C: u8; }\n\
            impl<T: const B, F: Fn() -> u8> const A for T { const fn f() {} }\nimpl const A for [u8; const { 1 }] {}";
        let expected = "pub       unsafe trait A:         B { const C: u8; }\n\
            impl<T:       B, F: Fn() -> u8>       A for T { const fn f() {} }\nimpl       A for [u8; const { 1 }] {}";
        assert_eq!(without_const_traits(source), expected);
    }

    /// What is not understood is read whole by rust-analyzer, and a kernel starts later for it.
    #[test]
    fn the_standard_library_is_understood() {
        let library = crate::toolchain::library_sources().unwrap();
        let mut folders: Vec<_> = ["core", "alloc", "std"].map(|name| library.join(name).join("src")).into();
        let mut unknown = Vec::new();
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap().to_str().unwrap();
                if UNSEEN.contains(&name) {
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
    fn documentation_is_one_comment_and_other_comments_go() {
        let source = "//! A.\n//!\n//! B.\n\n/* gone */ use x; // gone\n/// One.\nfn a() {}\n\
            /// Two,\n    // gone\n    /// more.\nfn b() { \"// stays\" }\n/// `/*`\n/// stays.\nfn c() {}\n";
        let expected = "/*! A.\n\n B.\n*/\nuse x; \n/// One.\nfn a() {}\n\
            /** Two,\n more.\n*/\nfn b() { \"// stays\" }\n/// `/*`\n/// stays.\nfn c() {}\n";
        assert_eq!(with_fewer_comments(source), expected);
        assert_eq!(with_fewer_comments("///* a\n/// b\nfn c() {}"), "/**\n* a\n b\n*/\nfn c() {}");
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
