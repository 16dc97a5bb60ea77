//! What a cell produces, in terms of a notebook: neither evcxr's nor the wire's.

pub use headstart_frame::Bundle;
use serde_json::{Value, json};

use crate::engine::question::Question;

/// Something that a running cell puts out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Text on standard output.
    Stdout(String),
    /// Text on standard error.
    Stderr(String),
    /// A new display.
    Display { id: String, data: Bundle },
    /// What was put out so far goes; with `wait`, when there is something new.
    Clear { wait: bool },
    /// A change of a display.
    Update { id: String, data: Bundle },
}

impl Output {
    /// How many bytes it has to show.
    pub fn size(&self) -> usize {
        match self {
            Output::Stdout(text) | Output::Stderr(text) => text.len(),
            Output::Display { data, .. } | Output::Update { data, .. } => {
                data.iter().map(|(mime, content)| mime.len() + content.len()).sum()
            }
            Output::Clear { .. } => 0,
        }
    }
}

/// A bundle in the notebook's form. Types that carry JSON are parsed, as Jupyter's protocol and nbformat ask.
pub fn media(data: &Bundle) -> Value {
    let is_json = |mime: &str| mime == "application/json" || mime.ends_with("+json");
    let value = |mime: &str, content: &str| match is_json(mime) {
        true => serde_json::from_str(content).unwrap_or_else(|_| json!(content)),
        false => json!(content),
    };
    data.iter().map(|(mime, content)| (mime.clone(), value(mime, content))).collect()
}

/// Why a cell did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct CellError {
    /// The kind of error: `CompileError`, `Panic`, `Error`, …
    pub name: String,
    /// One sentence.
    pub value: String,
    /// What the user reads, line by line, with colours as ANSI sequences.
    pub traceback: Vec<String>,
}

/// How a cell ended: the value of its last expression, if it has one, or an error.
pub type Outcome = Result<Option<Bundle>, CellError>;

/// What the engine sends while a cell runs, and last of all.
#[derive(Debug)]
pub enum Event {
    Output(Output),
    /// The cell waits for a line of the user's.
    Input {
        prompt: String,
        password: bool,
        question: Question,
    },
    Done(Outcome),
}
