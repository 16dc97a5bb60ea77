//! Outputs of a cell in notebook terms, independent of evcxr and of Jupyter's messages.

pub use headstart_frame::Bundle;
use headstart_frame::Frame;
use serde_json::{Value, json};

use crate::engine::question::Question;

/// One output of a running cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Text on standard output.
    Stdout(String),
    /// Text on standard error.
    Stderr(String),
    /// A new display.
    Display { id: String, data: Bundle },
    /// Clears the outputs so far; with `wait`, when the next output arrives.
    Clear { wait: bool },
    /// New content of a display.
    Update { id: String, data: Bundle },
    /// A comm is opened or closed, or has a message for the client.
    Comm(Frame),
    /// The process that opened the comms has ended.
    CommsEnded,
}

/// Output that is printed between cells, with the comm whose callback prints it.
pub type Background = (Option<String>, Output);

impl Output {
    /// A note, which is no error: on standard error, or on standard output if `HEADSTART_NOTES=stdout`.
    pub fn note(text: String) -> Output {
        match headstart_frame::notes_on_stdout() {
            true => Output::Stdout(text),
            false => Output::Stderr(text),
        }
    }

    /// Whether the output is a message of a comm, which a silent cell sends, too.
    pub fn is_of_comm(&self) -> bool {
        matches!(self, Output::Comm(_) | Output::CommsEnded)
    }

    /// Size of the output, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Output::Stdout(text) | Output::Stderr(text) => text.len(),
            Output::Display { data, .. } | Output::Update { data, .. } => {
                data.iter().map(|(mime, content)| mime.len() + content.len()).sum()
            }
            Output::Comm(
                Frame::CommOpen { data, buffers, .. } | Frame::CommMessage { data, buffers, .. },
            ) => data.len() + buffers.iter().map(String::len).sum::<usize>(),
            Output::Clear { .. } | Output::Comm(_) | Output::CommsEnded => 0,
        }
    }
}

/// Converts a bundle to the notebook format. JSON types are parsed, as Jupyter's protocol and nbformat
/// require.
pub fn media(data: &Bundle) -> Value {
    let is_json = |mime: &str| mime == "application/json" || mime.ends_with("+json");
    let value = |mime: &str, content: &str| match is_json(mime) {
        true => serde_json::from_str(content).unwrap_or_else(|_| json!(content)),
        false => json!(content),
    };
    data.iter().map(|(mime, content)| (mime.clone(), value(mime, content))).collect()
}

/// MIME type of a widget, which is shown only with a kernel.
const WIDGET: &str = "application/vnd.jupyter.widget-view+json";

/// Like [`media`], for a notebook that is opened without its kernel: a widget is shown as HTML.
pub fn saved_media(data: &Bundle) -> Value {
    media(&data.iter().filter(|(mime, _)| mime != WIDGET).cloned().collect())
}

/// Error of a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct CellError {
    /// Kind of error: `CompileError`, `Panic`, `Error`, …
    pub name: String,
    /// Summary in one sentence.
    pub value: String,
    /// Lines of the message for the user, with ANSI colour sequences.
    pub traceback: Vec<String>,
}

/// Result of a cell: the value of its last expression, if it has one, or an error.
pub type Outcome = Result<Option<Bundle>, CellError>;

/// Event of a running cell; [`Event::Done`] is the last one.
#[derive(Debug)]
pub enum Event {
    Output(Output),
    /// The cell waits for a line of input from the user.
    Input {
        prompt: String,
        password: bool,
        question: Question,
    },
    Done(Outcome),
}
