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
        // evcxr runs the other commands of a cell, such as `:restart`, before it analyses the code, so they are
        // hidden from it.
        let text = match command_at(cell, position) {
            Some(range) if cell[range.clone()].trim_start().starts_with('!') => {
                return Completions::none(position);
            }
            // evcxr completes a command only where a cell begins.
            Some(range) if cell[range.clone()].trim_start().starts_with(':') => {
                cell::blanks(&cell[..range.start]) + &cell[range]
            }
            _ => cell::code(cell),
        };
        let Ok(found) = self.context.completions(&text, position) else {
            return Completions::none(position);
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
        if command_at(cell, position).is_some() {
            return None;
        }
        let code = cell::code(cell);
        // evcxr documents the name before a position.
        let (text, html) = self.context.hover_at(&code, end_of_name(&code, position)).ok()?;
        let found = text != NO_DOCUMENTATION && !text.is_empty();
        found.then(|| vec![("text/plain".into(), text), ("text/html".into(), html)])
    }
}

/// The command that contains a position.
fn command_at(cell: &str, position: usize) -> Option<std::ops::Range<usize>> {
    command_lines(cell).into_iter().find(|range| (range.start..=range.end).contains(&position))
}
