//! Buffer of the cells' outputs: joins them, and sends them to the cell that they belong to.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::compile::evcxr_text::protocol;
use crate::engine::collected::Collected;
use crate::engine::output::{Background, Bundle, Event, Output};
use crate::engine::positions;
use crate::engine::scanner::{Item, Scanner};

/// Longest time that an output is buffered, to be joined with more (20 ms).
pub const MAX_DELAY: Duration = Duration::from_millis(20);
/// Maximum size of buffered outputs, in bytes.
const MAX_HELD: usize = 64 << 10;
/// Maximum number of panics that wait until it is known whether the cell catches them.
const MAX_PANICS: usize = 4;
/// MIME type of the text form of a content.
const TEXT: &str = "text/plain";
/// Maximum size of the standard error collected while the prelude is loaded, in bytes.
const MAX_COLLECTED: usize = 16 << 10;

/// Destination of outputs.
pub enum Destination {
    /// The channel for output that background threads print between cells.
    Background,
    /// The client that sent the cell.
    Cell(Sender<Event>),
    /// [`Collected::stderr`].
    Collected,
}

/// State of the running cell's outputs.
pub struct State {
    pub destination: Destination,
    background: Sender<Background>,
    pub out: Scanner,
    /// An incomplete UTF-8 character on standard error.
    pub err: Vec<u8>,
    /// An incomplete note.
    pub note: Vec<u8>,
    pub held: Vec<Output>,
    /// Number of held outputs before the value in [`Collected::value`].
    value_at: usize,
    /// Whether the prelude has sent the value in all its formats.
    is_whole: bool,
    held_bytes: usize,
    pub held_since: Option<Instant>,
    pub collected: Collected,
    /// Whether a `return` has ended the cell.
    pub has_returned: bool,
    /// The last panics of the cell's own thread, which the cell may still catch.
    pub panics: Vec<(String, u32)>,
    /// Last panic of another thread, which the cell's thread may propagate.
    pub other_panic: Option<(String, u32)>,
    /// Lines for evcxr at the end of the cell.
    pub markers: Vec<String>,
    /// Whether the cell ends with an expression, whose value is its last content.
    pub expects_value: bool,
    /// Comm of the callback that prints, if one runs.
    callback: Option<String>,
    /// Counter that numbers unnamed displays.
    displays: usize,
}

impl State {
    pub fn new(background: Sender<Background>) -> State {
        State {
            // evcxr runs a cell of its own when it starts.
            destination: Destination::Collected,
            background,
            out: Scanner::default(),
            err: Vec::new(),
            note: Vec::new(),
            held: Vec::new(),
            value_at: 0,
            is_whole: false,
            held_bytes: 0,
            held_since: None,
            collected: Collected::default(),
            has_returned: false,
            panics: Vec::new(),
            other_panic: None,
            markers: Vec::new(),
            expects_value: true,
            callback: None,
            displays: 0,
        }
    }

    /// Assigns the following output to the callback of a comm; an empty name ends it.
    pub fn begin_callback(&mut self, comm: String) {
        // The incomplete line was printed after this, so it belongs to the callback.
        self.send_running();
        self.callback = Some(comm).filter(|comm| !comm.is_empty());
    }

    pub fn end_callback(&mut self) {
        self.begin_callback(String::new());
    }

    /// Whether a callback runs.
    pub fn is_callback(&self) -> bool {
        self.callback.is_some()
    }

    /// Records an error that a `?` in the cell returned, and its line in the compiled source; 0 if it is unknown.
    pub fn fails(&mut self, message: String, line: u32) {
        self.collected.error = Some(message);
        self.collected.error_line = line;
        self.markers.push(protocol::ERROR.into());
    }

