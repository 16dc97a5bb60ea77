//! The thread that hears what the cells' process prints, and tells text from frames.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, tick};
use headstart_frame::Frame;
use tokio::sync::mpsc::UnboundedSender;

use crate::output::{Event, Output};
use crate::places;

/// What the engine tells the thread.
pub enum Listen {
    /// A cell begins: send what it puts out here.
    Begin(UnboundedSender<Event>),
    /// evcxr says that the cell is over: answer when all of it has been heard.
    End(Sender<Heard>),
}

/// What was heard of a cell's failure.
#[derive(Debug, Default)]
pub struct Heard {
    pub failed: bool,
    /// A panic's message, and its line in what evcxr compiled, 0 if it is not there.
    pub panic: Option<(String, u32)>,
    pub error_text: String,
}

/// Standard error waits this long for a `?` to claim its text as the error's.
const HELD: Duration = Duration::from_millis(80);
/// How long a process that ended may take to hand over its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The text after the library's notes, which are a line each.
fn after_notes(mut text: &str) -> &str {
    while let Some((_, rest)) = text.split_once('\n').filter(|(line, _)| line.starts_with("note: ")) {
        text = rest;
    }
    text
}

/// The listening thread.
pub fn listen(stdout: &Receiver<String>, stderr: &Receiver<String>, commands: &Receiver<Listen>) {
    let mut ear = Ear::default();
    loop {
        let timer = if ear.held.is_empty() { never() } else { tick(HELD) };
        select! {
            recv(stdout) -> line => match line {
                Ok(line) => {
                    ear.stdout(line);
                    stdout.try_iter().for_each(|line| ear.stdout(line));
                    ear.flush_stdout();
                }
                Err(_) => return,
            },
            recv(stderr) -> line => match line {
                Ok(line) => ear.stderr(line),
                Err(_) => return,
            },
            recv(timer) -> _ => ear.release(),
            recv(commands) -> command => match command {
                Ok(Listen::Begin(events)) => ear = Ear { events: Some(events), ..Ear::default() },
                Ok(Listen::End(answer)) => {
                    stdout.try_iter().for_each(|line| ear.stdout(line));
                    ear.flush_stdout();
                    let deadline = Instant::now() + LAST_WORDS;
                    while ear.ran && !ear.stderr_ended {
                        match stderr.recv_deadline(deadline) {
                            Ok(line) => ear.stderr(line),
                            Err(_) => break,
                        }
                    }
                    stderr.try_iter().for_each(|line| ear.stderr(line));
                    let _ = answer.send(ear.end());
                    ear = Ear::default();
                }
                Err(_) => return,
            },
        }
    }
}

/// What is being heard of one cell.
#[derive(Default)]
struct Ear {
    events: Option<UnboundedSender<Event>>,
    printed: String,
    held: String,
    heard: Heard,
    ran: bool,
    stderr_ended: bool,
}

impl Ear {
    fn send(&self, output: Output) {
        if let Some(events) = &self.events {
            let _ = events.send(Event::Output(output));
        }
    }

    fn stdout(&mut self, line: String) {
        let frame = match Frame::decode(&line) {
            None => {
                self.printed += &line;
                self.printed.push('\n');
                return;
            }
            Some(frame) => frame,
        };
        self.flush_stdout();
        match frame {
            Ok(Frame::Display { id, data }) => self.send(Output::Display { id, data }),
            Ok(Frame::Clear { wait }) => {
                self.release();
                self.send(Output::Clear { wait });
            }
            Ok(Frame::Update { id, data }) => self.send(Output::Update { id, data }),
            Ok(Frame::Panic { message, file, line }) => {
                // That of a library is no line of the cell.
                let line = if file == places::SOURCE { line } else { 0 };
                self.heard.panic = Some((message, line));
            }
            Ok(Frame::Text { text }) => {
                self.printed += &text;
                self.flush_stdout();
            }
            Ok(Frame::Failed) => self.heard.failed = true,
            Ok(Frame::End) => self.ran = true,
            Err(malformed) => self.send(Output::Stderr(format!("{malformed}\n"))),
        }
    }

    fn flush_stdout(&mut self) {
        if !self.printed.is_empty() {
            let text = std::mem::take(&mut self.printed);
            self.send(Output::Stdout(text));
        }
    }

    fn stderr(&mut self, line: String) {
        match Frame::decode(&line) {
            Some(Ok(Frame::End)) => self.stderr_ended = true,
            Some(Ok(Frame::Text { text })) => self.held += &text,
            _ => {
                self.held += &line;
                self.held.push('\n');
            }
        }
    }

    /// Gives out what standard error held back.
    fn release(&mut self) {
        if !self.held.is_empty() {
            let text = std::mem::take(&mut self.held);
            self.send(Output::Stderr(text));
        }
    }

    fn end(&mut self) -> Heard {
        match (self.heard.failed, &self.heard.panic) {
            (true, None) => {
                let text = std::mem::take(&mut self.held);
                let error = after_notes(&text);
                self.held = text[..text.len() - error.len()].to_owned();
                self.heard.error_text = error.to_owned();
            }
            // Another thread panicked: no failure of the cell, but worth knowing.
            (false, Some((message, _))) => self.held += &format!("a thread panicked: {message}\n"),
            _ => {}
        }
        self.release();
        std::mem::take(&mut self.heard)
    }
}
