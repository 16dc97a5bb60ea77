//! Names for `impl`s.
//!
//! evcxr keeps an `impl` with the item before it, and removes both when a later cell defines that item again. So an `impl`
//! could vanish with an unrelated function. An empty module in front of the `impl` gives it a name of its own.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::ops::Range;

use syn::spanned::Spanned;
use syn::{Block, Item, ItemImpl, Stmt, Type};

use crate::compile::cell::item_name;
use crate::engine::patterns::in_cell;
use crate::platform::fingerprint::Fingerprint;

/// Prefix of the modules' names.
pub const PREFIX: &str = "headstart_impl_";

/// Edits that write such a module in front of each `impl` that follows neither its type nor its trait. If an `impl` that
/// does has a module in the session (`known`), an empty module replaces that one and its `impl`.
pub fn modules(block: &Block, text: &str, known: &BTreeSet<String>) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    // The item before the `impl`: its name and its place.
    let mut previous: Option<(String, usize)> = None;
    for statement in &block.stmts {
        let Stmt::Item(item) = statement else { continue };
        let start = in_cell(item.span()).start;
        if let Some(name) = name(item) {
            previous = Some((name, start));
        }
        let Item::Impl(item) = item else { continue };
        let own = own_names(item);
        let before = previous.as_ref().map(|(name, _)| name.as_str());
        if item.trait_.is_none() && before.is_none() {
            // evcxr adds it to the session's items.
            continue;
        }
        let module = module(item, text, before);
        let code = format!("mod {module} {{}} ");
        match &previous {
            Some((name, at)) if own.contains(name) => {
                if known.contains(&module) {
                    edits.push((*at..*at, code));
                }
            }
            _ => {
                edits.push((start..start, code));
                previous = Some((module, start));
            }
        }
    }
    edits
}

/// Name of an item under which evcxr keeps it.
pub fn name(item: &Item) -> Option<String> {
    item_name(item).map(ToString::to_string).filter(|name| name != "_")
}

/// Names of the type and the trait of an `impl`.
fn own_names(item: &ItemImpl) -> Vec<String> {
    let last = |path: &syn::Path| path.segments.last().map(|segment| segment.ident.to_string());
    let type_ = match &*item.self_ty {
        Type::Path(path) => last(&path.path),
        _ => None,
    };
    let trait_ = item.trait_.as_ref().and_then(|(_, trait_, _)| last(trait_));
    type_.into_iter().chain(trait_).collect()
}

/// Name of the module for an `impl`. It is the same for each `impl` of the same trait and type. A type has several
/// `impl`s without a trait: theirs is the same if they follow the same item, so it is that of a cell that runs again.
fn module(item: &ItemImpl, text: &str, before: Option<&str>) -> String {
    let start = in_cell(item.impl_token.span).start;
    let end = in_cell(item.brace_token.span.open()).start;
    let words: Vec<&str> = text[start..end].split_whitespace().collect();
    let mut hasher = Fingerprint::default();
    (words, before.filter(|_| item.trait_.is_none())).hash(&mut hasher);
    format!("{PREFIX}{}", hasher.digits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::prepare::Prepared;

    /// The sent text with `#` in place of the modules' digits.
    fn sent(prepared: &Prepared) -> String {
        let mut parts = prepared.sent().split(PREFIX);
        let first = parts.next().unwrap().to_owned();
        let rest = parts.map(|part| format!("#{}", part.trim_start_matches(|c: char| c.is_ascii_hexdigit())));
        first + &rest.collect::<String>()
    }

    #[test]
    fn an_impl_after_another_item_gets_a_name_of_its_own() {
        for (cell, expected) in [
            ("struct P;\nfn f() {}\nimpl Add for P {}", "struct P;\nfn f() {}\nmod # {} impl Add for P {}"),
            (
                "struct A;\nstruct B;\nimpl C for A {}\n/// é\nunsafe impl C for B {}",
                "struct A;\nstruct B;\nmod # {} impl C for A {}\nmod # {} /// é\nunsafe impl C for B {}",
            ),
            ("impl<T> C for Vec<T> {}", "mod # {} impl<T> C for Vec<T> {}"),
            ("fn f() {}\nimpl P {}", "fn f() {}\nmod # {} impl P {}"),
        ] {
            let prepared = Prepared::new(cell);
            assert_eq!(sent(&prepared), expected);
            let at = |text: &str| text.rfind("impl").unwrap();
            assert_eq!(prepared.original(at(prepared.sent())), at(cell));
        }
        for cell in ["struct P;\nimpl P {}\nimpl Add for P {}", "trait C {}\nimpl C for u8 {}", "impl P {}"] {
            assert_eq!(Prepared::new(cell).sent(), cell);
        }
    }

    #[test]
    fn impls_without_a_trait_replace_each_other_if_they_follow_the_same_item() {
        let module = |cell: &str| Prepared::new(cell).sent().split(PREFIX).nth(1).unwrap()[..16].to_owned();
        let first = module("fn f() {}\nimpl P { fn a() {} }");
        assert_eq!(first, module("fn f() { g() }\nimpl P { fn b() {} }"));
        assert_ne!(first, module("fn g() {}\nimpl P { fn a() {} }"));
    }

    #[test]
    fn an_impl_beside_its_type_replaces_one_with_a_module() {
        let alone = Prepared::new("impl C  for P {}");
        let module = alone.sent().split(' ').nth(1).unwrap().to_owned();
        let mut prepared = Prepared::new("fn f() {}\nstruct P;\nimpl C for\nP { }");
        prepared.know_items(["other", module.as_str()].into_iter());
        assert_eq!(sent(&prepared), "fn f() {}\nmod # {} struct P;\nimpl C for\nP { }");
    }
}
