//! Result of a cell, collected from the output of its process.

use crate::compile::evcxr_text::source::FILE;
use crate::engine::output::Bundle;

/// Result of a cell, collected from its outputs.
#[derive(Debug, Default)]
pub struct Collected {
    /// Message of the error that a `?` returned.
    pub error: Option<String>,
    /// Line of that `?` in the compiled source; 0 if it is unknown.
    pub error_line: u32,
    /// Whether a `return` ended the cell before its end.
    pub has_returned: bool,
    /// Message of the panic that ended the cell, and its line in the compiled source; 0 if it is elsewhere.
    pub panic: Option<(String, Option<u32>)>,
    /// Message of the panic that ended the process.
    pub fatal: Option<String>,
    /// The value to show.
    pub value: Bundle,
    /// Standard error of the kernel's own cells.
    pub stderr: String,
}

impl Collected {
    /// Whether the cell ended before its end, so that its new variables are not stored.
    pub fn ended_early(&self) -> bool {
        self.failed() || self.has_returned
    }

    /// Whether the cell ended with an error or a panic.
    pub fn failed(&self) -> bool {
        self.error.is_some() || self.panic.is_some()
    }
}

/// The line in the compiled source; 0 for a panic in a library.
pub fn line_in_cell(file: &str, line: u32) -> u32 {
    if file == FILE { line } else { 0 }
}
