//! Completion and documentation of the names in a cell.

use crate::compile::evcxr_text::messages::NO_DOCUMENTATION;
use crate::engine::complete::{Completions, end_of_name, insertion};
use crate::engine::load::Loaded;
use crate::engine::output::Bundle;

impl Loaded {
    /// Completions at a byte position of a cell.
    pub fn complete(&mut self, code: &str, position: usize) -> Completions {
        let Ok(found) = self.context.completions(code, position) else {
            return Completions { start: position, end: position, ..Completions::default() };
        };
        let mut matches: Vec<_> = found
            .completions
            .into_iter()
            .map(|found| (insertion(&found.code).to_owned(), found.kind))
            .collect();
        matches.dedup();
        Completions { matches, start: found.start_offset, end: found.end_offset }
    }

    /// Signature and documentation of the name at a byte position of a cell.
    pub fn inspect(&mut self, code: &str, position: usize) -> Option<Bundle> {
        // evcxr documents the name before a position.
        let (text, html) = self.context.hover_at(code, end_of_name(code, position)).ok()?;
        let found = text != NO_DOCUMENTATION && !text.is_empty();
        found.then(|| vec![("text/plain".into(), text), ("text/html".into(), html)])
    }
}
