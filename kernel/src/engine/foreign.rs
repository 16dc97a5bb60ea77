//! Blocks of foreign functions, `extern "C" { … }`. They have no name, so evcxr would keep the block of each run of a
//! cell, and the second run would not compile. The kernel puts a block into a module, which a later one replaces.

use std::ops::Range;

use proc_macro2::{Ident, Span, TokenTree};
use syn::spanned::Spanned;
use syn::{Block, ForeignItem, Item, Stmt, Visibility};

use crate::engine::patterns::in_cell;

/// Edits that put the foreign blocks of a cell into modules.
pub fn modules(block: &Block) -> impl Iterator<Item = (Range<usize>, String)> {
    block.stmts.iter().filter_map(module).flatten()
}

fn module(statement: &Stmt) -> Option<Vec<(Range<usize>, String)>> {
    let Stmt::Item(Item::ForeignMod(foreign)) = statement else { return None };
    let parts: Vec<(Ident, Option<Span>)> = foreign.items.iter().map(part).collect::<Option<_>>()?;
    let names: Vec<String> = parts.iter().map(|(name, _)| name.to_string()).collect();
    let name = format!("headstart_foreign_{}", names.join("_").replace("r#", ""));
    let range = in_cell(statement.span());
    let mut edits = vec![(range.start..range.start, format!("mod {name} {{ use super::*; "))];
    edits.extend(parts.iter().filter_map(|(_, private)| {
        let begin = in_cell((*private)?).start;
        Some((begin..begin, "pub ".to_owned()))
    }));
    edits.push((range.end..range.end, format!(" }} use {name}::{{{}}};", names.join(", "))));
    (!names.is_empty()).then_some(edits)
}

/// Name of a foreign item, and the place of its visibility if it has none. `None` for an unknown kind of item.
fn part(item: &ForeignItem) -> Option<(Ident, Option<Span>)> {
    let (name, visibility, begin) = match item {
        ForeignItem::Fn(item) => {
            let begin = item.sig.unsafety.map_or(item.sig.fn_token.span, |word| word.span);
            (&item.sig.ident, &item.vis, begin)
        }
        ForeignItem::Static(item) => (&item.ident, &item.vis, item.static_token.span),
        ForeignItem::Type(item) => (&item.ident, &item.vis, item.type_token.span),
        // syn does not parse `safe fn`.
        ForeignItem::Verbatim(tokens) => {
            let mut words = tokens.clone().into_iter().filter_map(|token| match token {
                TokenTree::Ident(word) => Some(word),
                _ => None,
            });
            let first = words.find(|word| word == "pub" || word == "safe")?;
            let name = words.skip_while(|word| word != "fn" && word != "static").nth(1)?;
            return Some((name, (first == "safe").then(|| first.span())));
        }
        _ => return None,
    };
    Some((name.clone(), matches!(visibility, Visibility::Inherited).then_some(begin)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::grammar::parse;
    use crate::engine::edits::Edited;

    #[test]
    fn a_foreign_block_is_put_into_a_module() {
        let edited = |cell: &str| Edited::new(cell, modules(&parse(cell).unwrap()).collect()).text;
        assert_eq!(
            edited("let é = 1;\nunsafe extern \"C\" {\n    fn abs(x: i32) -> i32;\n}\nunsafe { abs(-1) }"),
            "let é = 1;\nmod headstart_foreign_abs { use super::*; unsafe extern \"C\" {\n    pub fn abs(x: i32) -> i32;\n} \
             } use headstart_foreign_abs::{abs};\nunsafe { abs(-1) }"
        );
        assert_eq!(
            edited(
                "#[link(name = \"m\")] unsafe extern \"C\" { pub safe fn a(); #[link_name = \"c\"] safe fn b(); static N: i32; unsafe fn d(); }"
            ),
            "mod headstart_foreign_a_b_N_d { use super::*; #[link(name = \"m\")] unsafe extern \"C\" { pub safe fn a(); \
             #[link_name = \"c\"] pub safe fn b(); pub static N: i32; pub unsafe fn d(); } } use \
             headstart_foreign_a_b_N_d::{a, b, N, d};"
        );
        for cell in ["extern \"C\" fn f() {}", "unsafe extern \"C\" {}"] {
            assert_eq!(edited(cell), cell);
        }
    }
}
