//! The warnings of rustc that a cell's user is to see: a result that nobody looks at.
//!
//! evcxr takes warnings for errors, and shows none of a cell that compiles. So none reaches it: those of one kind go
//! through a file of the session.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// In a session's folder, what the last compiled cell is to be warned of.
const FILE: &str = "warnings";
/// The lint whose warnings are shown.
const LINT: &str = "unused_must_use";

/// Keeps what is to be shown of rustc's messages, a line each, for [`take`]; gives the rest, without warnings.
pub fn sort_out(session: &Path, messages: &str) -> String {
    let is_warning =
        |line: &&str| line.contains("\"level\":\"warning\"") && parse(line)["level"] == "warning";
    let shown: String =
        messages.split_inclusive('\n').filter(|line| line.contains(LINT)).filter(is_warning).collect();
    let file = session.join(FILE);
    // Only a hint depends on it.
    let _ = match shown.is_empty() {
        true => fs::remove_file(file),
        false => fs::write(file, shown),
    };
    messages.split_inclusive('\n').filter(|line| !is_warning(line)).collect()
}

/// What rustc says of the cell that was compiled last, each with its line in what was compiled.
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

/// What to write, by what rustc says.
pub fn remedy(message: &str) -> &'static str {
    if message.contains("`Result`") || message.contains("`std::result::Result`") {
        "hint: put `?` after it, to see its error, or write `let _ = …` if that does not matter"
    } else {
        "hint: use its value, or write `let _ = …`"
    }
}

/// A message of rustc's, which cargo may have put into one of its own.
fn parse(line: &str) -> Value {
    let message: Value = serde_json::from_str(line).unwrap_or_default();
    if message["message"].is_object() { message["message"].clone() } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_warning_is_kept_and_none_is_passed_on() {
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
        assert_eq!(sort_out(folder.path(), &messages), error);
        assert_eq!(take(folder.path()), [("unused `Result` that must be used".to_owned(), 7)]);
        assert!(take(folder.path()).is_empty(), "once");
        sort_out(folder.path(), &message("warning", LINT));
        assert_eq!(sort_out(folder.path(), &error), error);
        assert!(take(folder.path()).is_empty(), "those of an earlier cell are not shown");
    }
}
