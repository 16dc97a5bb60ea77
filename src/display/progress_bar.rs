//! Progress bars.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Bundle, Display, Show, Sink, display, escape, is_live_terminal, sink};

/// Shortest time between two updates of a display (100 ms).
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Length of the bar, in characters.
const WIDTH: usize = 20;

/// The state of a progress bar.
pub(crate) struct Bar {
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) text: String,
}

impl Show for Bar {
    fn bundle(&self) -> Bundle {
        let text = escape(&self.text);
        let html = format!(
            "<span style=\"white-space:nowrap\"><progress value=\"{}\" max=\"{}\" style=\"width:16em\"></progress> <code>{text}</code></span>",
            self.done,
            self.total.max(1)
        );
        let plain = format!("{} {}", blocks(self.done, self.total), self.text);
        vec![("text/plain".into(), plain), ("text/html".into(), html)]
    }
}

/// Draws the bar in block characters.
pub(crate) fn blocks(done: usize, total: usize) -> String {
    let filled = (WIDTH * done).checked_div(total).unwrap_or(WIDTH).min(WIDTH);
    "━".repeat(filled) + &"╌".repeat(WIDTH - filled)
}

/// The progress bar of a download, in the notebook or on one line of the terminal.
pub(crate) struct ProgressBar {
    what: String,
    total: u64,
    done: u64,
    shown: Option<Display>,
    last: Instant,
}

impl ProgressBar {
    /// Creates a bar for `total` bytes.
    pub(crate) fn new(what: &str, total: u64) -> ProgressBar {
        let mut bar = ProgressBar { what: what.into(), total, done: 0, shown: None, last: Instant::now() };
        bar.shown = (sink() == Sink::Kernel).then(|| display(&bar.bar()));
        bar
    }

    /// Sets the number of bytes received.
    pub(crate) fn set(&mut self, done: u64) {
        self.done = done;
        if self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            self.show();
        }
    }

    /// Shows the final state.
    pub(crate) fn finish(mut self) {
        self.total = self.done;
        self.show();
        if is_live_terminal() {
            println!();
        }
    }

    fn bar(&self) -> Bar {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let text = format!("{}: {:.1} of {:.1} MB", self.what, megabytes(self.done), megabytes(self.total));
        Bar { done: self.done as usize, total: self.total as usize, text }
    }

    fn show(&self) {
        match &self.shown {
            Some(shown) => shown.update(&self.bar()),
            None if is_live_terminal() => {
                let Bar { done, total, text } = self.bar();
                print!("\r{} {text}", blocks(done, total));
                let _ = std::io::stdout().flush();
            }
            None => {}
        }
    }
}
