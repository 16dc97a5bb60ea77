//! The protocol between evcxr and the cells' process: lines and environment variables.

/// Environment variable with the folder in which evcxr compiles cells.
pub const FOLDER_VARIABLE: &str = "EVCXR_TMPDIR";
/// Environment variable that is set in the process that runs the cells.
pub const RUNTIME_VARIABLE: &str = "EVCXR_IS_RUNTIME";

/// Prefix of the command that loads a cell's library and runs a function in it.
pub const RUN: &str = "LOAD_AND_RUN ";
/// Line that ends a cell.
pub const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";

/// Prefix of every marker on the cells' standard output.
pub const MARKER: &str = "EVCXR_";
/// A `?` returned an error.
pub const ERROR: &str = "EVCXR_ERROR_OCCURRED";
/// The cell panicked.
pub const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
/// Prefix of a line that ends with the name of a variable whose type was redefined.
pub const CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// Prefix of a line that ends with the MIME type of the following lines.
pub const CONTENT_BEGINS: &str = "EVCXR_BEGIN_CONTENT ";
/// Line after a content.
pub const CONTENT_ENDS: &str = "EVCXR_END_CONTENT";
/// Prefix of an input request of the crate `evcxr_input`.
pub const QUESTION: &str = "EVCXR_INPUT_REQUEST";

/// Whether the whole text is one marker on standard output.
pub fn is_marker(text: &str) -> bool {
    let is_mime = |text: &str| text.contains('/') && !text.contains(char::is_whitespace);
    [ERROR, PANIC, CONTENT_ENDS].contains(&text)
        || [CHANGED_TYPE, QUESTION].iter().any(|marker| text.starts_with(marker))
        || text.strip_prefix(CONTENT_BEGINS).is_some_and(is_mime)
}

/// Path of the library and name of the function in a command that runs a cell.
pub fn cell_to_run(command: &str) -> Option<(&str, &str)> {
    command.strip_prefix(RUN)?.rsplit_once(' ')
}
