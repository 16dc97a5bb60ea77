//! Cells of parameters: papermill and `headstart run -p` write them, without types.

use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr, ExprLit, Lit, Pat, Stmt};

use crate::engine::run::Variables;

/// First line of such a cell, as papermill writes it.
pub const COMMENT: &str = "// Parameters";

/// The name, the type if it is written, and the value of a `let` statement.
pub fn binding(statement: &Stmt) -> Option<(String, Option<&syn::Type>, &Expr)> {
    let Stmt::Local(local) = statement else { return None };
    let value = &local.init.as_ref()?.expr;
    match &local.pat {
        Pat::Ident(pattern) => Some((pattern.ident.to_string(), None, value)),
        Pat::Type(typed) => match &*typed.pat {
            Pat::Ident(pattern) => Some((pattern.ident.to_string(), Some(&typed.ty), value)),
            _ => None,
        },
        _ => None,
    }
}

/// Changes to an injected cell that give each value the type of the variable that it replaces.
///
/// papermill knows no types: it writes `let epochs = 10;`, which is an `i32`, where the default was a `usize`.
/// Positions are the cell's, one byte less than the block's.
pub fn typing(block: &Block, variables: &Variables) -> Vec<(Range<usize>, String)> {
    let mut changes = Vec::new();
    for statement in &block.stmts {
        let Stmt::Local(local) = statement else { continue };
        let Some((name, None, value)) = binding(statement) else { continue };
        let Some(type_) = variables.get(&name) else { continue };
        let end = end(&local.pat);
        changes.push((end..end, format!(": {type_}")));
        let mut literals = Literals { type_, changes: &mut changes };
        literals.visit_expr(value);
    }
    changes
}

/// Where a part of a block ends in the cell.
fn end(part: &impl Spanned) -> usize {
    part.span().byte_range().end - 1
}

/// Converts literals to a type's numbers and strings.
struct Literals<'a> {
    type_: &'a str,
    changes: &'a mut Vec<(Range<usize>, String)>,
}

impl Literals<'_> {
    /// Whether the type names another as a whole word.
    fn mentions(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        self.type_.split(|c| !is_part(c)).any(|word| word == name)
    }
}

impl Visit<'_> for Literals<'_> {
    fn visit_expr_lit(&mut self, literal: &ExprLit) {
        let end = end(literal);
        match &literal.lit {
            Lit::Int(_) if self.mentions("f64") || self.mentions("f32") => {
                self.changes.push((end..end, ".0".to_owned()));
            }
            Lit::Str(_) if self.mentions("String") => self.changes.push((end..end, ".to_owned()".to_owned())),
            _ => {}
        }
    }

    /// `vec!` and the like.
    fn visit_macro(&mut self, call: &syn::Macro) {
        let items =
            call.parse_body_with(syn::punctuated::Punctuated::<Expr, syn::Token![,]>::parse_terminated);
        items.iter().flatten().for_each(|item| self.visit_expr(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cell::parse;
    use crate::engine::edits::Edited;

    #[test]
    fn a_value_takes_the_type_of_the_default() {
        let variables = [
            ("n", "usize"),
            ("lr", "f64"),
            ("name", "String"),
            ("sizes", "Vec<f32>"),
            ("label", "&'static str"),
        ];
        let variables = Variables::from(variables.map(|(name, type_)| (name.to_owned(), type_.to_owned())));
        let typed = |cell: &str| {
            let block = parse(cell).unwrap();
            Edited::new(cell, typing(&block, &variables)).text
        };
        assert_eq!(typed("let n = 10;"), "let n: usize = 10;");
        assert_eq!(typed("let lr = -1;"), "let lr: f64 = -1.0;");
        assert_eq!(typed("let name = \"a\";"), "let name: String = \"a\".to_owned();");
        assert_eq!(typed("let label = \"a\";"), "let label: &'static str = \"a\";");
        assert_eq!(typed("let sizes = vec![1, 2.5];"), "let sizes: Vec<f32> = vec![1.0, 2.5];");
        assert_eq!(typed("let other = 1;"), "let other = 1;");
    }
}
