//! Commands of a cell, and the parts into which they divide it.
//!
//! evcxr would show the output of shell commands only at their end, run them in the kernel's environment, and not
//! handle Stop. It would also run only the commands before the code.

use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::compile::command_lines::is;
use crate::compile::evcxr_text::commands::{
    ALLOW_STATIC_LINKING, CACHE, CLEAR, QUIT, RESTART, SCCACHE, TOOLCHAIN,
};
use crate::compile::{cell, command_lines};
use crate::engine::interrupt::Cells;
use crate::engine::listen::Listener;
use crate::engine::output::CellError;
use crate::platform::{environment, programs};

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

/// Exit status of a shell if there is no such program.
const NOT_FOUND: i32 = 127;

/// evcxr's commands that would replace how the kernel compiles cells, each with the arguments that are allowed and
/// the reason.
const REFUSED: [(&str, &[&str], &str); 4] = [
    (SCCACHE, &["0"], CACHED),
    (CACHE, &["", "0"], CACHED),
    (ALLOW_STATIC_LINKING, &["1"], CACHED),
    (TOOLCHAIN, &[""], "cells link to the prelude, which another compiler cannot read"),
];
const CACHED: &str = "Headstart compiles cells through a compile cache of its own";

/// Error if a cell has a command that is not supported.
pub fn refused(cell: &str) -> Option<String> {
    command_lines::commands(cell).find_map(|line| {
        let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
        let (_, allowed, reason) = REFUSED.iter().find(|(refused, ..)| *refused == name)?;
        (!allowed.contains(&argument.trim()))
            .then(|| format!("`{name}` cannot be used: {reason}\nhint: remove the line"))
    })
}

/// Divides a cell at the commands after statements. Each part is a cell of its own: commands, and the code after them.
/// Blanks replace the other parts, so that positions stay the same.
pub fn parts(cell: &str) -> Vec<String> {
    let lines = command_lines::command_lines(cell);
    let is_quit = |range: &Range<usize>| is(&cell[range.clone()], QUIT);
    let mut begins = vec![0];
    let mut end = 0;
    for (at, range) in lines.iter().enumerate() {
        let is_after_code = !is_empty(&cell[end..range.start]);
        // evcxr's commands after the last statement need no part of their own.
        let is_last = is_empty(&cell::code(&cell[range.start..]))
            && lines[at..].iter().all(|range| cell[range.clone()].trim_start().starts_with(':'));
        if is_after_code && !is_last && !is_quit(range) {
            begins.push(range.start);
        }
        if !is_quit(range) || !is_after_code {
            end = range.end;
        }
    }
    let ends = begins.iter().skip(1).copied().chain([cell.len()]);
    begins.iter().zip(ends).map(|(begin, end)| cell::blanks(&cell[..*begin]) + &cell[*begin..end]).collect()
}

/// Whether text has no code: only empty lines and comments.
fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.starts_with("//"))
}

/// Splits off the steps up to the last shell command, `:clear` or `:restart` before the code. In the returned cell,
/// blank lines replace them.
pub fn split(cell: &str) -> (Vec<Step>, String) {
    let blank = |text: &str| "\n".repeat(text.matches('\n').count());
    let mut steps = Vec::new();
    // The lines that were handled, and those for evcxr since the last step.
    let (mut before, mut rest) = (String::new(), String::new());
    let mut at = 0;
    for range in command_lines::command_lines(cell) {
        let between = &cell[at..range.start];
        if !is_empty(between) {
            break;
        }
        let end = (range.end + 1).min(cell.len());
        let (text, line) = (cell[range.clone()].trim(), &cell[range.start..end]);
        rest += between;
        at = end;
        if !text.starts_with('!') && !is(text, CLEAR) && !is(text, RESTART) {
            rest += line;
            continue;
        }
        if rest.lines().any(|line| line.trim_start().starts_with(':')) {
            steps.push(Step::Evcxr(before.clone() + &rest));
            rest = blank(&rest);
        }
        before = before + &rest + &blank(line);
        rest.clear();
        steps.push(match text.strip_prefix('!') {
            Some(command) => Step::Shell(command.trim_start_matches('!').trim().to_owned()),
            None if is(text, RESTART) => Step::Restart,
            None => Step::Clear,
        });
    }
    (steps, before + &rest + &cell[at..])
}

