//! What is seen of a running `fit`: Keras's lines, a progress bar and a chart that grows.

use std::io::Write;
use std::time::{Duration, Instant};

use super::History;
use crate::chart::Chart;
use crate::display::{Bar, Display, INTERVAL, Sink, blocks, display, is_live_terminal, sink};

/// Shows a `fit` while it runs; does nothing that training could fail by.
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
    /// How many batches of the epoch are done.
    batch: usize,
    /// Whether it is known how long the training takes.
    is_foreseen: bool,
}

/// So much of an epoch tells how long the rest takes.
const PACE: Duration = Duration::from_secs(10);

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
            is_foreseen: false,
        }
    }

    /// Puts the empty chart on the page, above the lines of the epochs.
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

    /// The epoch, from 1, and how many of its batches are done.
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

    /// How long the training will still take at the pace of its first seconds; once.
    pub(crate) fn outlook(&mut self) -> Option<Duration> {
        let elapsed = self.epoch_begin.elapsed();
        if self.is_foreseen || elapsed < PACE {
            return None;
        }
        self.is_foreseen = true;
        let left = self.total().saturating_sub((self.epoch - 1) * self.batches + self.batch);
        Some(elapsed.mul_f64(left as f64 / self.batch as f64))
    }

    pub(crate) fn epoch_ends(&mut self, row: &Row, history: &History) {
        if self.verbose {
            let start = if is_live_terminal() { "\r" } else { "" };
            println!("{start}{}", self.line(self.batches, row));
        }
        self.draw(history);
    }

    /// Says how many epochs there were, and why there were no more.
    pub(crate) fn training_ends(&mut self, history: &History, reason: Option<&str>) {
        if let (true, Some(reason)) = (self.verbose, reason) {
            println!("ended after epoch {}: {reason}", self.epoch);
        }
        let plural = if history.epochs() == 1 { "" } else { "s" };
        self.finish(history, format!("{} epoch{plural} in {}", history.epochs(), time(self.begin.elapsed())));
    }

    /// Says where the training stopped, and gives it.
    pub(crate) fn stopped(&mut self, history: &History) -> (usize, usize) {
        let (epoch, batch) = self.position();
        let text = format!("stopped at epoch {epoch}, batch {batch} of {}", self.batches);
        if self.verbose {
            println!("{text}");
        }
        self.finish(history, text);
        (epoch, batch)
    }

    /// Says where an error ended the training, and where its finished epochs are.
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
            let done = match history.epochs() {
                all if all == self.epochs => all * self.batches,
                some => some * self.batches + self.batch,
            };
            display.update(&Bar { done, total: self.total(), text });
        }
        // No room is left for epochs that do not come.
        self.epochs = history.epochs().max(1);
        self.draw(history);
    }

    fn draw(&mut self, history: &History) {
        if !self.chart {
            return;
        }
        // Training does not end because its chart could not be drawn.
        let Ok(chart) = Chart::of_running(history, self.epochs) else { return };
        match &self.chart_display {
            Some(shown) => shown.update(&chart),
            None => self.chart_display = Some(display(&chart)),
        }
    }

    /// Keras's line: batches, bar, time, time a batch, numbers.
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

/// As Keras writes it: `640us`, `85ms`, `3s`, `2:05`.
fn time(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.as_millis() == 0 => format!("{}us", duration.as_micros()),
        0 => format!("{}ms", duration.as_millis()),
        seconds @ 1..60 => format!("{seconds}s"),
        seconds => format!("{}:{:02}", seconds / 60, seconds % 60),
    }
}
