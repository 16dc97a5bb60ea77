//! Syntax of a cell: its Rust code, and the lines that evcxr handles itself.

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Expr, Ident, Item, Stmt};

use crate::compile::command_lines::{command_lines, has};
use crate::compile::evcxr_text::commands::QUIT;
pub use crate::compile::grammar::{blanks, parse};

/// Replaces the commands of a cell by blanks, so that positions stay the same.
pub fn code(cell: &str) -> String {
    let mut code = String::with_capacity(cell.len());
    for range in command_lines(cell) {
        code.push_str(&cell[code.len()..range.start]);
        code += &blanks(&cell[range]);
    }
    code.push_str(&cell[code.len()..]);
    code
}

/// Whether a cell ends the kernel.
pub fn quits(cell: &str) -> bool {
    has(cell, QUIT)
}

/// Whether a cell awaits outside its functions, closures and async blocks. evcxr adds tokio for the first such cell.
pub fn awaits(cell: &str) -> bool {
    struct Awaits(bool);
    impl<'ast> Visit<'ast> for Awaits {
        fn visit_expr_await(&mut self, _: &'ast syn::ExprAwait) {
            self.0 = true;
        }
        fn visit_item(&mut self, _: &'ast syn::Item) {}
        fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    }
    let mut found = Awaits(false);
    if let Ok(block) = parse(&code(cell)) {
        found.visit_block(&block);
    }
    found.0
}

/// Byte position at which the last expression of a cell begins, if it is a place such as a variable or a
/// field. A `&` inserted there borrows it.
///
/// The fallback display of values takes `&mut` (see `headstart::display::ShowDebug`). Every value can be
/// borrowed mutably, but not every place. A reference to a place is a value.
pub fn last_place(block: &Block) -> Option<usize> {
    match block.stmts.last()? {
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

/// Name that an item defines, other than by an import.
pub fn item_name(item: &Item) -> Option<&Ident> {
    Some(match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{awaits, code, parse, quits};

    #[test]
    fn only_code_of_the_cell_itself_awaits() {
        for code in ["f().await", "let x = f().await?;", ":dep a = \"1\"\nif a { f().await; }"] {
            assert!(awaits(code), "{code}");
        }
        for code in [
            "// f().await",
            "\".await\"",
            "async fn g() { f().await }",
            "let f = async { f().await };",
            "fn (",
        ] {
            assert!(!awaits(code), "{code}");
        }
    }

    #[test]
    fn quit_ends_the_kernel_only_on_its_own_line() {
        assert!(quits("let a = 1;\n :quit ") && !quits("// :quit"));
        assert!(!quits("let help = \"\n:quit\n\";") && !quits("/*\n:quit\n*/"));
    }

    #[test]
    fn commands_are_blank_and_strings_are_not() {
        assert_eq!(code(":dep é\n!a \\\n b\nf()"), "       \n    \n  \nf()");
        for cell in ["let s = \"\n:vars\";\ns", "f(\n::g)"] {
            assert_eq!(code(cell), cell);
        }
    }

    #[test]
    fn places_are_distinguished_from_values() {
        let last_place = |cell: &str| super::last_place(&parse(&code(cell)).ok()?);
        assert_eq!(last_place("let é = 1;\né"), Some(12));
        assert_eq!(last_place(":timing\nlist[0][1] // the first"), Some(8));
        assert_eq!(last_place("(*a.b)"), Some(0));
        for value in ["a + 1", "a;", "&a", "f(a)", "vec![a]", "a?", "let b = a;", "", "a b", ":vars"] {
            assert_eq!(last_place(value), None, "{value}");
        }
    }
}
