//! Finds the variables that a cell takes and redefines. Their old values are saved if the cell fails.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, Pat, Stmt};

use crate::compile::cell;
use crate::compile::evcxr_text::source::{Use, taken_variables, use_of_variable};
use crate::prelude::tokens::identifiers;

/// `Copy` types: their values stay usable after a move.
const COPY_TYPES: [&str; 17] = [
    "bool",
    "char",
    "f32",
    "f64",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "isize",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "usize",
    "&'static str",
];
/// Macros that take their arguments by reference.
const BY_REFERENCE: [&str; 13] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "eprint",
    "eprintln",
    "format",
    "panic",
    "print",
    "println",
    "todo",
    "write",
    "writeln",
];

/// A variable and the type that it has before the cell.
#[derive(Debug, PartialEq)]
pub struct Redefined<'a> {
    pub name: &'a str,
    pub type_: &'a str,
    /// Whether the cell uses the old value.
    pub is_used: bool,
}

/// Finds the variables that `before` takes out of the store and `code` redefines without moving them, as
/// far as the text shows.
pub fn redefined<'a>(before: &'a str, code: &str) -> Vec<Redefined<'a>> {
    let mut taken = taken(before);
    if taken.is_empty() {
        return taken;
    }
    let is_put = |line: &&str| use_of_variable(line).is_some_and(|(use_, _)| use_ == Use::Put);
    let code: String = code.split_inclusive('\n').filter(|line| !is_put(line)).collect();
    let Ok(block) = cell::parse(&code) else { return Vec::new() };
    taken.retain_mut(|variable| {
        let mut visitor = MoveVisitor { name: variable.name.trim_start_matches("r#"), is_moved: false };
        variable.is_used = false;
        for statement in &block.stmts {
            variable.is_used |= names(statement, visitor.name);
            visitor.visit_stmt(statement);
            if matches!(statement, Stmt::Local(local) if binds(&local.pat, visitor.name)) {
                return !visitor.is_moved || COPY_TYPES.contains(&variable.type_);
            }
        }
        false
    });
    taken
}

/// Variables that lines take out of the store.
pub fn taken(lines: &str) -> Vec<Redefined<'_>> {
    taken_variables(lines).into_iter().map(|(name, type_)| Redefined { name, type_, is_used: true }).collect()
}

/// Whether a pattern binds a name.
pub fn binds(pattern: &Pat, name: &str) -> bool {
    struct Binds<'a>(&'a str, bool);
    impl<'ast> Visit<'ast> for Binds<'_> {
        fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
            self.1 |= pattern.ident == self.0;
            visit::visit_pat_ident(self, pattern);
        }
    }
    let mut binds = Binds(name, false);
    binds.visit_pat(pattern);
    binds.1
}

/// Whether a statement uses a name, other than as a field or method.
pub fn names(statement: &Stmt, name: &str) -> bool {
    struct Names<'a>(&'a str, bool);
    impl<'ast> Visit<'ast> for Names<'_> {
        fn visit_path(&mut self, path: &'ast syn::Path) {
            self.1 |= path.is_ident(self.0);
            visit::visit_path(self, path);
        }
        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            // Also finds names in strings: `println!("{name}")`.
            self.1 |= identifiers(&call.tokens.to_string()).any(|word| word == self.0);
        }
    }
    let mut names = Names(name, false);
    names.visit_stmt(statement);
    names.1
}

/// Whether statements may move a variable.
pub fn may_move(statements: &[Stmt], name: &str) -> bool {
    let mut visitor = MoveVisitor { name, is_moved: false };
    statements.iter().for_each(|statement| visitor.visit_stmt(statement));
    visitor.is_moved
}

/// Syntax visitor that finds possible moves of a variable.
struct MoveVisitor<'a> {
    name: &'a str,
    is_moved: bool,
}

impl MoveVisitor<'_> {
    fn is_variable(&self, expression: &Expr) -> bool {
        matches!(expression, Expr::Path(path) if path.path.is_ident(self.name))
    }

    fn is_in(&self, tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(word) => word == self.name,
            TokenTree::Group(group) => self.is_in(group.stream()),
            _ => false,
        })
    }
}

impl<'ast> Visit<'ast> for MoveVisitor<'_> {
    fn visit_expr(&mut self, expression: &'ast Expr) {
        match expression {
            // A borrow, or a use of a part of the variable.
            Expr::Reference(inner) if self.is_variable(&inner.expr) => {}
            Expr::Field(inner) if self.is_variable(&inner.base) => {}
            Expr::Index(inner) if self.is_variable(&inner.expr) => self.visit_expr(&inner.index),
            Expr::Call(call) if self.is_variable(&call.func) => {
                call.args.iter().for_each(|argument| self.visit_expr(argument));
            }
            Expr::MethodCall(call) if self.is_variable(&call.receiver) => {
                self.is_moved |= call.method.to_string().starts_with("into");
                call.args.iter().for_each(|argument| self.visit_expr(argument));
            }
            _ if self.is_variable(expression) => self.is_moved = true,
            _ => visit::visit_expr(self, expression),
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let takes_references = BY_REFERENCE.iter().any(|name| call.path.is_ident(name));
        self.is_moved |= !takes_references && self.is_in(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_redefined_and_not_moved_are_found() {
        let before = "let mut v = evcxr_variable_store.take_variable::<Vec<i32>>(stringify!(v));\n\
            let n = evcxr_variable_store.take_variable::<i32>(stringify!(n));\n\
            let m = evcxr_variable_store.take_variable::<Map<\nString, u8>>(stringify!(m));\n";
        let names =
            |code: &str| redefined(before, code).into_iter().map(|found| found.name).collect::<Vec<_>>();
        for (code, expected) in [
            ("let v = vec![4];\nlet z = v[7];\n", vec!["v"]),
            ("let v: Vec<_> = v.iter().map(|x| x + n).collect();\n", vec!["v"]),
            ("let (a, v) = f(&v)?; g(v);\n", vec!["v"]),
            ("println!(\"{v:?}\", v); let m = 1;\n", vec!["m"]),
            ("let n = n + 1;\n", vec!["n"]),
            ("let v = f(v);\n", vec![]),
            ("let v = v.into_iter().rev().collect();\n", vec![]),
            ("let v = vec![v];\n", vec![]),
            ("v.push(1); { let v = 1; }\n", vec![]),
            ("let v = 1;\nevcxr_variable_store.put_variable::<i32>(stringify!(v), v);\n", vec!["v"]),
            ("let", vec![]),
        ] {
            assert_eq!(names(code), expected, "{code}");
        }
        assert_eq!(redefined(before, "let m = 2;")[0].type_, "Map<\nString, u8>");
    }
}
