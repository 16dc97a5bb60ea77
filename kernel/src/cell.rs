//! What the text of a cell is to Rust.

use syn::spanned::Spanned;
use syn::{Block, Expr, Stmt};

/// A cell with blanks in place of the lines that evcxr takes for itself, so that positions stay.
pub fn code(cell: &str) -> String {
    let blank = |line: &str| if line.starts_with(':') { " ".repeat(line.len()) } else { line.to_owned() };
    cell.split('\n').map(blank).collect::<Vec<_>>().join("\n")
}

/// The statements of [`code`]. Positions are one byte more than there, for the block's brace.
pub fn parse(code: &str) -> syn::Result<Block> {
    // In a line of its own, a comment does not hide the other brace.
    syn::parse_str(&format!("{{{code}\n}}"))
}

/// A cell whose last expression, if it is a place such as a variable or a field, is lent by a `&`; and
/// the same with a blank in place of what the user has not written.
///
/// How a value without a look of its own is shown asks for `&mut` (see `headstart::display::ShowDebug`),
/// which any value grants but not every place; a reference to it, however, is a value.
pub fn lend_last_place(cell: &str) -> [String; 2] {
    let place = last_place(cell);
    ['&', ' '].map(|mark| match place {
        Some(at) => format!("{}{mark}{}", &cell[..at], &cell[at..]),
        None => cell.to_owned(),
    })
}

/// Where the last expression of a cell begins, in bytes, if it is a place.
fn last_place(cell: &str) -> Option<usize> {
    match parse(&code(cell)).ok()?.stmts.last()? {
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
    use super::{last_place, lend_last_place};

    #[test]
    fn places_are_told_from_values() {
        assert_eq!(last_place("let é = 1;\né"), Some(12));
        assert_eq!(last_place(":timing\nlist[0][1] // the first"), Some(8));
        assert_eq!(last_place("(*a.b)"), Some(0));
        for value in ["a + 1", "a;", "&a", "f(a)", "vec![a]", "a?", "let b = a;", "", "a b", ":vars"] {
            assert_eq!(last_place(value), None, "{value}");
        }
        assert_eq!(lend_last_place("a;\nb"), ["a;\n&b", "a;\n b"]);
    }
}
