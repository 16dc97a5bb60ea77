//! Order of a session's macros. Rust accepts a macro only after its definition, and evcxr writes the items of a
//! session in random order.

use proc_macro2::{Group, Literal, TokenStream, TokenTree};
use syn::{Item, Lit};

/// If the source uses a macro before its definition, copies the macros to its first line, so that each line keeps its
/// number. Copies all of them, because macros can use each other.
pub fn with_macros_first(source: String) -> String {
    if !source.contains("macro_rules!") {
        return source;
    }
    let Ok(file) = syn::parse_file(&source) else { return source };
    let (is_used, copies): (Vec<bool>, Vec<String>) =
        file.items.iter().filter_map(|item| copy(item, &source)).unzip();
    if !is_used.contains(&true) {
        return source;
    }
    let copies = copies.concat();
    // Attributes of the crate must come first.
    let is_attribute = |line: &&str| line.starts_with("#![") && line.trim_end().ends_with(']');
    let attributes: usize = source.split_inclusive('\n').take_while(is_attribute).map(str::len).sum();
    let at = source[..attributes].trim_end_matches('\n').len();
    format!("{} {copies}{}", &source[..at], &source[at..])
}

/// A copy of a macro in one line, and whether the macro is used before it is defined.
fn copy(item: &Item, source: &str) -> Option<(bool, String)> {
    let Item::Macro(item) = item else { return None };
    let name = item.ident.as_ref()?;
    let begin = item.mac.path.segments.first()?.ident.span().byte_range().start;
    let is_used = source.get(..begin)?.contains(&format!("{name}!"));
    // Without the attributes: a crate cannot export a macro twice.
    let tokens = in_one_line(item.mac.tokens.clone());
    let text = format!("#[allow(unused_macros)] macro_rules! {name} {{ {tokens} }} ");
    (!text.contains('\n')).then_some((is_used, text))
}

/// Writes the line feeds in string literals as escapes.
fn in_one_line(tokens: TokenStream) -> TokenStream {
    let token = |token| match token {
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), in_one_line(group.stream()));
            inner.set_span(group.span());
            TokenTree::Group(inner)
        }
        TokenTree::Literal(literal) if literal.to_string().contains('\n') => {
            match Lit::new(literal.clone()) {
                Lit::Str(text) => Literal::string(&text.value()).into(),
                Lit::ByteStr(text) => Literal::byte_string(&text.value()).into(),
                _ => TokenTree::Literal(literal),
            }
        }
        token => token,
    };
    tokens.into_iter().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macro_that_is_used_before_its_definition_is_copied() {
        let macro_ = "macro_rules! square {\n    // A comment.\n    ($x:expr) => { $x * $x };\n}\n";
        let source = format!(
            "#![allow(dead_code)]\n#![allow(unused)]\nfn area(x: i32) -> i32 {{ square!(x) }}\n{macro_}fn f() {{}}\n"
        );
        let changed = with_macros_first(source.clone());
        assert_eq!(changed.lines().count(), source.lines().count());
        let second = changed.lines().nth(1).unwrap();
        assert!(
            second.starts_with("#![allow(unused)] #[allow(unused_macros)] macro_rules! square {"),
            "{second}"
        );
        assert!(
            !second.contains("comment") && changed.ends_with(&source[source.find("\nfn area").unwrap()..])
        );
        assert!(syn::parse_file(&changed).is_ok());
    }

    #[test]
    fn a_macro_that_a_copied_macro_uses_is_copied() {
        let source =
            "fn f() -> i32 { a!() }\nmacro_rules! b { () => { 1 } }\nmacro_rules! a { () => { b!() } }\n";
        let changed = with_macros_first(source.to_owned());
        let first = changed.lines().next().unwrap();
        assert!(first.contains("macro_rules! a {") && first.contains("macro_rules! b {"), "{first}");
    }

    #[test]
    fn exported_macros_and_texts_in_several_lines_are_copied() {
        for macro_ in [
            "#[macro_export]\nmacro_rules! a { () => { 1 } }\n",
            "macro_rules! a { () => { \"two\n  \\\n lines\" } }\n",
            "macro_rules! a { () => { r#\"two\nlines\"#; b\"two\nlines\" } }\n",
            "macro_rules! a { (/** two\nlines */ $n:ident) => { $n } }\n",
        ] {
            let source = format!("fn f() {{ a!() }}\n{macro_}");
            let changed = with_macros_first(source.clone());
            assert!(changed.lines().next().unwrap().contains("macro_rules! a {"), "{changed}");
            assert_eq!(changed.lines().count(), source.lines().count());
            assert!(syn::parse_file(&changed).is_ok(), "{changed}");
        }
    }

    #[test]
    fn other_sources_are_unchanged() {
        for source in [
            "fn f() {}\n",
            "macro_rules! a { () => { 1 } }\nfn f() -> i32 { a!() }\n",
            "fn f() { a!( }\nmacro_rules! a { () => { 1 } }\n",
        ] {
            assert_eq!(with_macros_first(source.to_owned()), source);
        }
    }
}
