//! What the command says in a terminal while somebody waits.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::prelude::template::Notice;

/// Where standard error is no terminal, such as in a log, a progress line comes this rarely.
const LOGGED: Duration = Duration::from_secs(30);
/// Clears the rest of a terminal's line.
const CLEAR: &str = "\x1b[K";

/// Whether the last line is progress, which the next thing said begins a new line after; when progress was logged.
static OPEN: Mutex<(bool, Option<Instant>)> = Mutex::new((false, None));

/// Prints a notice to standard error: progress over the last progress.
pub fn show(notice: &Notice) {
    let Ok(mut open) = OPEN.lock() else { return };
    match notice {
        Notice::Line(text) if open.0 => eprintln!("\n{text}"),
        Notice::Line(text) => eprintln!("{text}"),
        Notice::Progress(text) if std::io::stderr().is_terminal() => {
            eprint!("\r{text}{CLEAR}");
            let _ = std::io::stderr().flush();
        }
        Notice::Progress(text) => {
            if open.1.is_none_or(|logged| logged.elapsed() > LOGGED) {
                eprintln!("{text}");
                open.1 = Some(Instant::now());
            }
        }
    }
    open.0 = matches!(notice, Notice::Progress(_)) && std::io::stderr().is_terminal();
}

/// Begins a new line if the last one is progress.
pub fn end_progress() {
    if let Ok(mut open) = OPEN.lock()
        && std::mem::take(&mut open.0)
    {
        eprintln!();
    }
}