/// Byte position of the commands after a cell's code, if only commands follow. evcxr itself handles those
/// before.
pub fn last_commands(cell: &str) -> Option<usize> {
    let mut begin = None;
    let mut end = cell.len();
    for range in command_lines::command_lines(cell).into_iter().rev() {
        if !is_empty(&cell[range.end..end]) {
            break;
        }
        end = range.start;
        begin = Some(range.start);
    }
    begin.filter(|begin| !is_empty(&cell::code(&cell[..*begin])))
}

/// Runs a command in the shell, in the folder that the cells have set; its output goes to the cell's output.
pub fn run(command: &str, cells: &Cells, listener: &Listener) -> Result<(), CellError> {
    let fails = |problem: String| CellError::new("CommandFailed", &format!("`{command}` {problem}"));
    let [out, err] = listener.outputs().map_err(|error| fails(error.to_string()))?;
    let mut shell = Command::new("sh");
    environment::restore(&mut shell);
    if let Some(folder) = cells.folder() {
        shell.current_dir(folder);
    }
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(out).stderr(err);
    // What it leaves in the background ends with the kernel.
    let status = shell.process_group(0).spawn().and_then(|mut shell| {
        let ended = programs::during_command(shell.id(), || shell.wait());
        cells.has_left(shell.id() as i32);
        ended
    });
    listener.finish_command();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let mut error = fails(format!("failed ({status})"));
            if status.code() == Some(NOT_FOUND) && is_expression(command) {
                error.traceback.push(format!("hint: for Rust's operator, write `(!{command})`"));
            }
            Err(error)
        }
        Err(error) => Err(fails(format!("cannot be started: {error}"))),
    }
}

/// Whether a command has the form of a Rust expression.
fn is_expression(command: &str) -> bool {
    syn::parse_str::<syn::Expr>(command).is_ok()
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
        assert_eq!(split(" !a \\\n b\nc"), (vec![shell("a \\\n b")], "\n\nc".into()));
        assert_eq!(split("!a").1, "");
        assert_eq!(split("f();\n:restart"), (vec![], "f();\n:restart".into()));
        assert_eq!(split(":clear\nlet a = 1;"), (vec![Step::Clear], "\nlet a = 1;".into()));
        assert_eq!(split(":clear // all\n:restart now").0, [Step::Clear, Step::Restart]);
        assert_eq!(split("// a\n:restart\na"), (vec![Step::Restart], "// a\n\na".into()));
    }

    #[test]
    fn commands_after_statements_begin_a_part() {
        let parts = |cell: &str| parts(cell).join("|");
        assert_eq!(
            parts("!ls\nf();\n!cat é\n// a\n:vars\ng();"),
            "!ls\nf();\n|   \n    \n!cat é\n// a\n:vars\ng();"
        );
        assert_eq!(parts("f(é)\n!ls"), "f(é)\n|     \n!ls");
        assert_eq!(
            parts("f();\n:dep a = \"1\"\n\ng();\n:clear\nh()"),
            "f();\n|    \n:dep a = \"1\"\n\ng();\n|    \n            \n\n    \n:clear\nh()"
        );
        assert_eq!(parts("f();\n:vars\n!ls"), "f();\n|    \n:vars\n!ls");
        for whole in [
            "",
            "f()",
            ":dep a\n!ls\n1",
            "f();\n:vars\n// b\n:timing",
            "f();\n:quit\ng();",
            "let s = \"\n!ls\n\";",
        ] {
            assert_eq!(parts(whole), whole);
        }
    }

    #[test]
    fn another_compile_cache_is_rejected() {
        for cell in [":sccache 1", "// a\n:dep a\n:sccache\nlet a = 1;", "let a = 1;\n:sccache 1"] {
            assert!(refused(cell).unwrap().contains("hint: remove the line"), "{cell}");
        }
        for cell in [" :sccache 1", ":cache 100", ":toolchain stable", ":allow_static_linking 0"] {
            assert!(refused(cell).unwrap().contains("hint: remove the line"), "{cell}");
        }
        for cell in
            [":cache", ":toolchain", ":sccache 0", "let a = \"\n:sccache 1\";", "f();\n// :sccache 1", ""]
        {
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
            ("let s = \"\n:vars\";\ns\n:types", Some(20)),
            ("// a\n:vars", None),
            ("f(a\n::b)", None),
            ("f(\n:vars", None),
        ] {
            assert_eq!(last_commands(cell), begin, "{cell}");
        }
    }
}
