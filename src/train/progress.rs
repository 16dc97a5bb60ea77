//! The output of a running `fit`: Keras's lines, a progress bar and a live chart.

use std::io::Write;
use std::time::{Duration, Instant};

use super::History;
use crate::display::{Bar, Display, INTERVAL, Sink, blocks, display, is_live_terminal, sink};

/// Shows the progress of a `fit`. Display errors are ignored, so that they cannot end the training.
pub(crate) struct Progress {
    epochs: usize,
    batches: usize,
    verbose: bool,
    chart: bool,
    bar_display: Option<Display>,
    chart_display: Option<Display>,
    begin: Instant,
    epoch_begin: Instant,
    last_update: Instant,
    epoch: usize,
    /// The number of finished batches in the current epoch.
    batch: usize,
    /// Whether the remaining time has been estimated.
    is_estimated: bool,
}

/// How long an epoch runs before the remaining time is estimated (10 s).
const ESTIMATE_AFTER: Duration = Duration::from_secs(10);

type Row = [(String, f64)];

impl Progress {
    pub(crate) fn new(epochs: usize, batches: usize, verbose: bool, chart: bool) -> Progress {
        let now = Instant::now();
        let total = epochs.saturating_mul(batches);
        let bar_display = (verbose && sink() == Sink::Kernel)
            .then(|| display(&Bar { done: 0, total, text: "starting".into() }));
        Progress {
            epochs,
            batches,
            verbose,
            chart: chart && sink() != Sink::Terminal,
            bar_display,
            chart_display: None,
            begin: now,
            epoch_begin: now,
            last_update: now,
            epoch: 0,
            batch: 0,
            is_estimated: false,
        }
    }

    /// Displays the empty chart, above the lines of the epochs.
    pub(crate) fn training_begins(&mut self, history: &History) {
        if sink() == Sink::Kernel {
            self.draw(history);
        }
    }

    pub(crate) fn epoch_begins(&mut self, epoch: usize) {
        self.epoch_begin = Instant::now();
        (self.epoch, self.batch) = (epoch, 0);
        if self.verbose {
            println!("Epoch {epoch}/{}", self.epochs);
        }
    }

    /// The current epoch, from 1, and the number of its finished batches.
    pub(crate) fn position(&self) -> (usize, usize) {
        (self.epoch, self.batch)
    }

    pub(crate) fn batch_ends(&mut self, row: &Row) {
        self.batch += 1;
        let (epoch, batch) = self.position();
        if !self.verbose || self.last_update.elapsed() < INTERVAL {
            return;
        }
        self.last_update = Instant::now();
        if let Some(display) = &self.bar_display {
            let text =
                format!("epoch {epoch}/{} · batch {batch}/{} · {}", self.epochs, self.batches, list(row));
            let done = (epoch - 1) * self.batches + batch;
            display.update(&Bar { done, total: self.total(), text });
        } else if is_live_terminal() {
            print!("\r{}", self.line(batch, row));
            let _ = std::io::stdout().flush();
        }
    }

    /// Estimates the remaining time from the speed so far. Returns a value at most once. `None` also if the time is too
    /// long for a `Duration`, as with `Fit::epochs(usize::MAX)`.
    pub(crate) fn remaining_time(&mut self) -> Option<Duration> {
        let elapsed = self.epoch_begin.elapsed();
        if self.is_estimated || elapsed < ESTIMATE_AFTER {
            return None;
        }
        self.is_estimated = true;
        let left = self.total().saturating_sub((self.epoch - 1) * self.batches + self.batch);
        Duration::try_from_secs_f64(elapsed.as_secs_f64() * left as f64 / self.batch as f64).ok()
    }

    pub(crate) fn epoch_ends(&mut self, row: &Row, history: &History) {
        if self.verbose {
            let start = if is_live_terminal() { "\r" } else { "" };
            println!("{start}{}", self.line(self.batches, row));
        }
        self.draw(history);
    }

    /// Reports the number of epochs, and why the training ended early.
    pub(crate) fn training_ends(&mut self, history: &History, reason: Option<&str>) {
        if let (true, Some(reason)) = (self.verbose, reason) {
            println!("ended after epoch {}: {reason}", self.epoch);
        }
        let plural = if history.epochs() == 1 { "" } else { "s" };
        self.finish(history, format!("{} epoch{plural} in {}", history.epochs(), time(self.begin.elapsed())));
    }

    /// Reports where the training was interrupted, and returns the position.
    pub(crate) fn stopped(&mut self, history: &History) -> (usize, usize) {
        let (epoch, batch) = self.position();
        let text = format!("stopped at epoch {epoch}, batch {batch} of {}", self.batches);
        if self.verbose {
            println!("{text}");
        }
        self.finish(history, text);
        (epoch, batch)
    }

    /// Reports where an error ended the training, and where its finished epochs are.
    pub(crate) fn failed(&mut self, history: &History) {
        let (epoch, batch) = self.position();
        let text = format!("failed at epoch {epoch}, after batch {batch} of {}", self.batches);
        if self.verbose && history.epochs() > 0 {
            let plural = if history.epochs() == 1 { "" } else { "s" };
            println!("{text}; `model.history()?` has {} finished epoch{plural}", history.epochs());
        }
        self.finish(history, text);
    }

    fn total(&self) -> usize {
        self.epochs.saturating_mul(self.batches)
    }

    fn finish(&mut self, history: &History, text: String) {
        if let Some(display) = &self.bar_display {
            let done = match history.last_epoch() {
                all if all == self.epochs => self.total(),
                some => some.saturating_mul(self.batches).saturating_add(self.batch),
            };
            display.update(&Bar { done, total: self.total(), text });
        }
        // The final chart leaves no space for epochs that were not trained.
        self.epochs = history.last_epoch().max(1);
        self.draw(history);
    }

    fn draw(&mut self, history: &History) {
        if !self.chart {
            return;
        }
        // A chart that cannot be drawn does not end the training.
        let Ok(chart) = history.plot_running(self.epochs) else { return };
        match &self.chart_display {
            Some(shown) => shown.update(&chart),
            None => self.chart_display = Some(display(&chart)),
        }
    }

    /// Formats a line as Keras does: batches, bar, time, time per batch, values.
    fn line(&self, batch: usize, row: &Row) -> String {
        let elapsed = self.epoch_begin.elapsed();
        let step = time(elapsed / batch.max(1) as u32);
        let bar = blocks(batch, self.batches);
        format!("{batch}/{} {bar} {} {step}/step - {}", self.batches, time(elapsed), list(row))
    }
}

fn list(row: &Row) -> String {
    let parts: Vec<String> = row.iter().map(|(name, value)| format!("{name}: {value:.4}")).collect();
    parts.join(" - ")
}

/// Formats a duration as Keras does: `640us`, `85ms`, `3s`, `2:05`.
fn time(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() == 0 => format!("{}us", duration.as_micros()),
        0 => format!("{}ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_times_of_any_length_are_estimated() {
        for (epochs, expected) in [(3, Some(121)), (usize::MAX, None)] {
            let mut progress = Progress::new(epochs, 4, false, false);
            (progress.epoch, progress.batch) = (1, 1);
            progress.epoch_begin = Instant::now().checked_sub(Duration::from_secs(11)).unwrap();
            assert_eq!(progress.remaining_time().map(|left| left.as_secs()), expected, "{epochs} epochs");
        }
    }
}
