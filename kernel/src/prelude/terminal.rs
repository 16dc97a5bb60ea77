//! Messages of the command in a terminal while the user waits.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::prelude::template::Notice;

/// Minimum time between progress lines if standard error is not a terminal, as in a log (30 s).
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// ANSI sequence that clears the rest of a line.
const CLEAR: &str = "\x1b[K";

/// Whether the last line is progress, so that the next message must start a new line; and when progress was
/// last logged.
static OPEN: Mutex<(bool, Option<Instant>)> = Mutex::new((false, None));

/// Prints a notice to standard error. Progress overwrites earlier progress.
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
            if open.1.is_none_or(|logged| logged.elapsed() > LOG_INTERVAL) {
                eprintln!("{text}");
                open.1 = Some(Instant::now());
            }
        }
    }
    open.0 = matches!(notice, Notice::Progress(_)) && std::io::stderr().is_terminal();
}

/// Starts a new line if the last one is progress.
pub fn end_progress() {
    if let Ok(mut open) = OPEN.lock()
        && std::mem::take(&mut open.0)
    {
        eprintln!();
    }
}
