//! Variables that no cell can take any more, because an item of a later cell has changed the meaning of their type or
//! of their name: `struct Stack` has become generic, or `const N` hides a variable `N`.
//!
//! evcxr checks the variables in every cell, so no cell would compile. The kernel then runs [`LOSE`], in which evcxr
//! drops these variables.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::compile::evcxr_text::source::{Use, lost_line, use_of_variable, variable_lines};

/// Cell whose compiled source reports the unusable variables to evcxr as lost.
pub const LOSE: &str = "let _ = \"headstart loses unusable variables\";";
/// File in a session's folder: rustc has refused the line of a variable.
const FOUND: &str = "unusable-variables";

/// Records whether rustc's messages about a source refuse a line of a variable.
pub fn note(session: &Path, messages: &str, source: &str) {
    let variables = variable_lines(source).unwrap_or_default();
    let is_variable = |(number, line): &(usize, String)| {
        use_of_variable(line).is_some_and(|(use_, _)| use_ != Use::Put) || variables.contains(number)
    };
    if refused(messages).iter().any(is_variable) {
        // Without the file, the cell shows rustc's error.
        let _ = fs::write(session.join(FOUND), "");
    }
}

/// Whether rustc has refused a line of a variable since the last call.
pub fn take(session: &Path) -> bool {
    fs::remove_file(session.join(FOUND)).is_ok()
}

/// The source of [`LOSE`] in which the variables that rustc has refused are lost. `None` for another source, or if the
/// messages are about no variable.
pub fn losing(source: &str, messages: &str) -> Option<String> {
    if !source.contains(LOSE) {
        return None;
    }
    let refused = refused(messages);
    let names: Vec<&str> =
        refused.iter().filter_map(|(_, line)| use_of_variable(line)).map(|(_, name)| name).collect();
    let lost = |line: &str| match use_of_variable(line) {
        Some((_, name)) if names.contains(&name) => lost_line(line).unwrap_or("\n".into()),
        _ => line.to_owned(),
    };
    (!names.is_empty()).then(|| source.split_inclusive('\n').map(lost).collect())
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
    use crate::compile::evcxr_text::source::{check_line, put_line, take_line};
    use serde_json::json;

    fn message(level: &str, number: usize, line: &str, is_primary: bool) -> String {
        let span =
            json!({"is_primary": is_primary, "line_start": number, "text": [{"text": line.trim_end()}]});
        format!("{}\n", json!({"level": level, "spans": [span]}))
    }

    #[test]
    fn refused_variables_are_lost_and_the_others_are_kept() {
        let lines = |name: &str, type_: &str| {
            [check_line(name, type_), take_line(name, name, type_), put_line(name, type_)]
        };
        let [stack, number, kept] = [lines("s", "Stack"), lines("N", "i32"), lines("k", "u8")];
        let source = [stack.concat(), number.concat(), kept.concat(), LOSE.to_owned()].concat();
        // A type is refused where it is checked, and a constant where it is taken.
        let messages = message("error", 1, &stack[0], true) + &message("error", 5, &number[1], true);
        let changed = losing(&source, &messages).unwrap();
        let lost = |name: &str| format!("vars_ok &= headstart::variables::lost(stringify!({name}));\n\n\n");
        assert_eq!(changed, [lost("s"), lost("N"), kept.concat(), LOSE.to_owned()].concat());
        assert_eq!(losing(&changed, &message("error", 1, "fn f() {", true)), None);
        assert_eq!(losing(&source.replace(LOSE, "f();"), &messages), None, "another cell is unchanged");
    }

    #[test]
    fn only_an_error_about_a_variable_is_noted() {
        let session = tempfile::tempdir().unwrap();
        let is_noted = |messages: &str, source: &str| {
            note(session.path(), messages, source);
            take(session.path())
        };
        let check = check_line("s", "Stack");
        assert!(is_noted(&message("error", 1, &check, true), &check));
        assert!(!take(session.path()), "once");
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
        assert!(is_noted(&message("error", number, line, true), analysed));
        assert!(!is_noted(&message("error", number - 1, line, true), analysed));
    }
}
