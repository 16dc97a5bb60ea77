//! Edits to a cell before it is passed to evcxr; every part keeps its line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, Pat, Stmt};

use crate::compile::cell::{code, last_place, parse};
use crate::compile::command_lines::command_lines;
use crate::engine::edits::Edited;
use crate::engine::known::Variables;
use crate::engine::patterns::{PatternHider, constants, hidden, in_cell, nones, rebound};
use crate::engine::{impls, imports, parameters, plain};

/// A cell and the text that is sent to evcxr for it.
pub struct Prepared {
    /// The cell with plain spaces, line ends and names.
    plain: Edited,
    sent: Edited,
    /// The parsed cell, if it is valid Rust.
    block: Option<Block>,
    local: BTreeSet<String>,
    /// Explicit types for variables of the cell.
    types: BTreeMap<String, String>,
    /// For a cell of injected parameters: the session's variables and their types.
    variables: Variables,
    /// Modules of the session that name an `impl`.
    impls: BTreeSet<String>,
}

impl Prepared {
    pub fn new(cell: &str) -> Prepared {
        let plain = Edited::new(cell, plain::edits(cell));
        let block = parse(&code(&plain.text)).ok();
        let mut prepared = Prepared {
            sent: Edited::default(),
            plain,
            local: block.iter().flat_map(crate::engine::standard_streams::holders).collect(),
            block,
            types: BTreeMap::new(),
            variables: Variables::new(),
            impls: BTreeSet::new(),
        };
        prepared.edit();
        prepared
    }

    /// Text that is sent to evcxr.
    pub fn sent(&self) -> &str {
        &self.sent.text
    }

    /// The statements, if the cell is valid Rust. Positions are one byte larger than in
    /// [`Prepared::plain`].
    pub fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// Variables of the cell that one of its items names, such as a function. Items see no variables.
    pub fn named_by_items(&self) -> BTreeSet<String> {
        #[derive(Default)]
        struct Names(BTreeSet<String>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
                self.0.insert(pattern.ident.to_string());
                syn::visit::visit_pat_ident(self, pattern);
            }
        }
        let mut names = Names::default();
        for statement in self.block.iter().flat_map(|block| &block.stmts) {
            if let Stmt::Local(local) = statement {
                names.visit_pat(&local.pat);
            }
        }
        let items = || {
            self.block
                .iter()
                .flat_map(|block| &block.stmts)
                .filter(|statement| matches!(statement, Stmt::Item(_)))
        };
        names.0.retain(|name| items().any(|item| crate::compile::redefined::names(item, name)));
        names.0
    }

    /// Whether the cell ends with an expression. `true` if it is not valid Rust.
    pub fn has_value(&self) -> bool {
        let is_value = |statement: &Stmt| match statement {
            Stmt::Expr(_, semicolon) => semicolon.is_none(),
            Stmt::Macro(call) => call.semi_token.is_none(),
            _ => false,
        };
        self.block.as_ref().is_none_or(|block| block.stmts.last().is_some_and(is_value))
    }

    /// The cell with plain spaces, line ends and names.
    pub fn plain(&self) -> &str {
        &self.plain.text
    }

    /// Converts a byte position in the sent text to one in the user's cell.
    pub fn original(&self, sent: usize) -> usize {
        self.plain.before(self.sent.before(sent))
    }

    /// Converts the values in a cell of injected parameters to the types of the session's variables that
    /// they replace.
    pub fn give_types(&mut self, variables: &Variables) {
        if parameters::is_injected(&self.plain.text) {
            self.variables = variables.clone();
            self.edit();
        }
    }

    /// Takes into account the session's items, so that an `impl` beside its type replaces an earlier one.
    pub fn know_items<'a>(&mut self, items: impl Iterator<Item = &'a str>) {
        self.impls = items.filter(|name| name.starts_with(impls::PREFIX)).map(str::to_owned).collect();
        if !self.impls.is_empty() {
            self.edit();
        }
    }

    /// Hides a variable of the cell from evcxr. Returns `false` if the cell does not use it, unless the kernel itself
    /// has shown it to evcxr, or if it is already hidden.
    pub fn make_local(&mut self, name: &str) -> bool {
        let may_hide =
            self.block.as_ref().is_some_and(|block| is_used(block, name) || is_rebound(block, name));
        if may_hide && self.local.insert(name.to_owned()) {
            self.edit();
            return true;
        }
        false
    }

    /// Hides variables, and with `closures` also all closures. Returns whether any was newly hidden.
    pub fn make_any_local(&mut self, names: &[String], closures: bool) -> bool {
        let mut names = names.to_vec();
        if closures && let Some(block) = &self.block {
            names.extend(block.stmts.iter().filter_map(closure));
        }
        names.iter().filter(|name| self.make_local(name)).count() > 0
    }

    /// Writes explicit types for variables of the cell. Returns whether any of them is new.
    pub fn make_explicit(&mut self, types: Vec<(String, String)>) -> bool {
        let mut is_new = false;
        for (name, type_) in types {
            let is_defined = self.block.as_ref().is_some_and(|block| untyped(block, &name).is_some());
            is_new |= is_defined && self.types.insert(name, type_.clone()).as_ref() != Some(&type_);
        }
        if is_new {
            self.edit();
        }
        is_new
    }

    /// Hidden variables.
    pub fn local(&self) -> &BTreeSet<String> {
        &self.local
    }

    fn edit(&mut self) {
        let mut edits = Vec::new();
        edits.extend(first_line(&self.plain.text).map(|at| (at..at, "/**/".to_owned())));
        if let Some(block) = &self.block {
            edits.extend(last_place(block).map(|at| (at..at, "&".to_owned())));
            edits.extend(parameters::typing(block, &self.variables));
            edits.extend(imports::renamed(block));
            edits.extend(impls::modules(block, &self.plain.text, &self.impls));
            edits.extend(self.types.iter().filter_map(|(name, type_)| {
                let end = untyped(block, name)?;
                Some((end..end, format!(": {type_}")))
            }));
            for statement in &block.stmts {
                let Stmt::Local(local) = statement else { continue };
                if let Pat::Type(typed) = &local.pat {
                    edits.extend(one_line(&self.plain.text, in_cell(typed.ty.span())));
                }
                let mut hide = PatternHider { names: &self.local, edits: &mut edits, text: &self.plain.text };
                hide.visit_pat(&local.pat);
                let end = in_cell(local.span()).end;
                let bound = rebound(&local.pat).into_iter().filter(|(name, _)| !self.local.contains(name));
                edits.extend(
                    bound.map(|(name, mutable)| (end..end, format!(" let {mutable}{name} = {name};"))),
                );
                edits.extend(nones(&local.pat).map(|at| (at..at, " {}".to_owned())));
                if local.init.as_ref().is_some_and(|init| init.diverge.is_some()) {
                    let text = &self.plain.text;
                    let found = constants(&local.pat).into_iter();
                    let found = found.filter(|range| !self.local.contains(&text[range.clone()]));
                    edits.extend(found.map(|range| (range.clone(), hidden(&text[range]))));
                }
            }
        }
        self.sent = Edited::new(&self.plain.text, edits);
    }
}