    /// Handles standard error, which contains only text.
    pub fn errors(&mut self, bytes: &[u8]) {
        self.err.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.err) {
            // An incomplete character waits for its remaining bytes.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.err.len(),
        };
        let rest = self.err.split_off(whole);
        let text = std::mem::replace(&mut self.err, rest);
        if !text.is_empty() {
            self.text(Output::Stderr(String::from_utf8_lossy(&text).into_owned()));
        }
    }

    /// Handles an incomplete character at the end of a cell's standard error.
    pub fn finish_errors(&mut self) {
        let rest = std::mem::take(&mut self.err);
        if !rest.is_empty() {
            self.text(Output::Stderr(String::from_utf8_lossy(&rest).into_owned()));
        }
    }

    /// Records a panic of the cell's own thread. If too many wait, the oldest is shown: the cell has caught it.
    pub fn panicked(&mut self, message: String, line: u32) {
        self.panics.push((message, line));
        if self.panics.len() > MAX_PANICS {
            let (caught, _) = self.panics.remove(0);
            self.text(Output::note(format!("a panic was caught: {caught}\n")));
        }
    }

    /// Shows the panics that did not end the cell.
    pub fn show_caught(&mut self) {
        for (message, _) in std::mem::take(&mut self.panics) {
            self.text(Output::note(format!("a panic was caught: {message}\n")));
        }
    }

    /// Handles a content in one format. It may be another format of the value before it.
    pub fn content(&mut self, mime: String, content: String) {
        if self.held.len() > self.value_at || self.is_whole {
            self.show_value();
        }
        if self.collected.value.is_empty() {
            self.value_at = self.held.len();
        }
        self.collected.value.push((mime, content));
    }

    /// Handles a value that the prelude has sent in all its formats.
    pub fn value(&mut self, data: Bundle) {
        self.show_value();
        (self.collected.value, self.value_at, self.is_whole) = (data, self.held.len(), true);
    }

    /// Turns a value that is not the cell's last one into displays, before the outputs that followed it.
    pub fn show_value(&mut self) {
        self.show_displays(0);
    }

    /// Turns the contents so far into displays, except for the last `count` displays.
    fn show_displays(&mut self, count: usize) {
        let contents = std::mem::take(&mut self.collected.value);
        let mut displays = match std::mem::take(&mut self.is_whole) {
            true => vec![contents],
            false => displays(contents),
        };
        self.collected.value =
            displays.split_off(displays.len().saturating_sub(count)).into_iter().flatten().collect();
        for data in displays.into_iter().filter(|data| !data.is_empty()) {
            self.displays += 1;
            let display = Output::Display { id: format!("headstart-value-{}", self.displays), data };
            self.value_at = self.value_at.min(self.held.len());
            self.held.insert(self.value_at, display);
            self.value_at += 1;
            self.was_held(MAX_HELD / 64);
        }
    }

    pub fn text(&mut self, output: Output) {
        let length = match &output {
            Output::Stdout(text) | Output::Stderr(text) => text.len(),
            _ => 0,
        };
        let last = self.last_before_value();
        match (last, output) {
            (Some(Output::Stdout(held)), Output::Stdout(text))
            | (Some(Output::Stderr(held)), Output::Stderr(text)) => held.push_str(&text),
            (_, output) => self.held.push(output),
        }
        self.was_held(length);
    }

    pub fn hold(&mut self, output: Output) {
        let last = self.last_before_value();
        match (last, output) {
            (Some(Output::Update { id, data }), Output::Update { id: new, data: newer }) if *id == new => {
                *data = newer;
            }
            (_, output) => self.held.push(output),
        }
        // Each of these is a separate message, so only a few are buffered.
        self.was_held(MAX_HELD / 64);
    }

    /// The last output, which more output may join, unless a value stands between them.
    fn last_before_value(&mut self) -> Option<&mut Output> {
        let is_followed = self.collected.value.is_empty() || self.held.len() > self.value_at;
        self.held.last_mut().filter(|_| is_followed)
    }

    fn was_held(&mut self, length: usize) {
        self.held_since.get_or_insert_with(Instant::now);
        self.held_bytes += length;
        if self.held_bytes > MAX_HELD {
            // Without the incomplete line, which stands behind outputs that are still being handled.
            self.send_running();
        }
    }

    /// Sends the buffered outputs and the incomplete line while code runs.
    pub fn flush_running(&mut self) {
        if let Some(Item::Text(text)) = self.out.open_text() {
            self.text(Output::Stdout(text));
        }
        self.send_running();
    }

    /// Sends the buffered outputs while code runs. A value that other output has followed for some time is not the
    /// cell's last one. Between cells and in a callback, there is no last value.
    fn send_running(&mut self) {
        let is_followed = self.held.len() > self.value_at;
        if is_followed || self.is_callback() || matches!(self.destination, Destination::Background) {
            self.show_value();
        }
        self.send();
    }

    /// Sends the buffered outputs at the end of the cell's code.
    pub fn flush_ended(&mut self) {
        if !self.expects_value {
            self.show_displays(usize::from(self.held.len() <= self.value_at));
        } else if !self.is_whole {
            let begin = last_value(&self.collected.value);
            let value = self.collected.value.split_off(begin);
            self.show_value();
            self.collected.value = value;
        }
        self.flush();
    }

    /// Sends the buffered outputs and the incomplete line.
    pub fn flush(&mut self) {
        if let Some(Item::Text(text)) = self.out.open_text() {
            match self.held.last_mut() {
                Some(Output::Stdout(held)) => held.push_str(&text),
                _ => self.held.push(Output::Stdout(text)),
            }
        }
        self.send();
    }

    /// Sends the buffered outputs.
    fn send(&mut self) {
        (self.held_bytes, self.held_since, self.value_at) = (0, None, 0);
        for mut output in self.held.drain(..) {
            if let Output::Stderr(text) = &mut output
                && let Some(clean) = positions::without_dbg_positions(text)
            {
                *text = clean;
            }
            // If the receiver is gone, outputs are dropped.
            match (&self.destination, &self.callback) {
                (_, Some(comm)) => drop(self.background.blocking_send((Some(comm.clone()), output))),
                (Destination::Cell(events), None) => drop(events.blocking_send(Event::Output(output))),
                (Destination::Background, None) => drop(self.background.blocking_send((None, output))),
                (Destination::Collected, None) => {
                    if let Output::Stderr(text) = output
                        && self.collected.stderr.len() < MAX_COLLECTED
                    {
                        self.collected.stderr += &text;
                    }
                }
            }
        }
    }
}

