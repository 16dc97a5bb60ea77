//! Imports whose new name evcxr loses: it takes `use std::fmt::{self as f};` for `use std::fmt;`.

use std::ops::Range;

use syn::spanned::Spanned;
use syn::{Block, Item, Stmt, UseTree};

use crate::engine::patterns::in_cell;

/// Edits that import such modules once more, without braces, behind the statement.
pub fn renamed(block: &Block) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    for statement in &block.stmts {
        let Stmt::Item(Item::Use(item)) = statement else { continue };
        let mut found = Vec::new();
        let root = if item.leading_colon.is_some() { "::" } else { "" };
        find(&item.tree, root, &mut found);
        let end = in_cell(item.span()).end;
        edits.extend(found.into_iter().map(|import| (end..end, import)));
    }
    edits
}

/// Adds the imports of the `self as …` in a tree below a path.
fn find(tree: &UseTree, path: &str, found: &mut Vec<String>) {
    match tree {
        UseTree::Path(inner) => find(&inner.tree, &format!("{path}{}::", inner.ident), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| find(tree, path, found)),
        UseTree::Rename(renamed) if renamed.ident == "self" => {
            found.push(format!(" use {} as {};", path.trim_end_matches("::"), renamed.rename));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::prepare::Prepared;

    #[test]
    fn a_module_gets_its_new_name() {
        for (cell, more) in [
            ("use std::fmt::{self as f};", " use std::fmt as f;"),
            (
                "use ::std::{fmt::{self as f, Debug}, io::{self as _}};",
                " use ::std::fmt as f; use ::std::io as _;",
            ),
            ("use std::{fmt::{self, Debug as D}, io as i};", ""),
        ] {
            let sent = Prepared::new(&format!("{cell}\nf();")).sent().to_owned();
            assert_eq!(sent, format!("{cell}{more}\nf();"));
        }
    }
}
