//! rustc warnings that are shown to the user: unused results.
//!
//! evcxr treats warnings as errors, and shows none for a cell that compiles. So the wrapper removes all
//! warnings from rustc's output, and passes those of one lint through a file of the session.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// File in a session's folder with the warnings of the last compiled cell.
const FILE: &str = "warnings";
/// Lint whose warnings are shown.
const LINT: &str = "unused_must_use";

/// Stores the warnings to show, one per line, for [`take`]. Returns the other messages without warnings.
pub fn split_off(session: &Path, messages: &str) -> String {
    let is_warning =
        |line: &&str| line.contains("\"level\":\"warning\"") && parse(line)["level"] == "warning";
    let shown: String =
        messages.split_inclusive('\n').filter(|line| line.contains(LINT)).filter(is_warning).collect();
    let file = session.join(FILE);
    // A failure only loses a hint.
    let _ = match shown.is_empty() {
        true => fs::remove_file(file),
        false => fs::write(file, shown),
    };
    messages.split_inclusive('\n').filter(|line| !is_warning(line)).collect()
}

/// Takes the warnings about the last compiled cell, each with its line in the compiled source.
pub fn take(session: &Path) -> Vec<(String, usize)> {
    let file = session.join(FILE);
    let Ok(messages) = fs::read_to_string(&file) else { return Vec::new() };
    let _ = fs::remove_file(file);
    messages
        .lines()
        .map(parse)
        .filter(|message| message["code"]["code"] == LINT)
        .filter_map(|message| {
            let spans = message["spans"].as_array()?;
            let span = spans.iter().find(|span| span["is_primary"] == true)?;
            let line = usize::try_from(span["line_start"].as_u64()?).ok()?;
            Some((message["message"].as_str()?.to_owned(), line))
        })
        .collect()
}

/// Hint for a warning.
pub fn remedy(message: &str) -> &'static str {
    if message.contains("`Result`") || message.contains("`std::result::Result`") {
        "hint: put `?` after it, to see its error, or write `let _ = …` if that does not matter"
    } else {
        "hint: use its value, or write `let _ = …`"
    }
}

/// Parses a message of rustc, which cargo may have wrapped in one of its own.
fn parse(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_default();
    if message["message"].is_object() { message["message"].clone() } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_warning_is_stored_and_none_is_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let message = |level: &str, lint: &str| {
            format!(
                "{{\"message\":\"unused `Result` that must be used\",\"code\":{{\"code\":\"{lint}\"}},\
                 \"level\":\"{level}\",\"spans\":[{{\"line_start\":7,\"is_primary\":true}}]}}\n"
            )
        };
        let error = message("error", "E0308");
        let messages =
            [message("warning", "unused_macros"), message("warning", LINT), error.clone()].concat();
        assert_eq!(split_off(folder.path(), &messages), error);
        assert_eq!(take(folder.path()), [("unused `Result` that must be used".to_owned(), 7)]);
        assert!(take(folder.path()).is_empty(), "once");
        split_off(folder.path(), &message("warning", LINT));
        assert_eq!(split_off(folder.path(), &error), error);
        assert!(take(folder.path()).is_empty(), "those of an earlier cell are not shown");
    }
}
