//! Notes on differences between a notebook and a program, shown with a cell that succeeds.

use syn::visit::{self, Visit};
use syn::{Item, Stmt};

use crate::compile::redefined::names;

/// Types with interior mutability, whose values change without `mut`.
const INTERIOR_MUTABLE: [&str; 7] =
    ["Cell", "RefCell", "Mutex", "RwLock", "OnceLock", "LazyLock", "OnceCell"];

/// One note for each statement of a cell that would behave differently in a program.
pub fn notes(statements: &[Stmt]) -> Vec<String> {
    let mut notes = Vec::new();
    for statement in statements {
        match statement {
            Stmt::Item(Item::Static(item)) if may_change(item) => notes.push(format!(
                "note: each cell has its own `{0}`, which begins with its first value: what cells are to share is a \
                 variable, as in `let {1} = std::sync::Arc::new(…);`",
                item.ident,
                item.ident.to_string().to_lowercase()
            )),
            Stmt::Item(Item::Fn(item)) if item.sig.ident == "main" => {
                let is_called = statements.iter().any(|other| !is_item(other) && names(other, "main"));
                if !is_called && item.sig.inputs.is_empty() {
                    notes.push("note: this defines `main`, which nothing calls in a notebook: write `main()`".into());
                }
            }
            Stmt::Macro(call) if call.mac.path.segments.last().is_some_and(|name| name.ident == "thread_local") => {
                notes.push("note: what `thread_local!` makes lasts for this cell only".into());
            }
            _ => {}
        }
    }
    notes
}

fn is_item(statement: &Stmt) -> bool {
    matches!(statement, Stmt::Item(_))
}

fn may_change(item: &syn::ItemStatic) -> bool {
    struct Changing(bool);
    impl<'ast> Visit<'ast> for Changing {
        fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
            let name = segment.ident.to_string();
            self.0 |= INTERIOR_MUTABLE.contains(&&*name) || name.starts_with("Atomic");
            visit::visit_path_segment(self, segment);
        }
    }
    let mut changing = Changing(matches!(item.mutability, syn::StaticMutability::Mut(_)));
    changing.visit_type(&item.ty);
    changing.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cell::parse;

    #[test]
    fn differences_from_a_program_are_noted() {
        for (cell, said) in [
            ("static N: std::sync::atomic::AtomicUsize = f();", "each cell has its own `N`"),
            ("static mut N: u8 = 1;", "each cell has its own `N`"),
            ("static L: LazyLock<Mutex<u8>> = f();", "`let l = "),
            ("fn main() { f() }", "write `main()`"),
            ("thread_local! { static N: u8 = 1; }", "this cell only"),
        ] {
            let notes = notes(&parse(cell).unwrap().stmts).concat();
            assert!(notes.contains(said), "{cell}: {notes}");
        }
        for cell in ["static NAMES: [&str; 1] = [\"a\"];", "fn main() { }\nmain();", "let n = Mutex::new(1);"]
        {
            assert!(notes(&parse(cell).unwrap().stmts).is_empty(), "{cell}");
        }
    }
}