/// Begin of the code, if its first line would be a command for evcxr, such as `!list.is_empty()` or `::std::f()`.
fn first_line(cell: &str) -> Option<usize> {
    let mut begin = 0;
    let commands = command_lines(cell);
    for line in cell.split_inclusive('\n') {
        let is_before_code = line.trim().is_empty()
            || line.starts_with("//")
            || commands.iter().any(|range| range.contains(&begin));
        if !is_before_code {
            let text = line.trim_start_matches(' ');
            return text.starts_with(['!', ':']).then_some(begin);
        }
        begin += line.len();
    }
    None
}

/// End of the pattern in the last `let` that defines a variable, if it is the name alone, without a type.
fn untyped(block: &Block, name: &str) -> Option<usize> {
    let defines = |local: &&syn::Local| crate::compile::redefined::binds(&local.pat, name);
    let mut locals = block.stmts.iter().filter_map(|statement| match statement {
        Stmt::Local(local) => Some(local),
        _ => None,
    });
    let local = locals.rfind(defines)?;
    matches!(&local.pat, Pat::Ident(pattern) if pattern.subpat.is_none())
        .then(|| in_cell(local.pat.span()).end)
}

/// Name of the closure that a statement defines.
fn closure(statement: &Stmt) -> Option<String> {
    let Stmt::Local(local) = statement else { return None };
    let (Pat::Ident(pattern), Some(init)) = (&local.pat, &local.init) else { return None };
    matches!(*init.expr, syn::Expr::Closure(_)).then(|| pattern.ident.to_string())
}

/// Joins the lines of a type, and adds the line ends after it: evcxr writes each type on one line.
fn one_line(text: &str, range: Range<usize>) -> Option<(Range<usize>, String)> {
    let type_ = &text[range.clone()];
    let lines = type_.matches('\n').count();
    let has_comment = type_.contains("//") || type_.contains("/*");
    if lines == 0 || has_comment {
        return None;
    }
    let line = type_.split_whitespace().collect::<Vec<_>>().join(" ");
    Some((range, line + &"\n".repeat(lines)))
}

/// Whether a statement after a variable's definition uses its name.
fn is_used(block: &Block, name: &str) -> bool {
    let mut statements = block.stmts.iter();
    let defines = |statement: &Stmt| matches!(statement, Stmt::Local(local) if crate::compile::redefined::binds(&local.pat, name));
    statements.by_ref().any(defines)
        && statements.any(|statement| crate::compile::redefined::names(statement, name))
}

