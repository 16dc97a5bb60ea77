//! Notes on differences between a notebook and a program. [`notes`] are shown with a cell that succeeds, and
//! [`input_note`] before the cell runs.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, Stmt};

use crate::compile::redefined::names;
use crate::engine::impls;

/// Types with interior mutability, whose values change without `mut`.
const INTERIOR_MUTABLE: [&str; 11] = [
    "Cell",
    "RefCell",
    "Mutex",
    "RwLock",
    "OnceLock",
    "LazyLock",
    "OnceCell",
    "LazyCell",
    "UnsafeCell",
    "Condvar",
    "Once",
];
/// First words of an item, after its attributes and visibility.
const ITEM_WORDS: [&str; 13] = [
    "static", "fn", "struct", "enum", "union", "trait", "impl", "mod", "type", "unsafe", "extern", "use",
    "const",
];

/// One note for each statement of a cell that would behave differently in a program. `source` is the compiled
/// source, with the items of all cells.
pub fn notes(statements: &[Stmt], source: &str) -> Vec<String> {
    let mut notes = Vec::new();
    for statement in statements {
        match statement {
            Stmt::Item(Item::Static(item)) if may_change(item) => notes.push(format!(
                "note: each cell has its own `{0}`, with the initial value: to share data between cells, use a \
                 variable, as in `let {1} = std::sync::Arc::new(…);`",
                item.ident,
                item.ident.to_string().to_lowercase()
            )),
            Stmt::Item(Item::Fn(item)) if item.sig.ident == "main" => {
                let is_called = statements.iter().any(|other| !is_item(other) && names(other, "main"));
                if !is_called && item.sig.inputs.is_empty() {
                    notes.push("note: a notebook does not call `main`: write `main()`".into());
                }
            }
            Stmt::Macro(call) if makes_items(&call.mac, source) => {
                let name = call.mac.path.segments.last().map(|name| name.ident.to_string());
                let note = format!("note: later cells cannot use what `{}!` defines", name.unwrap_or_default());
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
            _ => {}
        }
    }
    notes.extend(replaced(statements).into_iter().map(|name| {
        format!("note: this cell defines `{name}` more than once, and a notebook keeps only the last of them: rename the others")
    }));
    if returns(statements) {
        notes.push(
            "note: if a `return` ends this cell, its variables are not stored: later cells have neither those that it \
             defines nor those that it uses"
                .into(),
        );
    }
    notes
}

/// Names of items that the cell defines more than once, such as a macro and a function of one name. evcxr keeps items by
/// their names alone.
fn replaced(statements: &[Stmt]) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let items = statements.iter().filter_map(|statement| match statement {
        Stmt::Item(Item::Macro(item)) => item.ident.as_ref().map(ToString::to_string),
        Stmt::Item(item) => impls::name(item),
        _ => None,
    });
    items.filter(|name| !known.insert(name.clone())).collect()
}

/// Whether a statement of the cell itself, not of a function or closure in it, contains `return`.
fn returns(statements: &[Stmt]) -> bool {
    struct Returns(bool);
    impl<'ast> Visit<'ast> for Returns {
        fn visit_expr_return(&mut self, _: &'ast syn::ExprReturn) {
            self.0 = true;
        }
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
        fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {}
        fn visit_item(&mut self, _: &'ast Item) {}
    }
    let mut returns = Returns(false);
    statements.iter().for_each(|statement| returns.visit_stmt(statement));
    returns.0
}

/// Note for a cell that reads standard input, shown before it runs: a loop that waits for a line would not end.
pub fn input_note(statements: &[Stmt]) -> Option<&'static str> {
    struct Reads(bool);
    impl<'ast> Visit<'ast> for Reads {
        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            let is_stdin =
                |path: &syn::ExprPath| path.path.segments.last().is_some_and(|name| name.ident == "stdin");
            self.0 |= call.args.is_empty() && matches!(&*call.func, syn::Expr::Path(path) if is_stdin(path));
            visit::visit_expr_call(self, call);
        }
    }
    let mut reads = Reads(false);
    statements.iter().for_each(|statement| reads.visit_stmt(statement));
    reads.0.then_some("note: standard input is empty in a notebook: ask for a line with `input(\"…\")?`\n")
}

/// Whether a macro call expands to items, as far as the text shows: its own input is an item, as in
/// `thread_local! { static … }`, or a cell has defined the macro and its expansion begins with an item.
fn makes_items(call: &syn::Macro, source: &str) -> bool {
    let Some(name) = call.path.segments.last() else { return false };
    begins_with_item(call.tokens.clone()) || expands_to_item(&name.ident.to_string(), source)
}

