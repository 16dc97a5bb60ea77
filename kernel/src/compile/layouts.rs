//! Fingerprints of the definitions that a variable's type depends on.
//!
//! rustc gives a struct the same `TypeId` before and after the type of a field changes. A variable of the earlier
//! definition would then be read as one of the new definition. The prelude's variable store therefore also compares
//! these fingerprints.

use std::collections::{BTreeMap, BTreeSet};

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};
use sha2::{Digest, Sha256};
use syn::spanned::Spanned;
use syn::{Item, TraitItem, UseTree};

use crate::compile::evcxr_text::source::{checked_variables, put_variables};
use crate::prelude::tokens::identifiers;

/// Names and fingerprints of variables.
pub type Layouts<'a> = Vec<(&'a str, u64)>;

/// Fingerprints for a cell: of the variables that it takes, and of those that it stores. Variables whose types depend
/// on no definition in `items` are left out, and so are all variables if `items` cannot be parsed.
pub fn layouts<'a>(items: &str, body: &'a str) -> [Layouts<'a>; 2] {
    let uses = [checked_variables(body), put_variables(body)];
    let words: BTreeSet<&str> = identifiers(items).collect();
    let may_depend = |type_: &str| identifiers(type_).any(|word| words.contains(word));
    if !uses.iter().flatten().any(|(_, type_)| may_depend(type_)) {
        return Default::default();
    }
    let Ok(file) = syn::parse_file(items) else { return Default::default() };
    let mut definitions = Definitions { text: items, found: BTreeMap::new(), calls: Vec::new() };
    file.items.iter().for_each(|item| definitions.add(item));
    definitions.add_calls();
    uses.map(|variables| {
        variables
            .into_iter()
            .filter_map(|(name, type_)| {
                Some((name.trim_start_matches("r#"), definitions.fingerprint(type_)?))
            })
            .collect()
    })
}

struct Definitions<'a> {
    text: &'a str,
    /// For each name, the tokens of its definitions that a type's layout can depend on.
    found: BTreeMap<String, String>,
    /// Calls of macros, which may expand to definitions.
    calls: Vec<String>,
}

