//! Definitions of the cells' own types, and fingerprints of them.
//!
//! A variable's type is compiled again with each cell. If a cell changes the type, or a type inside it, the variable
//! has another layout than the cells after it expect. Rust's `TypeId` does not tell: it depends on the names of a
//! type and its fields, and not on the types of the fields.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use proc_macro2::Span;
use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};
use syn::spanned::Spanned;
use syn::{ImplItem, Item, Type, UseTree};

use crate::compile::evcxr_text::source::{Use, typed_uses};
use crate::platform::fingerprint::Fingerprint;
use crate::prelude::tokens::identifiers;

/// Attributes that change the layout of a type.
const LAYOUT_ATTRIBUTES: [&str; 3] = ["repr", "cfg", "cfg_attr"];

/// The items on which the layout of types may depend: texts by name.
#[derive(Default)]
pub struct Definitions(BTreeMap<String, BTreeSet<String>>);

impl Definitions {
    /// The definitions in a session's items; none if they are not valid Rust.
    pub fn of(items: &str) -> Definitions {
        let mut definitions = Definitions::default();
        for item in syn::parse_file(items).into_iter().flat_map(|file| file.items) {
            definitions.add(&item, items);
        }
        definitions
    }

    fn add(&mut self, item: &Item, source: &str) {
        let text = |span: Span| source.get(span.byte_range()).unwrap_or_default();
        let name = match item {
            Item::Struct(found) => &found.ident,
            Item::Enum(found) => &found.ident,
            Item::Union(found) => &found.ident,
            Item::Type(found) => &found.ident,
            Item::Const(found) => &found.ident,
            Item::Mod(found) => &found.ident,
            Item::Trait(found) => &found.ident,
            Item::Fn(found) if found.sig.constness.is_some() => &found.sig.ident,
            Item::Macro(found) => match &found.ident {
                Some(name) => name,
                None => return,
            },
            Item::Use(found) => return self.add_imports(&found.tree, String::new()),
            Item::Impl(found) => {
                let Type::Path(type_) = &*found.self_ty else { return };
                let Some(name) = type_.path.segments.last() else { return };
                for part in &found.items {
                    if matches!(part, ImplItem::Type(_) | ImplItem::Const(_)) {
                        self.insert(&name.ident.to_string(), tokens(text(part.span()), usize::MAX));
                    }
                }
                return;
            }
            _ => return,
        };
        // Bodies of methods do not change the layout of a vtable.
        let max_depth = if matches!(item, Item::Trait(_)) { 1 } else { usize::MAX };
        self.insert(&name.to_string(), tokens(text(item.span()), max_depth));
    }

    fn add_imports(&mut self, tree: &UseTree, path: String) {
        match tree {
            UseTree::Path(part) => self.add_imports(&part.tree, format!("{path}{}::", part.ident)),
            UseTree::Name(part) => self.insert(&part.ident.to_string(), format!("{path}{}", part.ident)),
            UseTree::Rename(part) => self.insert(&part.rename.to_string(), format!("{path}{}", part.ident)),
            UseTree::Group(group) => {
                group.items.iter().for_each(|part| self.add_imports(part, path.clone()));
            }
            UseTree::Glob(_) => {}
        }
    }

    fn insert(&mut self, name: &str, text: String) {
        self.0.entry(name.to_owned()).or_default().insert(text);
    }

    /// Fingerprint of all definitions that a type names, directly or by other definitions; `None` if there is none.
    pub fn fingerprint(&self, type_: &str) -> Option<u64> {
        let mut reached: BTreeMap<&str, &BTreeSet<String>> = BTreeMap::new();
        let mut names: Vec<&str> = identifiers(type_).collect();
        while let Some(name) = names.pop() {
            let Some((name, texts)) = self.0.get_key_value(name) else { continue };
            if reached.insert(name, texts).is_none() {
                names.extend(texts.iter().flat_map(|text| identifiers(text)));
            }
        }
        let mut fingerprint = Fingerprint::default();
        for text in reached
            .iter()
            .flat_map(|(name, texts)| std::iter::once(*name).chain(texts.iter().map(String::as_str)))
        {
            fingerprint.write(text.as_bytes());
            fingerprint.write(&[0]);
        }
        (!reached.is_empty()).then(|| fingerprint.finish())
    }
}

/// The tokens of an item, without comments and attributes that do not change a layout, up to a depth of braces.
fn tokens(item: &str, max_depth: usize) -> String {
    let mut position = 0;
    let mut found: Vec<&str> = Vec::new();
    let mut depth = 0;
    for token in tokenize(item, FrontmatterAllowed::No) {
        let text = &item[position..position + token.len as usize];
        position += text.len();
        let is_blank = matches!(
            token.kind,
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
        );
        depth -= usize::from(token.kind == TokenKind::CloseBrace && depth > 0);
        if !is_blank && depth <= max_depth {
            // A comma at the end of a list has no meaning.
            found.pop_if(|last| *last == "," && matches!(text, "}" | ")" | ">" | "]"));
            found.push(text);
        }
        depth += usize::from(token.kind == TokenKind::OpenBrace);
    }
    without_attributes(&found).join(" ")
}

fn without_attributes<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut rest = tokens;
    let mut found = Vec::new();
    while let Some((first, others)) = rest.split_first() {
        let is_attribute = *first == "#" && others.first() == Some(&"[");
        if is_attribute && others.get(1).is_some_and(|name| !LAYOUT_ATTRIBUTES.contains(name)) {
            let mut open = 0;
            let end = others.iter().position(|token| {
                open += i32::from(*token == "[") - i32::from(*token == "]");
                open == 0
            });
            rest = &others[end.map_or(others.len(), |end| end + 1)..];
        } else {
            found.push(*first);
            rest = others;
        }
    }
    found
}

