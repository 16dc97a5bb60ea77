//! The program that cargo runs in place of rustc (`RUSTC_WRAPPER`). It returns results from the compile
//! cache or from compilation ahead, or runs rustc on the rewritten source of a cell.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::compile::compilation::Compilation;
use crate::compile::evcxr_text::source::{CRATE_NAME, FILE, OPTIMISATION};
use crate::compile::{handover, moved, timing, unusable, warnings};
use crate::platform::{PARSER_STACK, rustc_wrapper};
use crate::prelude::facade::{ERRORS, PRELUDE};

/// Optimisation level of cells, in place of evcxr's. Most loops are as fast, some take up to twice as long;
/// every cell compiles faster.
const OUR_LEVEL: &str = "-Copt-level=s";
const NOT_OPTIMISED: &str = "-Copt-level=0";

/// If cargo started this program in place of rustc, compiles the crate and does not return.
pub fn hook() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(folder), Some(rustc)) = (rustc_wrapper::folder(), arguments.next()) else { return };
    if Path::new(&rustc).file_stem().is_none_or(|name| name != "rustc") {
        return;
    }
    let mut arguments: Vec<OsString> = arguments.collect();
    arguments.extend(our_level(&arguments).map(OsString::from));
    let session = std::env::current_dir().unwrap_or_default();
    let read = || Compilation::in_session(Path::new(&folder), session.to_str()?, &arguments);
    let cell = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, read);
        thread.ok()?.join().ok().flatten()
    });
    let status = match cell {
        Some(cell) => cell.answer(Command::new(&rustc).args(&arguments)),
        None => Err(Command::new(&rustc).args(&arguments).exec()),
    };
    std::process::exit(status.unwrap_or_else(|error| {
        eprintln!("error: {}: {error}", rustc.display());
        1
    }));
}

/// Optimisation level of a cell and of the libraries with code that cells share (facade/), if it differs
/// from evcxr's. At evcxr's level, rustc would compile the shared code again in each cell.
fn our_level(arguments: &[OsString]) -> Option<&'static str> {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    match has(OPTIMISATION) {
        true if has(CRATE_NAME) || has(PRELUDE) => Some(OUR_LEVEL),
        true if has(ERRORS) => Some(NOT_OPTIMISED),
        _ => None,
    }
}

impl Compilation {
    /// Compiles the cell as rustc would, and returns the exit status.
    fn answer(&self, rustc: &mut Command) -> io::Result<i32> {
        if let Some(problem) = &self.problem {
            // The format in which rustc reports to cargo.
            let message =
                format!("the cell cannot be compiled with the variables of the other cells: {problem}");
            let diagnostic = json!({
                "$message_type": "diagnostic", "message": message, "code": null, "level": "error", "spans": [],
                "children": [], "rendered": format!("error: {message}\n"),
            });
            self.report(&format!("{diagnostic}\n"))?;
            return Ok(1);
        }
        // A failure only costs speed.
        let _ = handover::note(&self.session, rustc);
        if let Ok((status, messages)) = self.recall() {
            self.report(&messages)?;
            return Ok(status);
        }
        let output = match handover::take(Path::new(&self.session), self.name(), self.out()) {
            Some(output) => output,
            None => self.compile(rustc, self.changed())?,
        };
        let output = match &self.second {
            Some(second) if !output.status.success() => self.compile(rustc, Some(second))?,
            _ => output,
        };
        if !output.status.success() {
            let session = Path::new(&self.session);
            let source = fs::read_to_string(session.join(FILE))?;
            unusable::note(session, &String::from_utf8_lossy(&output.stderr), &source);
        }
        io::stdout().write_all(&output.stdout)?;
        self.report(&String::from_utf8_lossy(&output.stderr))?;
        // A failure only costs speed.
        let _ = self.add(output.status, &String::from_utf8_lossy(&output.stderr));
        Ok(output.status.code().unwrap_or(1))
    }

    fn compile(&self, rustc: &mut Command, source: Option<&str>) -> io::Result<Output> {
        let session = Path::new(&self.session);
        if let Some(source) = source {
            replace(&session.join(FILE), source)?;
        }
        let has_linker = rustc.get_args().any(|argument| argument.to_string_lossy().starts_with("linker="));
        if let Some(linker) = timing::linker(session).filter(|_| !has_linker) {
            rustc.arg(format!("-Clinker={}", linker.display()));
        }
        rustc.output()
    }

    /// Writes rustc's messages, without warnings and labels that mislead evcxr, to standard error for cargo.
    fn report(&self, messages: &str) -> io::Result<()> {
        let errors = warnings::split_off(Path::new(&self.session), messages);
        io::stderr().write_all(moved::without_labels(&errors).as_bytes())
    }
}

/// Writes a file and keeps its modification time.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let modified = fs::metadata(path)?.modified()?;
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.set_modified(modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_with_a_problem_is_not_compiled() {
        let session = tempfile::tempdir().unwrap();
        let arguments = ["--crate-name", CRATE_NAME, "--out-dir", "."];
        let path = session.path().to_str().unwrap();
        let mut cell = Compilation::new(Path::new("cells"), path, &arguments, "fn f() {}").unwrap();
        cell.problem = Some("why".into());
        assert_eq!(cell.answer(&mut Command::new("false")).unwrap(), 1);
    }
}