/// Whether a variable is in a part of a pattern into which evcxr does not look.
fn is_rebound(block: &Block, name: &str) -> bool {
    let rebinds = |local: &syn::Local| rebound(&local.pat).iter().any(|(known, _)| known == name);
    block.stmts.iter().any(|statement| matches!(statement, Stmt::Local(local) if rebinds(local)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_line_ends_and_names_are_normalised() {
        let cell = "\u{feff}let\u{a0}cafe\u{301} = \"a\u{a0}b\"; // \u{a0}\r\nx\u{200b} + y";
        let prepared = Prepared::new(cell);
        assert_eq!(prepared.sent(), " let caf\u{e9} = \"a\u{a0}b\"; // \u{a0}\nx  + y");
        let plus = |text: &str| text.find('+').unwrap();
        assert_eq!(prepared.original(plus(prepared.sent())), plus(cell));
    }

    #[test]
    fn a_type_is_joined_to_one_line_and_other_lines_keep_their_positions() {
        let cell = "let t: Map<\n    String,\n    u8,\n> = f();\nt";
        let prepared = Prepared::new(cell);
        assert_eq!(prepared.sent(), "let t: Map< String, u8, >\n\n\n = f();\n&t");
        assert_eq!(prepared.original(prepared.sent().find("= f").unwrap()), cell.find("= f").unwrap());
    }

    #[test]
    fn a_variable_is_hidden_if_its_cell_uses_it() {
        let mut prepared = Prepared::new("let mut f = |x| x;\nlet (é, g) = h();\nf(é)");
        assert!(prepared.make_local("f") && prepared.make_local("é") && !prepared.make_local("g"));
        assert!(!prepared.make_local("f"), "once");
        assert!(!prepared.make_any_local(&["f".into()], true));
        assert!(Prepared::new("let a = |x| x;\nlet b = 1;\na(b)").make_any_local(&[], true));
        let sent = "let headstart::headstart_local!(mut f) = |x| x;\nlet (headstart::headstart_local!(é), g) = h();\nf(é)";
        assert_eq!(prepared.sent(), sent);
        assert_eq!(prepared.original(sent.find("|x|").unwrap()), 12);
    }

    #[test]
    fn tokio_is_used_without_parking_lot() {
        let cell = "// a\n:dep tokio = { version = \"1\", features = [\"full\"] }\nf(\"full\");";
        let sent = Prepared::new(cell).sent().to_owned();
        assert!(sent.contains("features = [\"fs\", ") && sent.contains("f(\"full\")"), "{sent}");
        let sent = Prepared::new(":dep tokio = { version = '1', features = ['full'] }").sent().to_owned();
        assert!(sent.contains("features = [\"fs\", ") && !sent.contains("full'"), "{sent}");
        for cell in [":dep tokio-util = { version = \"1\", features = [\"full\"] }", ":dep tokio = \"1\""] {
            assert_eq!(Prepared::new(cell).sent(), cell);
        }
    }

    #[test]
    fn a_type_is_written_at_the_last_definition() {
        let mut prepared = Prepared::new("let é = f();\nlet mut é = é?;\nlet (a, b) = g();\nlet c: u8 = 1;");
        let types = |names: &[&str]| names.iter().map(|name| (name.to_string(), "T".to_owned())).collect();
        assert!(!prepared.make_explicit(types(&["a", "c", "none"])));
        assert!(prepared.make_explicit(types(&["é", "a"])) && !prepared.make_explicit(types(&["é"])));
        assert_eq!(prepared.sent(), "let é = f();\nlet mut é: T = é?;\nlet (a, b) = g();\nlet c: u8 = 1;");
    }

    #[test]
    fn code_that_looks_like_a_command_is_code_for_evcxr() {
        for (cell, sent) in [
            ("!list.is_empty()", "/**/!list.is_empty()"),
            (":dep a\n\n// b\n::std::mem::drop(1);\n!f()", ":dep a\n\n// b\n/**/::std::mem::drop(1);\n!f()"),
            ("  ::std::mem::drop(1)", "/**/  ::std::mem::drop(1)"),
            (":vars", ":vars"),
            ("f();\n!g()", "f();\n!g()"),
        ] {
            assert_eq!(Prepared::new(cell).sent(), sent);
        }
    }

    #[test]
    fn evcxr_does_not_quit() {
        assert_eq!(Prepared::new(":quit now\nf();").sent(), "\nf();");
        assert_eq!(Prepared::new("f();\n :quit\ng(\":quit\")").sent(), "f();\n\ng(\":quit\")");
        assert_eq!(Prepared::new("f();\r\n:quit\r\ng()\r\n").sent(), "f();\n\ng()\n");
        let text = "let help = \"\n:quit\n:dep tokio = { features = [\"full\"] }\";";
        assert_eq!(Prepared::new(text).sent(), text);
    }

    #[test]
    fn invalid_rust_is_unchanged() {
        for cell in ["let let", ":vars", "!ls"] {
            assert_eq!(Prepared::new(cell).sent(), cell);
        }
    }
}
