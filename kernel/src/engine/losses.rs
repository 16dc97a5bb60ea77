//! Variables that a session loses: by redefined types, by names with another meaning, and by new dependencies.

use std::collections::BTreeSet;

use syn::Stmt;

use crate::compile::cell::awaits;
use crate::compile::command_lines::{self, has};
use crate::compile::evcxr_text::commands::{CLEAR, DEPENDENCY, RESTART};
use crate::engine::known::Variables;
use crate::engine::load::Loaded;
use crate::engine::prepare::Prepared;
use crate::prelude::tokens::identifiers;

/// In a cell, makes evcxr add [`TOKIO`] if no cell has.
const AWAIT: &str = ".await";
/// The line that adds tokio to a session.
const TOKIO: &str = ":dep tokio";
/// A cell that only checks the types of all variables.
const CHECK_TYPES: &str = "let _ = ();";

impl Loaded {
    /// After a cell of items only, which does not look at variables, runs one that loses those of redefined types.
    pub fn check_types(&mut self, prepared: &Prepared) {
        let is_item = |statement: &Stmt| matches!(statement, Stmt::Item(_));
        let has_items =
            prepared.block().is_some_and(|block| !block.stmts.is_empty() && block.stmts.iter().all(is_item));
        if !has_items {
            return;
        }
        let items: BTreeSet<&str> = self.context.defined_item_names().collect();
        let has_own = |type_: &str| identifiers(type_).any(|word| items.contains(word));
        if self.variables().values().any(|type_| has_own(type_)) {
            // An error shows up in the next cell.
            let _ = self.execute_code(CHECK_TYPES);
        }
    }

    /// What a cell adds to the dependencies of the cells before: its `:dep` lines, and tokio for the first `.await`.
    pub fn new_dependencies(&self, cell: &str) -> Vec<String> {
        let asked = command_lines::commands(cell).filter(|line| line.starts_with(DEPENDENCY));
        let has_tokio = self.dependencies.iter().any(|line| line.starts_with(TOKIO));
        let asked = asked.chain((!has_tokio && awaits(cell)).then_some(AWAIT));
        asked.filter(|line| !self.dependencies.contains(*line)).map(str::to_owned).collect()
    }

    /// Note about variables that a `:dep` or the first `.await` will lose: those whose types cells have defined, because
    /// the types are compiled again.
    pub fn loses_by_dependency(&self, cell: &str, variables: &Variables) -> Option<String> {
        if has(cell, CLEAR) || has(cell, RESTART) {
            return None;
        }
        let first = self.new_dependencies(cell).into_iter().next()?;
        let items: BTreeSet<&str> = self.context.defined_item_names().collect();
        let lost: Vec<String> = variables
            .iter()
            .filter(|(_, type_)| identifiers(type_).any(|word| items.contains(word)))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        (!lost.is_empty()).then(|| {
            format!(
                "note: `{first}` makes evcxr compile the types of earlier cells again, so {} will be lost: move {} to \
                 the first cell\n",
                lost.join(", "),
                if first == AWAIT { "an `.await`" } else { "`:dep` lines" }
            )
        })
    }
}
