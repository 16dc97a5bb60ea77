//! Reader of the cells' process: converts what it prints to the outputs of a cell.
//!
//! One thread reads both streams all the time, also between cells. Text is buffered for at most
//! [`MAX_DELAY`] and up to [`MAX_HELD`] bytes. Outputs go into bounded channels, so a full channel slows
//! the cell down.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headstart_frame::{Answer, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::compile::evcxr_text::protocol;
use crate::engine::heard::{Heard, line_in_cell};
use crate::engine::interrupt::Cells;
use crate::engine::output::{Event, Output};
use crate::engine::places;
use crate::engine::question::Question;
use crate::engine::scanner::{Item, Scanner};
use crate::platform::pipes::{BEGINS, END, IS_OVER, Pipes, read_available};

/// Longest time that an output is buffered, to be joined with more (20 ms).
const MAX_DELAY: Duration = Duration::from_millis(20);
/// Interval at which an idle reader checks whether the engine still exists (1 s).
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of buffered outputs, in bytes.
const MAX_HELD: usize = 64 << 10;
/// Capacity of the channel for outputs of background threads, in outputs.
const MAX_BACKGROUND: usize = 64;
/// Maximum size of the standard error collected while the prelude is loaded, in bytes.
const MAX_COLLECTED: usize = 16 << 10;

/// Destination of outputs.
enum Destination {
    /// The channel for output that background threads print between cells.
    Background,
    /// The client that sent the cell.
    Cell(Sender<Event>),
    /// [`Heard::collected`].
    Collected,
}

/// State of the running cell's outputs.
struct State {
    destination: Destination,
    background: Sender<Output>,
    out: Scanner,
    /// An incomplete UTF-8 character on standard error.
    err: Vec<u8>,
    /// An incomplete note.
    note: Vec<u8>,
    held: Vec<Output>,
    held_bytes: usize,
    held_since: Option<Instant>,
    heard: Heard,
    /// Panic of the cell's own thread, which the cell may still catch.
    panic: Option<(String, u32)>,
    /// Last panic of another thread, which the cell's thread may propagate.
    other_panic: Option<(String, u32)>,
    /// Lines for evcxr at the end of the cell.
    markers: Vec<String>,
    /// Counter that numbers unnamed displays.
    displays: usize,
}

/// Reader of the cells' output.
pub struct Listener {
    pipes: Pipes,
    cells: Arc<Cells>,
    state: Mutex<State>,
}

