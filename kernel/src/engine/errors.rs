//! Errors of cells, as shown to the user.

use std::collections::BTreeSet;

use crate::engine::output::CellError;

/// Kinds of errors that concern the session and not a cell: each later cell would fail in the same way.
const START: &str = "StartError";
const STOPPED: &str = "EngineStopped";

const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

impl CellError {
    /// Creates an error from its text; the first line is its value.
    pub fn new(name: &str, text: &str) -> CellError {
        let text = text.trim_end();
        let value = text.lines().next().unwrap_or(name).to_owned();
        let mut lines = text.lines();
        let first = format!("{RED}{name}{PLAIN}: {}", lines.next().unwrap_or_default());
        let traceback = std::iter::once(first).chain(lines.map(str::to_owned)).collect();
        CellError { name: name.to_owned(), value, traceback }
    }

    /// Creates an error for a panic, or for a `?`, with the line in the cell if it is known.
    pub fn at(name: &str, message: &str, line: Option<(usize, &str)>) -> CellError {
        let mut error = CellError::new(name, message);
        if let Some((number, text)) = line {
            error.traceback.push(format!("{number:>4} │ {text}"));
        }
        error
    }

    /// Creates an error for a session that cannot start.
    pub fn start(problem: &str) -> CellError {
        CellError::new(START, problem)
    }

    /// Creates an error for an engine that ended during the cell.
    pub fn engine_stopped() -> CellError {
        let text = "the engine stopped before the cell finished\nhint: restart the kernel";
        CellError::new(STOPPED, text)
    }

    /// Whether no later cell of the session can run.
    pub fn is_of_session(&self) -> bool {
        [START, STOPPED].contains(&self.name.as_str())
    }

    /// Creates an error for an interrupted cell. `removed`: the variables that its code or commands had moved or
    /// cleared before.
    pub fn interrupted(when: &str, removed: &BTreeSet<String>) -> CellError {
        let variables = match removed.is_empty() {
            true => "all variables keep their values".to_owned(),
            false => format!("it had removed {}", list(removed)),
        };
        CellError::new("Interrupted", &format!("the cell stopped {when}; {variables}"))
    }

    /// Creates an error for the end of the cells' process, with the panic that ended it and the variables that it
    /// contained. `checkpoints`: the models with checkpoints.
    pub fn process_ended(
        how: &str,
        interrupted: bool,
        fatal: Option<&str>,
        variables: &BTreeSet<String>,
        checkpoints: &BTreeSet<String>,
    ) -> CellError {
        let lost = match variables.is_empty() {
            true => "It contained no variables.".to_owned(),
            false => format!("Lost with it: {}.", list(variables)),
        };
        let recovery = match checkpoints.is_empty() {
            true => String::new(),
            false => format!(
                "\nhint: build the model again, then call `recover()?` on it: checkpoints of {} exist",
                list(checkpoints)
            ),
        };
        let (name, what) = match interrupted {
            true => ("Interrupted", "the cell did not stop, so its process was killed"),
            false => ("ProcessEnded", how.trim_end()),
        };
        let is_fault = ["SIGSEGV", "SIGABRT", "SIGBUS"].iter().any(|signal| how.contains(signal));
        let what = match fatal {
            Some(panic) if !interrupted => format!(
                "{what}\na panic ended it: {panic}\n\
                 hint: a panic must not leave an `extern` function, or a `drop` that runs during another panic"
            ),
            None if is_fault && !interrupted => format!(
                "{what}\nhint: the usual causes are a recursion that does not end (a stack overflow), an allocation \
                 larger than the memory, and `unsafe` code"
            ),
            None if how.contains("SIGILL") && !interrupted => format!(
                "{what}\nhint: the usual cause is a library that was compiled for another processor, as with \
                 `-C target-cpu=native`: run `headstart cache clear` without that option"
            ),
            None if how.contains("SIGKILL") && !interrupted => {
                format!(
                    "{what}\nhint: the usual cause is that the memory ran out, so that the system ended the process"
                )
            }
            _ => what.to_owned(),
        };
        CellError::new(name, &format!("{what}\n{lost}\nThe next cell runs in a new process.{recovery}"))
    }

    /// The text without colours, for terminals without colour support.
    pub fn plain(&self) -> String {
        without_colours(&self.traceback.join("\n"))
    }

    /// The text without colours and without the kind of error at its start.
    pub fn message(&self) -> String {
        let text = self.plain();
        text.strip_prefix(&format!("{}: ", self.name)).unwrap_or(&text).to_owned()
    }
}

fn list(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Removes ANSI escape sequences.
pub fn without_colours(coloured: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in coloured.chars() {
        match (inside, c) {
            (false, '\u{1b}') => inside = true,
            (true, 'a'..='z' | 'A'..='Z') => inside = false,
            (true, _) => {}
            (false, c) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_has_no_colours() {
        let error = CellError::new("Error", "one\ntwo");
        assert_eq!((error.plain(), error.message()), ("Error: one\ntwo".into(), "one\ntwo".into()));
    }

    #[test]
    fn the_usual_cause_of_a_signal_is_named() {
        let none = BTreeSet::new();
        let text = |signal: &str| {
            let how = format!("Subprocess terminated with status: signal: 0 ({signal})");
            CellError::process_ended(&how, false, None, &none, &none).plain()
        };
        for (signal, cause) in [
            ("SIGSEGV", "a stack overflow"),
            ("SIGILL", "for another processor"),
            ("SIGKILL", "the memory ran out"),
        ] {
            assert!(text(signal).contains(cause), "{}", text(signal));
        }
    }

    #[test]
    fn an_interrupted_cell_names_the_removed_variables() {
        let message = |names: &[&str]| {
            let names = names.iter().map(|name| name.to_string()).collect();
            CellError::interrupted("while a command ran", &names).value
        };
        assert_eq!(message(&[]), "the cell stopped while a command ran; all variables keep their values");
        assert_eq!(message(&["a", "b"]), "the cell stopped while a command ran; it had removed a, b");
    }
}