/// The name of [`table`] in a cell's source.
pub const TABLE: &str = "HEADSTART_DEFINITIONS";

/// Item with the fingerprints of the variables that a cell checks, and of those that it stores. Empty if no type of
/// them is defined in a cell.
pub fn table(items: &str, body: &str) -> String {
    let uses = typed_uses(body);
    let words: BTreeSet<&str> = identifiers(items).collect();
    if !uses.iter().any(|(.., type_)| identifiers(type_).any(|word| words.contains(word))) {
        return String::new();
    }
    let definitions = Definitions::of(items);
    let of = |asked: Use| {
        let found = uses.iter().filter(|(use_, ..)| *use_ == asked).filter_map(|(_, name, type_)| {
            Some(format!("(stringify!({name}), {}),", definitions.fingerprint(type_)?))
        });
        // A variable may be put into the store at several places.
        found.collect::<BTreeSet<_>>().into_iter().collect::<String>()
    };
    let [checked, stored] = [of(Use::Check), of(Use::Put)];
    if checked.is_empty() && stored.is_empty() {
        return String::new();
    }
    format!("static {TABLE}: [&[(&str, u64)]; 2] = [&[{checked}], &[{stored}]];\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{check_line, put_line};

    const ITEMS: &str = "use std::collections::{HashMap as Map, BTreeMap};\ntype Id = u32;\nconst N: usize = 3;\n\
        #[derive(Debug)] struct Inner { a: i32 }\nstruct Outer { inner: Vec<Inner> }\nenum E { A(Id), B }\n\
        struct Array([f64; N]);\ntrait Show { fn show(&self) -> i32 { 1 } }\nmod m { pub struct P(pub i32); }\n\
        macro_rules! made { () => { i32 } }\nstruct ByMacro(made!());\nimpl Iterator for Inner { type Item = u8; }\n\
        const fn size() -> usize { 2 }\nstruct Sized(([u8; size()]));\nfn other() {}\n";

    #[test]
    fn a_type_depends_on_all_definitions_that_it_reaches() {
        let before = Definitions::of(ITEMS);
        for (old, new, types) in [
            ("a: i32", "a: String", &["Inner", "Outer", "Box<Outer>"][..]),
            ("type Id = u32", "type Id = u64", &["E", "Id"]),
            ("usize = 3", "usize = 4", &["Array", "[Array; 2]"]),
            ("-> i32 {", "-> u8 {", &["Box<dyn Show>"]),
            ("pub i32", "pub i64", &["m::P"]),
            ("=> { i32 }", "=> { i64 }", &["ByMacro"]),
            ("Item = u8", "Item = u16", &["Inner", "Outer"]),
            ("{ 2 }", "{ 4 }", &["Sized"]),
            ("HashMap as", "BTreeMap as", &["Map<u8, u8>"]),
            ("struct Inner", "#[repr(C)] struct Inner", &["Inner"]),
        ] {
            let after = Definitions::of(&ITEMS.replace(old, new));
            for type_ in [
                "Inner",
                "Outer",
                "Box<Outer>",
                "E",
                "Id",
                "Array",
                "[Array; 2]",
                "Box<dyn Show>",
                "m::P",
                "ByMacro",
                "Sized",
                "Map<u8, u8>",
            ] {
                let is_same = before.fingerprint(type_) == after.fingerprint(type_);
                let has_outer = types.contains(&"Inner") && type_.contains("Outer");
                let is_expected = !(types.contains(&type_) || has_outer);
                assert_eq!(is_same, is_expected, "{type_}: {old} -> {new}");
            }
        }
        assert_eq!(before.fingerprint("Vec<String>"), None);
    }

    #[test]
    fn changes_without_effect_on_a_layout_are_ignored() {
        let before = Definitions::of(ITEMS);
        for (old, new) in [
            ("#[derive(Debug)]", "/// An inner type.\n#[derive(Debug, Clone)] #[allow(unused)]"),
            ("{ a: i32 }", "{\n    a: i32, // a number\n}"),
            ("{ 1 }", "{ 2 }"),
            ("fn other() {}", "fn other() { f() }"),
            ("BTreeMap};", "BTreeMap, BTreeSet};"),
        ] {
            let after = Definitions::of(&ITEMS.replace(old, new));
            for type_ in ["Inner", "Outer", "Box<dyn Show>", "Map<u8, u8>"] {
                assert_eq!(before.fingerprint(type_), after.fingerprint(type_), "{type_}: {old} -> {new}");
            }
        }
        assert!(Definitions::of("struct {").0.is_empty());
    }

    #[test]
    fn a_cell_has_the_fingerprints_of_its_own_types() {
        let body = check_line("a", "Inner") + &check_line("b", "u8") + &put_line("r#c", "E");
        let table = table(ITEMS, &body);
        assert!(
            table.starts_with("static HEADSTART_DEFINITIONS: [&[(&str, u64)]; 2] = [&[(stringify!(a), "),
            "{table}"
        );
        assert!(table.contains("&[(stringify!(r#c), ") && !table.contains("(b)"), "{table}");
        assert_eq!(super::table(ITEMS, &check_line("b", "Vec<u8>")), "");
    }
}
