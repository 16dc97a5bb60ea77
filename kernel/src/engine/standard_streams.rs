//! Variables of a cell that hold a standard stream: its lock, or a buffer in front of it.
//!
//! A program unlocks and flushes them at its end, but variables of cells stay. Then a lock would block every other
//! thread that prints, and buffered text would never be shown. So such a variable ends with its cell.

use syn::visit::{self, Visit};
use syn::{Block, Expr, Pat, Stmt};

/// Functions that return a standard stream.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
/// Methods that return a lock, or an iterator that contains one.
const LOCKS: [&str; 2] = ["lock", "lines"];
/// Methods that return what is in their receiver.
const CONTENTS: [&str; 2] = ["unwrap", "expect"];
/// Types that hold text before they write it.
const BUFFERS: [&str; 2] = ["BufWriter", "LineWriter"];

/// Variables of a cell that hold a standard stream, as far as the text shows.
pub fn holders(block: &Block) -> Vec<String> {
    let mut streams = Vec::new();
    let mut held = Vec::new();
    for statement in &block.stmts {
        let Stmt::Local(local) = statement else { continue };
        let (Some(name), Some(init)) = (name(&local.pat), &local.init) else { continue };
        if !mentions(&init.expr, &streams) {
            continue;
        }
        streams.push(name.clone());
        if holds(&init.expr) {
            held.push(name);
        }
    }
    held
}

fn name(pattern: &Pat) -> Option<String> {
    match pattern {
        Pat::Ident(pattern) => Some(pattern.ident.to_string()),
        Pat::Type(typed) => name(&typed.pat),
        _ => None,
    }
}

/// Whether an expression uses a standard stream, or a variable that was made from one.
fn mentions(expression: &Expr, streams: &[String]) -> bool {
    struct StreamUses<'a>(&'a [String], bool);
    impl<'ast> Visit<'ast> for StreamUses<'_> {
        fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
            if let Expr::Path(function) = &*call.func {
                let name = function.path.segments.last().map(|name| name.ident.to_string());
                self.1 |= call.args.is_empty() && name.is_some_and(|name| STREAMS.contains(&name.as_str()));
            }
            visit::visit_expr_call(self, call);
        }
        fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
            self.1 |= path.path.get_ident().is_some_and(|name| self.0.iter().any(|stream| name == stream));
        }
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
    }
    let mut found = StreamUses(streams, false);
    found.visit_expr(expression);
    found.1
}

/// Whether an expression that uses a standard stream returns a lock or a buffer.
fn holds(expression: &Expr) -> bool {
    match expression {
        Expr::Try(tried) => holds(&tried.expr),
        Expr::Paren(inner) => holds(&inner.expr),
        Expr::MethodCall(call) => {
            let is_one_of = |names: &[&str]| names.iter().any(|name| call.method == name);
            is_one_of(&LOCKS) || is_one_of(&CONTENTS) && holds(&call.receiver)
        }
        Expr::Call(call) => match &*call.func {
            Expr::Path(function) => {
                function.path.segments.iter().any(|name| BUFFERS.iter().any(|buffer| name.ident == buffer))
            }
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::cell::parse;

    #[test]
    fn locks_and_buffers_of_standard_streams_are_found() {
        for (cell, expected) in [
            ("let mut out = BufWriter::new(std::io::stdout());", vec!["out"]),
            ("let out = std::io::LineWriter::with_capacity(9, io::stderr());", vec!["out"]),
            (
                "let stdout = io::stdout();\nlet mut handle = io::BufWriter::new(stdout.lock());",
                vec!["handle"],
            ),
            (
                "let out: StdoutLock = stdout().lock();\nlet mut lines = stdin().lines();",
                vec!["out", "lines"],
            ),
            ("let out = stdout();\nlet n = stdin().lock().read_line(&mut s)?;", vec![]),
            ("let line = stdin().lines().next().unwrap()?;", vec![]),
            ("let guard = mutex.lock().unwrap();\nlet text = page.lines();", vec![]),
            ("let w = BufWriter::new(File::create(\"a\")?);\nlet f = || stdout().lock();", vec![]),
        ] {
            assert_eq!(holders(&parse(cell).unwrap()), expected, "{cell}");
        }
    }
}
