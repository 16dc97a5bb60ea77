//! Shell commands of a cell: lines that begin with `!`, before its code.
//!
//! evcxr would show their output only at their end, run them in the kernel's environment, and not handle
//! Stop.

use std::process::{Command, Stdio};

use crate::compile::completeness::{Completeness, completeness};
use crate::compile::evcxr_text::commands::{CLEAR, RESTART, SCCACHE, is_command};
use crate::engine::listen::Listener;
use crate::engine::output::CellError;
use crate::platform::environment;

/// A step that is executed before a cell's code.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Lines for evcxr, such as `:dep`, at their position in the cell.
    Evcxr(String),
    Shell(String),
    /// `:clear`; the prelude must be loaded again after it.
    Clear,
    /// `:restart`; the code after it must not take the variables of the ended process.
    Restart,
}

/// Whether a line can stand before a cell's code: evcxr accepts commands up to the first line of code.
fn is_before_code(line: &str) -> bool {
    line.is_empty() || line.starts_with(['!', ':']) || line.starts_with("//")
}

/// Error if a cell has a command that is not supported.
pub fn refused(cell: &str) -> Option<String> {
    let first = cell.lines().map(str::trim_end).take_while(|line| is_before_code(line));
    let last = last_commands(cell).map_or("", |at| &cell[at..]).lines();
    let mut sccache = first.chain(last).filter_map(|line| line.strip_prefix(SCCACHE));
    sccache.any(|argument| argument.trim() != "0").then(|| {
        format!("`{SCCACHE}` cannot be used: Headstart compiles cells through a compile cache of its own\nhint: remove the line")
    })
}

/// Splits off the steps up to the last shell command, `:clear` or `:restart`. In the returned cell, blank
/// lines replace them.
pub fn split(cell: &str) -> (Vec<Step>, String) {
    let mut steps = Vec::new();
    let (mut before, mut rest) = (String::new(), String::new());
    let mut at = 0;
    for line in cell.split_inclusive('\n') {
        let text = line.trim_end();
        if !is_before_code(text) {
            break;
        }
        at += line.len();
        if !text.starts_with('!') && ![CLEAR, RESTART].contains(&text) {
            rest += line;
            continue;
        }
        let blank = |text: &str| "\n".repeat(text.matches('\n').count());
        if rest.lines().any(|line| line.starts_with(':')) {
            steps.push(Step::Evcxr(before.clone() + &rest));
            rest = blank(&rest);
        }
        before = before + &rest + &blank(line);
        rest.clear();
        steps.push(match text.strip_prefix('!') {
            Some(command) => Step::Shell(command.trim_start_matches('!').trim().to_owned()),
            None if text == RESTART => Step::Restart,
            None => Step::Clear,
        });
    }
    (steps, before + &rest + &cell[at..])
}

/// Byte position of the commands after a cell's code, if only commands follow. evcxr itself handles those
/// before.
pub fn last_commands(cell: &str) -> Option<usize> {
    let is_empty = |line: &str| line.trim().is_empty() || line.starts_with("//");
    let mut begin = None;
    let mut position = 0;
    let mut has_code = false;
    for line in cell.split_inclusive('\n') {
        if is_command(line) {
            begin = begin.or(has_code.then_some(position));
        } else if !is_empty(line) {
            (begin, has_code) = (None, true);
        }
        position += line.len();
    }
    // Excludes lines in strings and between brackets.
    begin.filter(|begin| completeness(&cell[..*begin]) == Completeness::Complete)
}

/// Runs a command in the shell; its output goes to the cell's output.
pub fn run(command: &str, listener: &Listener) -> Result<(), CellError> {
    let fails = |problem: String| CellError::new("CommandFailed", &format!("`{command}` {problem}"));
    let [out, err] = listener.outputs().map_err(|error| fails(error.to_string()))?;
    let mut shell = Command::new("sh");
    environment::restore(&mut shell);
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(out).stderr(err);
    let status = shell.status();
    listener.finish_command();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(fails(format!("failed ({status})"))),
        Err(error) => Err(fails(format!("cannot be started: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_off_in_order_and_lines_keep_their_positions() {
        let shell = |command: &str| Step::Shell(command.into());
        assert_eq!(
            split("!ls -l\n// a\n!  pwd\nlet a = !b;\n!c"),
            (vec![shell("ls -l"), shell("pwd")], "\n// a\n\nlet a = !b;\n!c".into())
        );
        let steps = vec![Step::Evcxr("\n:env A=1\n".into()), shell("echo $A")];
        let (found, rest) = split("\n:env A=1\n!echo $A\n:vars\na");
        assert_eq!((found, rest.as_str()), (steps, "\n\n\n:vars\na"));
        assert_eq!(split("a\n!b").0, []);
        assert_eq!(split(":clear\nlet a = 1;"), (vec![Step::Clear], "\nlet a = 1;".into()));
        assert_eq!(split("// a\n:restart\na"), (vec![Step::Restart], "// a\n\na".into()));
    }

    #[test]
    fn another_compile_cache_is_rejected() {
        for cell in [":sccache 1", "// a\n:dep a\n:sccache\nlet a = 1;", "let a = 1;\n:sccache 1"] {
            assert!(refused(cell).unwrap().contains("hint: remove the line"), "{cell}");
        }
        for cell in [":sccache 0", "let a = \"\n:sccache 1\";", "f();\n// :sccache 1", ""] {
            assert_eq!(refused(cell), None, "{cell}");
        }
    }

    #[test]
    fn commands_after_code_are_found() {
        for (cell, begin) in [
            ("let p = 1;\n:vars\n\n:types\n", Some(11)),
            ("p\n:vars", Some(2)),
            (":vars", None),
            (":dep a\nlet p = 1;", None),
            ("let p = 1;\n:vars\nlet q = 2;", None),
            ("let s = \"\n:vars\n\";", None),
            ("f(a\n::b)", None),
            ("f(\n:vars", None),
        ] {
            assert_eq!(last_commands(cell), begin, "{cell}");
        }
    }
}
