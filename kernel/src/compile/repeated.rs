//! Items without a name that a session contains twice.
//!
//! evcxr replaces an item by a later one of the same name. An `impl` and an `extern` block have no name, so a cell that
//! runs again adds a second one, which rustc refuses.

use std::collections::HashSet;
use std::ops::Range;

use proc_macro2::TokenTree;
use syn::spanned::Spanned;
use syn::{ForeignItem, Item};

use crate::prelude::tokens::identifiers;

/// Replaces each `impl` that comes again later by blanks, and each declaration in an `extern` block whose name comes
/// again. Positions stay the same, and so does a text that cannot be parsed.
pub fn without_repeated(items: &str) -> String {
    if !identifiers(items).any(|word| word == "impl" || word == "extern") {
        return items.to_owned();
    }
    let Ok(file) = syn::parse_file(items) else { return items.to_owned() };
    let mut known = HashSet::new();
    let mut repeated = Vec::new();
    // The later one stays: it has the positions of the cell.
    for item in file.items.iter().rev() {
        match item {
            Item::Impl(item) if !known.insert(&items[item.span().byte_range()]) => {
                repeated.push(item.span().byte_range());
            }
            Item::ForeignMod(block) => {
                for part in block.items.iter().rev() {
                    if let Some(name) = name(part)
                        && !known.insert(&items[name])
                    {
                        repeated.push(part.span().byte_range());
                    }
                }
            }
            _ => {}
        }
    }
    let mut result = items.as_bytes().to_owned();
    for byte in repeated.into_iter().flat_map(|range: Range<usize>| range) {
        if result[byte] != b'\n' {
            result[byte] = b' ';
        }
    }
    String::from_utf8(result).unwrap_or_else(|_| items.to_owned())
}

/// Place of a declaration's name.
fn name(item: &ForeignItem) -> Option<Range<usize>> {
    let name = match item {
        ForeignItem::Fn(function) => &function.sig.ident,
        ForeignItem::Static(variable) => &variable.ident,
        ForeignItem::Type(type_) => &type_.ident,
        // syn does not parse `safe fn`.
        ForeignItem::Verbatim(tokens) => {
            let mut words = tokens.clone().into_iter().filter_map(|token| match token {
                TokenTree::Ident(word) => Some(word),
                _ => None,
            });
            words.find(|word| word == "fn" || word == "static")?;
            return words.find(|word| word != "mut").map(|name| name.span().byte_range());
        }
        _ => return None,
    };
    Some(name.span().byte_range())
}

#[cfg(test)]
mod tests {
    use super::without_repeated;

    #[test]
    fn the_later_of_two_items_stays() {
        let one = "impl fmt::Display for P { é }\n".replace('é', "fn f() { \"é\" }");
        let items = [&one, "fn f() {}\n", &one].concat();
        let found = without_repeated(&items);
        assert_eq!(found.trim_start(), ["fn f() {}\n", &one].concat());
        assert_eq!((found.len(), found.lines().count()), (items.len(), items.lines().count()));
        let items = "unsafe extern \"C\" { fn abs(x: i32) -> i32; fn labs(x: i64) -> i64; }\n\
                     unsafe extern \"C\" {\n    fn abs(x: i32) -> i32;\n}";
        let found = without_repeated(items);
        assert_eq!(found.matches("fn abs").count(), 1);
        assert!(
            found.contains("fn labs(x: i64) -> i64; }")
                && found.ends_with("{\n    fn abs(x: i32) -> i32;\n}")
        );
        let block = "unsafe extern \"C\" { safe fn abs(x: i32) -> i32; pub safe static N: i32; }\n";
        let found = without_repeated(&block.repeat(2));
        assert_eq!((found.matches("safe").count(), found.ends_with(block)), (4, true), "{found}");
    }

    #[test]
    fn other_items_stay() {
        for items in ["impl P { fn a() {} } impl P { fn b() {} }", "impl P {", "fn f() {} fn f() {}"] {
            assert_eq!(without_repeated(items), items);
        }
    }
}
