//! The lines and environment variables by which evcxr and the cells' process talk.

/// The folder in which evcxr compiles cells.
pub const FOLDER_VARIABLE: &str = "EVCXR_TMPDIR";
/// Set in the process that runs the cells.
pub const RUNTIME_VARIABLE: &str = "EVCXR_IS_RUNTIME";

/// Begins the command to load a cell's library and to run a function of it.
pub const RUN: &str = "LOAD_AND_RUN ";
/// The line that ends a cell.
pub const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";

/// What every marker on the cells' standard output begins with.
pub const MARKER: &str = "EVCXR_";
/// A `?` met an error.
pub const ERROR: &str = "EVCXR_ERROR_OCCURRED";
/// The cell panicked.
pub const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
/// Begins a line that ends with the name of a variable whose type was defined again.
pub const CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// Begins a line that ends with the MIME type of the lines that follow.
pub const CONTENT_BEGINS: &str = "EVCXR_BEGIN_CONTENT ";
/// The line after a content.
pub const CONTENT_ENDS: &str = "EVCXR_END_CONTENT";
/// Begins the question of the crate `evcxr_input`.
pub const QUESTION: &str = "EVCXR_INPUT_REQUEST";

/// Whether a text is one of the markers on standard output, as a whole.
pub fn is_marker(text: &str) -> bool {
    let is_mime = |text: &str| text.contains('/') && !text.contains(char::is_whitespace);
    [ERROR, PANIC, CONTENT_ENDS].contains(&text)
        || [CHANGED_TYPE, QUESTION].iter().any(|marker| text.starts_with(marker))
        || text.strip_prefix(CONTENT_BEGINS).is_some_and(is_mime)
}

/// The path and the function of a command to run a cell.
pub fn cell_to_run(command: &str) -> Option<(&str, &str)> {
    command.strip_prefix(RUN)?.rsplit_once(' ')
}