/// Whether a macro of this name is defined in the source and one of its rules expands to an item.
fn expands_to_item(name: &str, source: &str) -> bool {
    struct Rules<'a>(&'a str, bool);
    impl<'ast> Visit<'ast> for Rules<'_> {
        fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
            if item.ident.as_ref().is_some_and(|ident| ident == self.0) {
                // Each rule is a pattern, `=>` and an expansion: the expansion is a group after a `>`.
                let mut follows_arrow = false;
                for token in item.mac.tokens.clone() {
                    if let TokenTree::Group(group) = &token {
                        self.1 |= follows_arrow && begins_with_item(group.stream());
                    }
                    follows_arrow = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '>');
                }
            }
        }
    }
    if !source.contains("macro_rules") || !source.contains(name) {
        return false;
    }
    let mut rules = Rules(name, false);
    if let Ok(file) = syn::parse_file(source) {
        rules.visit_file(&file);
    }
    rules.1
}

/// Whether tokens begin with an item, also inside a repetition of a macro's expansion (`$( … )*`).
fn begins_with_item(tokens: TokenStream) -> bool {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            // An attribute.
            TokenTree::Punct(mark) if mark.as_char() == '#' => drop(tokens.next()),
            TokenTree::Punct(mark) if mark.as_char() == '$' => match tokens.next() {
                Some(TokenTree::Group(repeated)) => return begins_with_item(repeated.stream()),
                // A fragment, such as `$vis`.
                _ => continue,
            },
            TokenTree::Ident(word) if word == "pub" => {
                if matches!(tokens.peek(), Some(TokenTree::Group(_))) {
                    tokens.next();
                }
            }
            TokenTree::Ident(word) => {
                // `unsafe { … }` and `const { … }` are expressions.
                let is_block = matches!(tokens.peek(), Some(TokenTree::Group(_)));
                return ITEM_WORDS.iter().any(|item| word == item) && !is_block;
            }
            _ => return false,
        }
    }
    false
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
    fn a_cell_that_reads_standard_input_gets_a_note() {
        let note = |cell: &str| input_note(&parse(cell).unwrap().stmts);
        assert!(note("loop { std::io::stdin().read_line(&mut line)?; }").is_some());
        assert!(note("fn main() { let s = io::stdin(); }").is_some());
        assert_eq!(note("command.stdin(Stdio::null()); let stdin = 1;"), None);
    }

    #[test]
    fn differences_from_a_program_are_noted() {
        for (cell, expected) in [
            ("static N: std::sync::atomic::AtomicUsize = f();", "each cell has its own `N`"),
            ("static mut N: u8 = 1;", "each cell has its own `N`"),
            ("static L: LazyLock<Mutex<u8>> = f();", "`let l = "),
            ("fn main() { f() }", "write `main()`"),
            ("thread_local! { static N: u8 = 1; }", "later cells cannot use"),
            ("if a { return Ok(()); }", "its variables are not stored"),
            ("macro_rules! greet { () => { 1 } }\nfn greet() {}", "`greet` more than once"),
            ("mod shapes {}\nfn shapes() {}\nfn shapes() {}", "`shapes` more than once"),
        ] {
            let notes = notes(&parse(cell).unwrap().stmts, "").concat();
            assert!(notes.contains(expected), "{cell}: {notes}");
        }
        let source = "macro_rules! make { ($n:ident) => { #[derive(Debug)] pub struct $n; }; }\n\
            macro_rules! all { (=> $($n:ident)*) => { 1 }; ($($n:ident)*) => { $(fn $n() {})* } }\n\
            macro_rules! ask { ($e:expr) => { println!(\"{}\", $e) } }";
        for (cell, is_noted) in [
            ("make!(A);", true),
            ("all! { a b }", true),
            ("ask!(1);", false),
            ("bitflags::bitflags! { pub(crate) struct F: u8 { } }", true),
            ("println!(\"static\");", false),
            ("dbg!(unsafe { f() });", false),
        ] {
            let notes = notes(&parse(cell).unwrap().stmts, source);
            assert_eq!(notes.len(), usize::from(is_noted), "{cell}: {notes:?}");
        }
        for cell in [
            "static NAMES: [&str; 1] = [\"a\"];",
            "fn main() { }\nmain();",
            "let n = Mutex::new(1);",
            "struct P;\nimpl P {}\nimpl P {}\nconst _: () = ();\nconst _: () = ();",
            "let f = || return 1;\nfn g() { return; }\nlet h = async { return 2; };",
        ] {
            assert!(notes(&parse(cell).unwrap().stmts, "").is_empty(), "{cell}");
        }
    }
}
