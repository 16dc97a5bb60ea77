//! Order of a session's macros. Rust accepts a macro only after its definition, and evcxr writes the items of a
//! session in random order.

use syn::Item;

/// Copies the macros that the source uses before their definitions to its first line, so that each line keeps its
/// number.
pub fn with_macros_first(source: String) -> String {
    if !source.contains("macro_rules!") {
        return source;
    }
    let Ok(file) = syn::parse_file(&source) else { return source };
    let copies: String = file.items.iter().filter_map(|item| copy(item, &source)).collect();
    if copies.is_empty() {
        return source;
    }
    // Attributes of the crate must come first.
    let is_attribute = |line: &&str| line.starts_with("#![") && line.trim_end().ends_with(']');
    let attributes: usize = source.split_inclusive('\n').take_while(is_attribute).map(str::len).sum();
    let at = source[..attributes].trim_end_matches('\n').len();
    format!("{} {copies}{}", &source[..at], &source[at..])
}

/// A copy in one line of a macro that is used before it is defined.
fn copy(item: &Item, source: &str) -> Option<String> {
    let Item::Macro(item) = item else { return None };
    let name = item.ident.as_ref()?;
    let begin = item.mac.path.segments.first()?.ident.span().byte_range().start;
    let is_used = source.get(..begin)?.contains(&format!("{name}!"));
    // A crate cannot export a macro twice.
    let is_exported = item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
    let text = format!("#[allow(unused_macros)] macro_rules! {name} {{ {} }} ", item.mac.tokens);
    (is_used && !is_exported && !text.contains('\n')).then_some(text)
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
    fn other_sources_are_unchanged() {
        for source in [
            "fn f() {}\n",
            "macro_rules! a { () => { 1 } }\nfn f() -> i32 { a!() }\n",
            "fn f() -> i32 { a!() }\n#[macro_export]\nmacro_rules! a { () => { 1 } }\n",
            "fn f() { a!( }\nmacro_rules! a { () => { 1 } }\n",
        ] {
            assert_eq!(with_macros_first(source.to_owned()), source);
        }
    }
}