/// Divides contents into displays. A text is another format of the content beside it; each further content is a
/// display of its own.
fn displays(contents: Bundle) -> Vec<Bundle> {
    let mut displays: Vec<Bundle> = Vec::new();
    for (mime, content) in contents {
        let is_text = |mime: &str| mime == TEXT;
        match displays.last_mut() {
            Some(last) if last.iter().all(|(known, _)| is_text(known) != is_text(&mime)) => {
                last.push((mime, content));
            }
            _ => displays.push(vec![(mime, content)]),
        }
    }
    displays
}

/// Begin of the value that a cell's `evcxr_display` has printed last: one content in each format.
fn last_value(contents: &Bundle) -> usize {
    let is_repeated = |at: &usize| {
        let (mime, _) = &contents[*at];
        contents[at + 1..].iter().any(|(known, _)| known == mime)
    };
    (0..contents.len()).rev().find(is_repeated).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_is_another_format_of_a_content() {
        let types = |text: &str| {
            let contents = text.split(' ').map(|mime| (mime.to_owned(), String::new())).collect();
            let names = |data: Bundle| data.into_iter().map(|(mime, _)| mime).collect::<Vec<_>>().join(" ");
            displays(contents).into_iter().map(names).collect::<Vec<_>>()
        };
        assert_eq!(types("text/html image/png"), ["text/html", "image/png"]);
        assert_eq!(types("text/html text/plain image/png"), ["text/html text/plain", "image/png"]);
        assert_eq!(types("text/plain image/png text/html"), ["text/plain image/png", "text/html"]);
        assert_eq!(types("text/plain image/png text/html text/plain").len(), 2);
        assert!(displays(Bundle::new()).is_empty());
    }

    #[test]
    fn the_last_value_has_one_content_in_each_format() {
        let begin =
            |text: &str| last_value(&text.split(' ').map(|mime| (mime.to_owned(), String::new())).collect());
        assert_eq!(begin("text/html image/png"), 0);
        assert_eq!(begin("text/html text/html image/png"), 1);
        assert_eq!(last_value(&Bundle::new()), 0);
    }
}
