//! Variables that no cell can read any more, because a later cell has given another meaning to their name or to a name
//! in their type: `struct Stack` has become `struct Stack<T>`, or the variable `N` a constant.
//!
//! The source of each cell names all variables with their types, so no cell compiles. A cell of the kernel makes evcxr
//! forget them: in its source, the check of such a variable reports a changed type.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

use crate::compile::evcxr_text::protocol::CHANGED_TYPE;
use crate::compile::evcxr_text::source::{Use, use_of_variable};

/// File in a session's folder with the names of such variables.
const FILE: &str = "unreadable-variables";
/// Begin of the text that names the variables.
const MARK: &str = "headstart_loses ";

/// A cell that loses variables.
pub fn cell(names: &[String]) -> String {
    format!("let _ = \"{MARK}{}\";", names.join(" "))
}

/// The code of such a cell without its variables; `None` for another cell.
pub fn without_lost(body: &str) -> Option<String> {
    let (before, rest) = body.split_once(&format!("\"{MARK}"))?;
    let (names, after) = rest.split_once('"')?;
    let names: Vec<&str> = names.split(' ').collect();
    let body = format!("{before}\"\"{after}");
    let line = |line: &str| match use_of_variable(line) {
        Some((Use::Check, name)) if names.contains(&name) => format!(
            "vars_ok &= {{ std::eprintln!(\"The variable {name} was lost: its name or its type has another meaning \
             now.\"); std::println!(\"{CHANGED_TYPE}{name}\"); false }};\n"
        ),
        Some((_, name)) if names.contains(&name) => "\n".to_owned(),
        _ => line.to_owned(),
    };
    Some(body.split_inclusive('\n').map(line).collect())
}

/// The variables whose checks or takes are the cause of errors, in rustc's messages.
fn unreadable(messages: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if message["level"] != "error" {
            continue;
        }
        for span in
            message["spans"].as_array().into_iter().flatten().filter(|span| span["is_primary"] == true)
        {
            let line = span["text"][0]["text"].as_str().unwrap_or_default();
            if let Some((Use::Check | Use::Take, name)) = use_of_variable(line) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// Records the variables whose checks or takes did not compile in a cell of the session.
pub fn note(session: &Path, messages: &str) -> io::Result<()> {
    let names: Vec<String> = unreadable(messages).into_iter().collect();
    fs::write(session.join(FILE), names.join("\n"))
}

/// The variables whose checks or takes did not compile in the session's last cell.
pub fn noted(session: &Path) -> Vec<String> {
    fs::read_to_string(session.join(FILE)).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compile::evcxr_text::source::{check_line, put_line, take_line};

    #[test]
    fn the_variables_of_a_cell_that_loses_them_are_not_named() {
        let lines = |name: &str| check_line(name, "T") + &take_line(name, name, "T") + &put_line(name, "T");
        let body = lines("a") + &lines("s") + &cell(&["s".into(), "é".into()]) + "\n";
        let changed = without_lost(&body).unwrap();
        assert!(
            changed.starts_with(&lines("a")) && !changed.contains("variable::<T>(stringify!(s))"),
            "{changed}"
        );
        assert!(changed.contains("EVCXR_VARIABLE_CHANGED_TYPE:s\"") && changed.ends_with("let _ = \"\";\n"));
        assert_eq!(changed.lines().count(), body.lines().count());
        assert_eq!(without_lost(&lines("a")), None);
    }

    #[test]
    fn only_an_error_at_a_check_makes_a_variable_unreadable() {
        let message = |level: &str, line: &str, is_primary: bool| {
            let span = json!({"is_primary": is_primary, "text": [{"text": line.trim_end()}]});
            json!({"level": level, "message": "missing generics", "spans": [span]}).to_string() + "\n"
        };
        let messages = [
            message("error", &check_line("s", "Stack"), true),
            message("error", &take_line("N", "N", "i32"), true),
            message("error", &take_line("v", "v", "u8"), false),
            message("warning", &check_line("w", "u8"), true),
            message("error", "let a = b;", true),
            "text\n".into(),
        ];
        let session = tempfile::tempdir().unwrap();
        note(session.path(), &messages.concat()).unwrap();
        assert_eq!(noted(session.path()), ["N", "s"]);
        note(session.path(), "").unwrap();
        assert!(noted(session.path()).is_empty());
    }
}
