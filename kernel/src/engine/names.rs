//! Completion and documentation of the names in a cell.

use std::ops::Range;

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
        let found = self.describe(&code, end_of_name(&code, position));
        found.or_else(|| {
            let name = macro_at(&code, position)?;
            MACRO_PATHS.iter().find_map(|path| {
                let code = format!("use {path}::{name};");
                self.describe(&code, code.len() - 1)
            })
        })
    }

    fn describe(&mut self, code: &str, end: usize) -> Option<Bundle> {
        let (text, html) = self.context.hover_at(code, end).ok()?;
        let found = text != NO_DOCUMENTATION && !text.is_empty();
        found.then(|| vec![("text/plain".into(), text), ("text/html".into(), html)])
    }
}

/// Where macros are that a cell can name without a path. evcxr does not find the name of a call.
const MACRO_PATHS: [&str; 2] = ["headstart::prelude", "std"];

/// Name of the macro whose call has a position in its name.
fn macro_at(code: &str, position: usize) -> Option<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begin = code.get(..position)?.trim_end_matches(is_name).len();
    let rest = &code[begin..];
    let length = rest.find(|c| !is_name(c))?;
    let is_call = rest[length..].starts_with('!') && !rest[length..].starts_with("!=");
    (is_call && length > 0).then_some(&rest[..length])
}

/// The command that contains a position.
fn command_at(cell: &str, position: usize) -> Option<Range<usize>> {
    command_lines(cell).into_iter().find(|range| (range.start..=range.end).contains(&position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_at_a_position_is_found() {
        let cell = ":restart\n!ls é\nf();\n:va\ng();";
        let at = |word: &str| command_at(cell, cell.find(word).unwrap() + 1);
        assert_eq!((at("ls"), at(":va")), (Some(9..15), Some(21..24)));
        assert_eq!(at("f()"), None);
    }

    #[test]
    fn the_macro_at_a_position_is_found() {
        for (code, position, name) in [
            ("println!(\"x\")", 3, Some("println")),
            ("let é = vec![1];", 12, Some("vec")),
            ("a != b", 1, None),
            ("f(x)", 1, None),
            ("!f", 0, None),
        ] {
            assert_eq!(macro_at(code, position), name, "{code}");
        }
    }
}