impl Listener {
    /// Starts to read. The receiver gets the outputs between cells.
    pub fn start(pipes: Pipes, cells: Arc<Cells>) -> io::Result<(Arc<Listener>, Receiver<Output>)> {
        let (background, between) = channel(MAX_BACKGROUND);
        let state = State {
            destination: Destination::Background,
            background,
            out: Scanner::default(),
            err: Vec::new(),
            note: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            held_since: None,
            heard: Heard::default(),
            panic: None,
            other_panic: None,
            markers: Vec::new(),
            displays: 0,
        };
        let listener = Arc::new(Listener { pipes, cells, state: Mutex::new(state) });
        let reader = Arc::downgrade(&listener);
        std::thread::Builder::new().name("listener".into()).spawn(move || {
            // The thread ends with the engine.
            while let Some(listener) = reader.upgrade() {
                if let Err(error) = listener.read_once() {
                    eprintln!("the cells' output cannot be read: {error}");
                    return;
                }
            }
        })?;
        Ok((listener, between))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a cell, which gets the outputs from now on.
    pub fn begin(&self, events: Sender<Event>) {
        self.begin_with(Destination::Cell(events));
    }

    /// Starts cells of the kernel itself, whose outputs are collected.
    pub fn collect(&self) {
        self.begin_with(Destination::Collected);
    }

    fn begin_with(&self, destination: Destination) {
        let mut state = self.state();
        state.flush();
        state.destination = destination;
        (state.heard, state.panic, state.other_panic) = (Heard::default(), None, None);
    }

    /// Ends the cell and returns its result. Later output of its threads goes to the background channel.
    pub fn finish(&self) -> Heard {
        let mut state = self.state();
        let _ = self.drain(&mut state);
        if let Some((message, _)) = state.panic.take() {
            state.text(Output::Stderr(format!("a panic was caught: {message}\n")));
        }
        if state.heard.failed() {
            state.show_value();
        }
        state.flush();
        state.destination = Destination::Background;
        std::mem::take(&mut state.heard)
    }

    /// Like [`Listener::finish`], for a process that has ended: empties the pipes for the next process.
    pub fn finish_ended(&self) -> Heard {
        {
            let mut state = self.state();
            let _ = self.drain(&mut state);
            let rest = state.out.finish();
            rest.into_iter().for_each(|item| self.item(&mut state, item));
            let rest = std::mem::take(&mut state.err);
            state.errors(&rest);
            state.note.clear();
            state.markers.clear();
            let _ = self.pipes.clear();
        }
        self.finish()
    }

    /// Ends a shell command of the cell: sends its outputs before the cell's.
    pub fn finish_command(&self) {
        let mut state = self.state();
        let _ = self.drain(&mut state);
        state.flush();
    }

    /// Write ends of the pipes, for a program whose output belongs to the cell.
    pub fn outputs(&self) -> io::Result<[std::os::fd::OwnedFd; 2]> {
        self.pipes.outputs()
    }

    /// Waits until there is something to read or to send, and does it.
    fn read_once(&self) -> io::Result<()> {
        let timeout = self
            .state()
            .held_since
            .map_or(IDLE_POLL_INTERVAL, |since| MAX_DELAY.saturating_sub(since.elapsed()));
        let ends = [&self.pipes.out, &self.pipes.err, &self.pipes.notes];
        let mut polled =
            ends.map(|end| libc::pollfd { fd: end.as_raw_fd(), events: libc::POLLIN, revents: 0 });
        let milliseconds = timeout.as_millis() as libc::c_int + libc::c_int::from(timeout.subsec_nanos() > 0);
        // SAFETY: the descriptors are open.
        if unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        let mut state = self.state();
        // The start of a cell is noted before its first output. The end of a cell drains all its outputs.
        let notes = read_available(&self.pipes.notes)?;
        self.notes(&mut state, &notes)?;
        self.drain(&mut state)?;
        if state.held_since.is_some_and(|since| since.elapsed() >= MAX_DELAY) {
            state.flush();
        }
        Ok(())
    }

    /// Reads everything that has been printed so far.
    fn drain(&self, state: &mut State) -> io::Result<()> {
        let out = read_available(&self.pipes.out)?;
        for item in state.out.feed(&out) {
            self.item(state, item);
        }
        let err = read_available(&self.pipes.err)?;
        state.errors(&err);
        if !out.is_empty() {
            state.held_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn notes(&self, state: &mut State, notes: &[u8]) -> io::Result<()> {
        state.note.extend_from_slice(notes);
        while let Some(end) = state.note.iter().position(|byte| *byte == b'\n') {
            let rest = state.note.split_off(end + 1);
            let note = std::mem::replace(&mut state.note, rest);
            match std::str::from_utf8(&note[..end]) {
                Ok(BEGINS) => self.cells.runs(),
                Ok(IS_OVER) => self.code_is_over(state)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Handles the end of the cell's code. The process waits for the reply, so everything that it printed
    /// can be read.
    fn code_is_over(&self, state: &mut State) -> io::Result<()> {
        self.drain(state)?;
        let rest = state.out.finish();
        rest.into_iter().for_each(|item| self.item(state, item));
        state.flush();
        self.cells.has_run();
        let mut reply: String = state.markers.drain(..).map(|marker| marker + "\n").collect();
        reply += &format!("{END}\n");
        (&self.pipes.replies).write_all(reply.as_bytes())
    }

    fn item(&self, state: &mut State, item: Item) {
        match item {
            Item::Text(text) => state.text(Output::Stdout(text)),
            Item::Frame(Ok(frame)) => self.frame(state, frame),
            Item::Frame(Err(malformed)) => state.text(Output::Stderr(format!("{malformed}\n"))),
            Item::Content(mime, content) => {
                if state.heard.value.iter().any(|(known, _)| *known == mime) {
                    state.show_value();
                }
                state.heard.value.push((mime, content));
            }
            Item::Failed => {
                // The text has just arrived on the other pipe.
                if let Ok(err) = read_available(&self.pipes.err) {
                    state.errors(&err);
                }
                let text = match state.held.pop() {
                    Some(Output::Stderr(text)) => text,
                    other => {
                        state.held.extend(other);
                        "a `?` met an error".to_owned()
                    }
                };
                state.fails(text);
            }
            Item::Panicked => {
                let panic = state.panic.take().or(state.other_panic.take());
                let panic = panic.map(|(message, line)| (message, Some(line)));
                state.heard.panic = Some(panic.unwrap_or(("the cell panicked".into(), None)));
                state.markers.push(protocol::PANIC.into());
            }
            Item::ChangedType(marker) => state.markers.push(marker),
            Item::Question => state.text(Output::Stderr(
                "the crate `evcxr_input` reads standard input, which is empty here\n\
                 hint: ask with `input(\"...\")?`\n"
                    .into(),
            )),
        }
    }

    fn frame(&self, state: &mut State, frame: Frame) {
        match frame {
            Frame::Display { id, data } => state.hold(Output::Display { id, data }),
            Frame::Update { id, data } => state.hold(Output::Update { id, data }),
            Frame::Clear { wait } => state.hold(Output::Clear { wait }),
            Frame::Failed { message } => state.fails(message),
            Frame::Panic { message, file, line, thread } if thread.is_empty() => {
                if let Some((caught, _)) = state.panic.replace((message, line_in_cell(&file, line))) {
                    state.text(Output::Stderr(format!("a panic was caught: {caught}\n")));
                }
            }
            Frame::Panic { message, file, line, thread } => {
                state.text(Output::Stderr(format!("the thread `{thread}` panicked: {message}\n")));
                state.other_panic = Some((message, line_in_cell(&file, line)));
            }
            Frame::Input { prompt, password } => {
                state.flush();
                let answers = self.pipes.answers.try_clone();
                match (answers, &state.destination) {
                    (Ok(answers), Destination::Cell(events)) => {
                        let question = Question::new(answers, self.cells.clone());
                        self.cells.asks(question.clone());
                        let _ = events.blocking_send(Event::Input { prompt, password, question });
                    }
                    _ => drop((&self.pipes.answers).write_all(Answer::NoInput.encode().as_bytes())),
                }
            }
        }
    }
}

impl State {
    /// Records an error that a `?` in the cell returned.
    fn fails(&mut self, message: String) {
        self.heard.error = Some(message);
        self.markers.push(protocol::ERROR.into());
    }

    /// Handles standard error, which contains only text.
    fn errors(&mut self, bytes: &[u8]) {
        self.err.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.err) {
            // An incomplete character waits for its remaining bytes.
            Err(error) if error.error_len().is_none() && !bytes.is_empty() => error.valid_up_to(),
            _ => self.err.len(),
        };
        let rest = self.err.split_off(whole);
        let text = std::mem::replace(&mut self.err, rest);
        if !text.is_empty() {
            self.text(Output::Stderr(String::from_utf8_lossy(&text).into_owned()));
        }
    }

    /// Turns a value that is not the cell's last one into a display.
    fn show_value(&mut self) {
        let data = std::mem::take(&mut self.heard.value);
        if !data.is_empty() {
            self.displays += 1;
            self.hold(Output::Display { id: format!("headstart-value-{}", self.displays), data });
        }
    }

    fn text(&mut self, output: Output) {
        let length = match &output {
            Output::Stdout(text) | Output::Stderr(text) => text.len(),
            _ => 0,
        };
        match (self.held.last_mut(), output) {
            (Some(Output::Stdout(held)), Output::Stdout(text))
            | (Some(Output::Stderr(held)), Output::Stderr(text)) => held.push_str(&text),
            (_, output) => self.held.push(output),
        }
        self.was_held(length);
    }

    fn hold(&mut self, output: Output) {
        match (self.held.last_mut(), output) {
            (Some(Output::Update { id, data }), Output::Update { id: new, data: newer }) if *id == new => {
                *data = newer;
            }
            (_, output) => self.held.push(output),
        }
        // Each of these is a separate message, so only a few are buffered.
        self.was_held(MAX_HELD / 64);
    }

    fn was_held(&mut self, length: usize) {
        self.held_since.get_or_insert_with(Instant::now);
        self.held_bytes += length;
        if self.held_bytes > MAX_HELD {
            self.flush();
        }
    }

    /// Sends the buffered outputs.
    fn flush(&mut self) {
        if let Some(Item::Text(text)) = self.out.open_text() {
            match self.held.last_mut() {
                Some(Output::Stdout(held)) => held.push_str(&text),
                _ => self.held.push(Output::Stdout(text)),
            }
        }
        (self.held_bytes, self.held_since) = (0, None);
        for mut output in self.held.drain(..) {
            if let Output::Stderr(text) = &mut output
                && let Some(clean) = places::without_dbg_positions(text)
            {
                *text = clean;
            }
            // If the receiver is gone, outputs are dropped.
            match &self.destination {
                Destination::Cell(events) => drop(events.blocking_send(Event::Output(output))),
                Destination::Background => drop(self.background.blocking_send(output)),
                Destination::Collected => {
                    if let Output::Stderr(text) = output
                        && self.heard.collected.len() < MAX_COLLECTED
                    {
                        self.heard.collected += &text;
                    }
                }
            }
        }
    }
}
