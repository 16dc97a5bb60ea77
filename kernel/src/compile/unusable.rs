//! Variables that no cell can take any more, because an item of a later cell has changed the meaning of their type or
//! of their name: `struct Stack` has become generic, or `const N` hides a variable `N`.
//!
//! evcxr checks the variables in every cell, so no cell would compile. The kernel then runs [`cell`], in which evcxr
//! drops these variables.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::compile::evcxr_text::source::{Use, lost_line, use_of_variable, variable_lines};

/// Begin of a cell whose compiled source reports the variables that it names to evcxr as lost.
const LOSE: &str = "let _ = \"headstart loses unusable variables:";
/// File in a session's folder with the names of the variables whose lines rustc has refused.
const FOUND: &str = "unusable-variables";

/// The cell that loses variables.
pub fn cell(names: &str) -> String {
    format!("{LOSE} {names}\";")
}

/// Records the variables whose lines rustc's messages about a source refuse.
pub fn note(session: &Path, messages: &str, source: &str) {
    let variables = variable_lines(source).unwrap_or_default();
    let name = |number: usize, line: &str| match use_of_variable(line) {
        Some((use_, name)) => (use_ != Use::Put).then(|| name.to_owned()),
        None if variables.contains(&number) => {
            let (name, _) = line.split_once(':')?;
            Some(name.trim().trim_start_matches("mut ").to_owned())
        }
        None => None,
    };
    let names: BTreeSet<String> =
        refused(messages).iter().filter_map(|(number, line)| name(*number, line)).collect();
    if !names.is_empty() {
        // Without the file, the cell shows rustc's error.
        let _ = fs::write(session.join(FOUND), names.into_iter().collect::<Vec<_>>().join(" "));
    }
}

/// Variables that rustc has refused since the last call.
pub fn take(session: &Path) -> Option<String> {
    let names = fs::read_to_string(session.join(FOUND)).ok()?;
    fs::remove_file(session.join(FOUND)).ok()?;
    Some(names)
}

/// The source of [`cell`] in which its variables are lost. `None` for another source.
pub fn losing(source: &str) -> Option<String> {
    let (_, rest) = source.split_once(LOSE)?;
    let names: Vec<&str> = rest.split('"').next()?.split_whitespace().collect();
    let lost = |line: &str| match use_of_variable(line) {
        Some((_, name)) if names.contains(&name) => lost_line(line).unwrap_or("\n".into()),
        _ => line.to_owned(),
    };
    Some(source.split_inclusive('\n').map(lost).collect())
}

/// Lines of the source at which rustc reports an error, each with its number.
fn refused(messages: &str) -> Vec<(usize, String)> {
    let errors = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut lines = Vec::new();
    for error in errors.filter(|error| error["level"] == "error") {
        for span in error["spans"].as_array().into_iter().flatten() {
            if let (true, Some(number), Some(line)) =
                (span["is_primary"] == true, span["line_start"].as_u64(), span["text"][0]["text"].as_str())
            {
                lines.push((number as usize, line.to_owned()));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::evcxr_text::source::{check_line, put_line, take_line, with_replaced_check};
    use serde_json::json;

    fn message(level: &str, number: usize, line: &str, is_primary: bool) -> String {
        let span =
            json!({"is_primary": is_primary, "line_start": number, "text": [{"text": line.trim_end()}]});
        format!("{}\n", json!({"level": level, "spans": [span]}))
    }

    #[test]
    fn named_variables_are_lost_and_the_others_are_kept() {
        let lines = |name: &str, type_: &str| {
            [check_line(name, type_), take_line(name, name, type_), put_line(name, type_)].concat()
        };
        let [stack, number, kept] = [lines("s", "Stack"), lines("N", "i32"), lines("k", "u8")];
        let source = [&stack, &number, &kept, &*cell("N s")].concat();
        let lost = |name: &str| format!("vars_ok &= headstart::variables::lost(stringify!({name}));\n\n\n");
        assert_eq!(losing(&source), Some([lost("s"), lost("N"), kept, cell("N s")].concat()));
        assert_eq!(losing(&[&*stack, "f();"].concat()), None, "another cell is unchanged");
    }

    #[test]
    fn only_an_error_about_a_variable_is_noted() {
        let session = tempfile::tempdir().unwrap();
        let noted = |messages: &str, source: &str| {
            note(session.path(), messages, source);
            take(session.path())
        };
        let is_noted = |messages: &str, source: &str| noted(messages, source).is_some();
        let check = check_line("s", "Stack");
        assert_eq!(noted(&message("error", 1, &check, true), &check).as_deref(), Some("s"));
        assert_eq!(take(session.path()), None, "once");
        let replaced = with_replaced_check(&check);
        assert!(is_noted(&message("error", 1, &replaced, true), &replaced));
        for (messages, why) in [
            (message("warning", 1, &check, true), "a warning"),
            (message("error", 1, &check, false), "a label"),
            (message("error", 1, &put_line("s", "Stack"), true), "evcxr handles a variable that was moved"),
            (message("error", 1, "s.len();", true), "the user's code"),
            ("error: no JSON\n".to_owned(), "another text"),
        ] {
            assert!(!is_noted(&messages, &check), "{why}");
        }
        let analysed = include_str!("evcxr_text/golden/question.analysis.txt");
        let number = variable_lines(analysed).unwrap().start;
        let line = analysed.lines().nth(number - 1).unwrap();
        assert!(line.ends_with(','), "{line}");
        assert_eq!(noted(&message("error", number, line, true), analysed).as_deref(), Some("text"));
        assert!(!is_noted(&message("error", number - 1, line, true), analysed));
    }
}
