//! The last expression of a cell, lent to what shows it.

use syn::spanned::Spanned;
use syn::{Expr, Stmt};

/// Where the last expression of a cell begins, in bytes, if it is a place, such as a variable or a field.
///
/// How a value without a look of its own is shown asks for `&mut` (see `headstart::display::ShowDebug`),
/// which any value grants but not every place; a reference to it, however, is a value.
pub fn last_place(cell: &str) -> Option<usize> {
    // What evcxr takes for itself is blank here, so that positions stay.
    let blank = |line: &str| if line.starts_with(':') { " ".repeat(line.len()) } else { line.to_owned() };
    let code: Vec<String> = cell.split('\n').map(blank).collect();
    let block: syn::Block = syn::parse_str(&format!("{{{}\n}}", code.join("\n"))).ok()?;
    match block.stmts.last()? {
        // The block's first byte is not the cell's.
        Stmt::Expr(last, None) if is_place(last) => Some(last.span().byte_range().start - 1),
        _ => None,
    }
}

fn is_place(expression: &Expr) -> bool {
    match expression {
        Expr::Path(_) | Expr::Field(_) | Expr::Index(_) => true,
        Expr::Unary(unary) => matches!(unary.op, syn::UnOp::Deref(_)),
        Expr::Paren(inner) => is_place(&inner.expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::last_place;

    #[test]
    fn places_are_told_from_values() {
        assert_eq!(last_place("let é = 1;\né"), Some(12));
        assert_eq!(last_place(":timing\nlist[0][1] // the first"), Some(8));
        assert_eq!(last_place("(*a.b)"), Some(0));
        for value in ["a + 1", "a;", "&a", "f(a)", "vec![a]", "a?", "let b = a;", "", "a b", ":vars"] {
            assert_eq!(last_place(value), None, "{value}");
        }
    }
}
