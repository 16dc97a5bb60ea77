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
use crate::engine::buffer::{Destination, MAX_DELAY, State};
use crate::engine::collected::{Collected, line_in_cell};
use crate::engine::interrupt::Cells;
use crate::engine::output::{Background, Event, Output};
use crate::engine::question::Question;
use crate::engine::scanner::{Item, Scanner};
use crate::platform::pipes::{BEGINS, CALLBACKS_BEGIN, CALLBACKS_END, END, IS_OVER, Pipes, read_available};

/// Interval at which an idle reader checks whether the engine still exists (1 s).
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Capacity of the channel for outputs of background threads, in outputs.
const MAX_BACKGROUND: usize = 64;

/// Rust's own panics that end the process, after another panic.
const ABORTING: [&str; 2] =
    ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

/// Reader of the cells' output.
pub struct Listener {
    pipes: Pipes,
    cells: Arc<Cells>,
    state: Mutex<State>,
}

impl Listener {
    /// Starts to read. The receiver gets the outputs between cells.
    pub fn start(pipes: Pipes, cells: Arc<Cells>) -> io::Result<(Arc<Listener>, Receiver<Background>)> {
        let (background, between) = channel(MAX_BACKGROUND);
        let state = State::new(background);
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
        state.flush_running();
        state.destination = destination;
        (state.collected, state.other_panic, state.expects_value) = (Collected::default(), None, true);
        state.has_returned = false;
        state.panics.clear();
    }

    /// Records whether the cell ends with an expression, before its code runs.
    pub fn expect_value(&self, expects_value: bool) {
        self.state().expects_value = expects_value;
    }

    /// Whether the cell's code has ended with an error, a panic or a `return`.
    pub fn has_ended_early(&self) -> bool {
        let state = self.state();
        state.has_returned || state.collected.failed()
    }

    /// Whether the last cell has ended with a `return`.
    pub fn has_returned(&self) -> bool {
        self.state().has_returned
    }

    /// Ends the cell and returns its result. Later output of its threads goes to the background channel.
    pub fn finish(&self) -> Collected {
        let mut state = self.state();
        let _ = self.drain(&mut state);
        state.finish_errors();
        state.show_caught();
        if state.collected.failed() {
            state.show_value();
        }
        state.flush();
        state.destination = Destination::Background;
        std::mem::take(&mut state.collected)
    }

    /// Like [`Listener::finish`], for a process that has ended: empties the pipes for the next process.
    pub fn finish_ended(&self) -> Collected {
        self.process_has_ended();
        let mut state = self.state();
        let fatal = state.panics.pop_if(|(message, _)| ABORTING.contains(&message.as_str()));
        state.collected.fatal = fatal.map(|(message, _)| match state.panics.pop() {
            Some((cause, _)) => format!("{cause} ({message})"),
            None => message,
        });
        drop(state);
        self.finish()
    }

    /// Handles the end of the cells' process in a cell that continues: empties the pipes for the next process.
    pub fn process_has_ended(&self) {
        self.cells.process_has_changed();
        let mut state = self.state();
        let _ = self.drain(&mut state);
        let rest = state.out.finish();
        rest.into_iter().for_each(|item| self.item(&mut state, item));
        // The next process does not continue an incomplete frame.
        state.out = Scanner::default();
        state.finish_errors();
        state.note.clear();
        state.markers.clear();
        // The widgets ended with their process.
        state.hold(Output::CommsEnded);
        state.end_callback();
        self.cells.callbacks_end();
        self.cells.known.set_values(Vec::new());
        let _ = self.pipes.clear();
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
            state.flush_running();
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
                Ok(CALLBACKS_BEGIN) => self.cells.callbacks_begin(),
                Ok(CALLBACKS_END) => self.cells.callbacks_end(),
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
        state.finish_errors();
        state.flush_ended();
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
            Item::Content(mime, content) => state.content(mime, content),
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
                state.fails(text, 0);
            }
            Item::Panicked => {
                let panic = state.panics.pop().or(state.other_panic.take());
                let panic = panic.map(|(message, line)| (message, Some(line)));
                state.collected.panic = Some(panic.unwrap_or(("the cell panicked".into(), None)));
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
            Frame::Value { data } => state.value(data),
            Frame::Returned => state.has_returned = true,
            Frame::Update { id, data } => state.hold(Output::Update { id, data }),
            Frame::Clear { wait } => state.hold(Output::Clear { wait }),
            Frame::Failed { message, file, line } => state.fails(message, line_in_cell(&file, line)),
            Frame::CommOpen { .. } | Frame::CommMessage { .. } | Frame::CommClose { .. } => {
                state.hold(Output::Comm(frame));
            }
            Frame::Callback { id } => {
                // The errors before this frame belong to the callback before it.
                if state.is_callback()
                    && let Ok(err) = read_available(&self.pipes.err)
                {
                    state.errors(&err);
                }
                state.begin_callback(id);
            }
            Frame::Variables { values } => self.cells.known.set_values(values),
            // A callback shows its panic itself.
            Frame::Panic { thread, .. } if thread.is_empty() && state.is_callback() => {}
            Frame::Panic { message, file, line, thread } if thread.is_empty() => {
                state.panicked(message, line_in_cell(&file, line));
            }
            Frame::Panic { message, file, line, thread } => {
                state.text(Output::Stderr(format!("the thread `{thread}` panicked: {message}\n")));
                state.other_panic = Some((message, line_in_cell(&file, line)));
            }
            Frame::Input { prompt, password } => {
                state.show_value();
                state.flush();
                let answers = self.pipes.answers.try_clone();
                match (answers, &state.destination) {
                    (Ok(answers), Destination::Cell(events)) => {
                        let cells = self.cells.clone();
                        let question = Question::new(answers, move || cells.was_answered());
                        self.cells.asks(question.clone());
                        let _ = events.blocking_send(Event::Input { prompt, password, question });
                    }
                    _ => drop((&self.pipes.answers).write_all(Answer::NoInput.encode().as_bytes())),
                }
            }
        }
    }
}
