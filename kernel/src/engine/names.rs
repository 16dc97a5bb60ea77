//! Completion and documentation of the names in a cell.

use crate::compile::cell;
use crate::compile::command_lines::command_lines;
use crate::compile::evcxr_text::messages::NO_DOCUMENTATION;
use crate::engine::complete::{Completions, end_of_name, insertion};
use crate::engine::impls;
use crate::engine::load::Loaded;
use crate::engine::output::Bundle;

impl Loaded {
    /// Completions at a byte position of a cell.
    pub fn complete(&mut self, cell: &str, position: usize) -> Completions {
        // In a command, evcxr completes the command.
        let text = match is_in_command(cell, position) {
            true => cell.to_owned(),
            false => cell::code(cell),
        };
        let Ok(found) = self.context.completions(&text, position) else {
            return Completions { start: position, end: position, ..Completions::default() };
        };
        let mut matches: Vec<_> = found
            .completions
            .into_iter()
            .filter(|found| !found.code.starts_with(impls::PREFIX))
            .map(|found| (insertion(&found.code).to_owned(), found.kind))
            .collect();
        matches.dedup();
        Completions { matches, start: found.start_offset, end: found.end_offset }
    }

    /// Signature and documentation of the name at a byte position of a cell.
    pub fn inspect(&mut self, cell: &str, position: usize) -> Option<Bundle> {
        if is_in_command(cell, position) {
            return None;
        }
        let code = cell::code(cell);
        // evcxr documents the name before a position.
        let (text, html) = self.context.hover_at(&code, end_of_name(&code, position)).ok()?;
        let found = text != NO_DOCUMENTATION && !text.is_empty();
        found.then(|| vec![("text/plain".into(), text), ("text/html".into(), html)])
    }
}

/// Whether a position is in a command. evcxr runs the other commands of a cell before it analyses the code, such as
/// `:restart`, so they are hidden from it.
fn is_in_command(cell: &str, position: usize) -> bool {
    command_lines(cell).iter().any(|range| (range.start..=range.end).contains(&position))
}