impl Definitions<'_> {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Struct(item) => self.define(&item.ident, item),
            Item::Enum(item) => self.define(&item.ident, item),
            Item::Union(item) => self.define(&item.ident, item),
            Item::Type(item) => self.define(&item.ident, item),
            Item::Const(item) => self.define(&item.ident, item),
            Item::Trait(item) => {
                self.define(&item.ident, &item.supertraits);
                for part in &item.items {
                    match part {
                        // A changed body changes no layout.
                        TraitItem::Fn(function) => self.define(&item.ident, &function.sig),
                        other => self.define(&item.ident, other),
                    }
                }
            }
            Item::Mod(item) => {
                item.content.iter().flat_map(|(_, items)| items).for_each(|item| self.add(item))
            }
            Item::Use(item) => self.add_renames(&item.tree, ""),
            Item::Macro(item) => match &item.ident {
                Some(name) => self.define(name, item),
                None => self.calls.push(self.tokens(item)),
            },
            _ => {}
        }
    }

    fn define(&mut self, name: &syn::Ident, part: &impl Spanned) {
        let tokens = self.tokens(part);
        *self.found.entry(name.to_string()).or_default() += &tokens;
    }

    fn tokens(&self, part: &impl Spanned) -> String {
        self.text.get(part.span().byte_range()).map(layout_tokens).unwrap_or_default()
    }

    fn add_renames(&mut self, tree: &UseTree, path: &str) {
        match tree {
            UseTree::Path(inner) => self.add_renames(&inner.tree, &format!("{path} {}", inner.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_renames(tree, path)),
            UseTree::Rename(name) => {
                let known = format!("{path} {}", name.ident);
                *self.found.entry(name.rename.to_string()).or_default() += &known;
            }
            UseTree::Name(_) | UseTree::Glob(_) => {}
        }
    }

    /// A name without a definition may be defined by a macro call: by its tokens or by those of the macro.
    fn add_calls(&mut self) {
        let defined = self.found.clone();
        for call in &self.calls {
            let mut text = call.clone();
            let name = identifiers(call).next();
            text.extend(name.and_then(|name| defined.get(name)).map(String::as_str));
            for name in identifiers(&text).filter(|name| !defined.contains_key(*name)) {
                *self.found.entry(name.to_owned()).or_default() += &text;
            }
        }
    }

    /// Fingerprint of all definitions that a type depends on, if there are any.
    fn fingerprint(&self, type_: &str) -> Option<u64> {
        let mut reached = BTreeMap::new();
        let mut open: Vec<&str> = identifiers(type_).collect();
        while let Some(name) = open.pop() {
            if let Some((name, tokens)) = self.found.get_key_value(name)
                && reached.insert(name, tokens).is_none()
            {
                open.extend(identifiers(tokens));
            }
        }
        if reached.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        for (name, tokens) in reached {
            hash.update(format!("{name}\0{tokens}\0"));
        }
        let [a, b, c, d, e, f, g, h, ..] = hash.finalize()[..] else { unreachable!("SHA-256 has 32 bytes") };
        Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// The tokens of a definition without comments, visibility and attributes other than `#[repr]`.
fn layout_tokens(text: &str) -> String {
    let mut position = 0;
    let tokens = tokenize(text, FrontmatterAllowed::No).filter_map(|token| {
        let range = position..position + token.len as usize;
        position = range.end;
        let is_blank = matches!(
            token.kind,
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
        );
        (!is_blank).then(|| &text[range])
    });
    let tokens: Vec<&str> = tokens.collect();
    let mut kept = String::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_attribute =
            tokens[at] == "#" && tokens.get(at + 1) == Some(&"[") && tokens.get(at + 2) != Some(&"repr");
        let is_restricted = tokens[at] == "pub" && tokens.get(at + 1) == Some(&"(") && {
            let word = tokens.get(at + 2).copied().unwrap_or_default();
            ["crate", "super", "self", "in"].contains(&word)
        };
        at = match tokens[at] {
            "#" if is_attribute => closing(&tokens, at + 1) + 1,
            "pub" if is_restricted => closing(&tokens, at + 1) + 1,
            "pub" => at + 1,
            token => {
                kept += token;
                kept.push(' ');
                at + 1
            }
        };
    }
    kept
}

/// Index of the bracket that closes the one at `open`.
fn closing(tokens: &[&str], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{check_line, put_line};

    /// Fingerprint of a variable of a type.
    fn of(type_: &str, items: &str) -> Option<u64> {
        let body = check_line("v", type_) + &put_line("v", type_);
        let [checked, stored] = layouts(items, &body);
        assert_eq!(checked, stored);
        checked.first().map(|(name, layout)| {
            assert_eq!(*name, "v");
            *layout
        })
    }

    #[test]
    fn a_changed_definition_changes_the_fingerprint() {
        for (type_, one, other) in [
            ("P", "struct P { x: f32 }", "struct P { x: f64 }"),
            ("Vec<Option<P>>", "struct P(i32);", "struct P(String);"),
            (
                "Outer",
                "struct Inner { a: u8 } struct Outer { i: Inner }",
                "struct Inner { a: u16 } struct Outer { i: Inner }",
            ),
            ("P", "type Id = u32; struct P(Id);", "type Id = u64; struct P(Id);"),
            ("M", "const N: usize = 3; struct M([f64; N]);", "const N: usize = 4; struct M([f64; N]);"),
            ("E", "enum E { A(u8) }", "enum E { A(u16) }"),
            ("Box<dyn T>", "trait T { fn f(&self); }", "trait T { fn g(&self); fn f(&self); }"),
            ("m::P", "mod m { pub struct P(u8); }", "mod m { pub struct P(i8); }"),
            (
                "S",
                "use m::A as B; mod m { pub struct A(u8); pub struct C(u16); } struct S(B);",
                "use m::C as B; mod m { pub struct A(u8); pub struct C(u16); } struct S(B);",
            ),
            (
                "P",
                "macro_rules! d { ($t:ty) => { struct P($t); } } d!(u8);",
                "macro_rules! d { ($t:ty) => { struct P($t); } } d!(u16);",
            ),
            ("P", "#[repr(C)] struct P(u8);", "struct P(u8);"),
        ] {
            assert!(of(type_, one).is_some() && of(type_, one) != of(type_, other), "{one} {other}");
        }
    }

    #[test]
    fn what_changes_no_layout_changes_no_fingerprint() {
        for (type_, one, other) in [
            (
                "P",
                "struct P { x: f32 }",
                "#[derive(Clone)]\n/// A point.\npub struct P {\n    pub(crate) x: f32 // its x\n}",
            ),
            ("P", "struct P(u8);", "struct P(u8); impl P { fn f(&self) {} } struct Q(u8); fn f(p: P) {}"),
            ("Box<dyn T>", "trait T { fn f(&self) -> u8 { 1 } }", "trait T { fn f(&self) -> u8 { 2 } }"),
            ("m::P", "mod m { pub struct P(u8); }", "mod m { pub struct P(u8); pub fn f() {} }"),
        ] {
            assert!(of(type_, one).is_some());
            assert_eq!(of(type_, one), of(type_, other), "{other}");
        }
        for (type_, items) in [("Vec<u8>", "struct P(Vec<u8>);"), ("u8", ""), ("P", "struct P(")] {
            assert_eq!(of(type_, items), None);
        }
    }
}
