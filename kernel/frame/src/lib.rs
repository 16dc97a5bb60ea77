//! The protocol between a running cell and the kernel.
//!
//! A cell's process has one channel to the kernel: lines on its standard output. A [`Frame`] is one such
//! line. A marker distinguishes it from printed text. The kernel turns each frame into a Jupyter message
//! immediately and in order. The prelude writes frames and the kernel reads them. Both depend on this
//! crate, which has no dependencies.
//!
//! A line is `\x1eheadstart`, then fields, each after a `\x1f`. Backslash, line feed, carriage return and
//! the two markers are escaped inside a field, so an image stays on its line. A frame that is longer than one write to a
//! pipe is divided into several lines ([`Frame::print`]).
#![deny(missing_docs)]

mod answer;
mod parts;

use std::fmt;

pub use answer::Answer;
pub use parts::Parts;

/// Environment variable with the id of the cells' process, from which the kernel reads frames. Programs that a cell starts
/// inherit it, and have another id.
pub const ENVIRONMENT_VARIABLE: &str = "HEADSTART_FRAMES";

/// Environment variable with the path of the prelude's library; the kernel sets it for the cells' process.
pub const LIBRARY_VARIABLE: &str = "HEADSTART_LIBRARY";

/// Environment variable with the folder where `fit` may save weights; the kernel sets it for the cells'
/// process. The folder has a subfolder for each model, with one file that has the model's name.
pub const CHECKPOINTS_VARIABLE: &str = "HEADSTART_CHECKPOINTS";

/// Environment variable that sends notes, which are no errors, to standard output if it is `stdout`. The default is
/// standard error.
const NOTES_VARIABLE: &str = "HEADSTART_NOTES";

/// Whether notes go to standard output. Some graders treat every text on standard error as a failure.
pub fn notes_on_stdout() -> bool {
    std::env::var_os(NOTES_VARIABLE).is_some_and(|stream| stream == "stdout")
}

/// Environment variable with the number of the descriptor from which [`Answer`]s to [`Frame::Input`] are
/// read.
pub const ANSWERS_VARIABLE: &str = "HEADSTART_ANSWERS";

/// Function of the prelude's library, `extern "C" fn()`, that runs before and after each cell.
pub const CELL_IS_OVER: &std::ffi::CStr = c"headstart_cell_is_over";

/// Function of the prelude's library, `extern "C" fn(store)`, that prints [`Frame::Variables`] after a cell.
pub const DESCRIBE_VARIABLES: &std::ffi::CStr = c"headstart_describe_variables";

/// Function of the prelude's library, `extern "C" fn()`, that drops the variables at the end of the cells' process.
pub const DROP_VARIABLES: &std::ffi::CStr = c"headstart_drop_variables";

/// Function of the prelude's library, `extern "C" fn(line) -> bool`, for a [`Frame::CommMessage`] or
/// [`Frame::CommClose`] from the client. Returns whether callbacks wait. It may run while a cell runs.
pub const RECEIVE_COMM: &std::ffi::CStr = c"headstart_receive_comm";

/// Function of the prelude's library, `extern "C" fn()`, that runs the callbacks that wait.
pub const RUN_CALLBACKS: &std::ffi::CStr = c"headstart_run_callbacks";

/// Prefix of a line that is a frame.
pub const MARK: &str = "\u{1e}headstart";
const FIELD: char = '\u{1f}';

/// Content of one display in all its formats: pairs of MIME type and content.
pub type Bundle = Vec<(String, String)>;

/// One message from a cell to the kernel.
///
/// ```
/// use headstart_frame::Frame;
///
/// let chart = Frame::Display {
///     id: "fit-1".into(),
///     data: vec![("text/plain".into(), "loss 0.69\nloss 0.41".into())],
/// };
/// let line = chart.encode();
/// assert!(!line.contains('\n'));
/// assert_eq!(Frame::decode(&line), Some(Ok(chart)));
/// assert_eq!(Frame::decode("epoch 1"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Shows a new display.
    Display {
        /// Name of the display, for later updates.
        id: String,
        /// Content of the display.
        data: Bundle,
    },
    /// The value of a cell's last expression in all its formats.
    Value {
        /// Content of the value.
        data: Bundle,
    },
    /// Replaces the content of a display.
    Update {
        /// Name of the display.
        id: String,
        /// New content of the display.
        data: Bundle,
    },
    /// Clears the cell's output.
    Clear {
        /// Whether to wait until there is new output.
        wait: bool,
    },
    /// The cell's code panicked.
    Panic {
        /// The panic's message.
        message: String,
        /// The source file, as the compiler names it.
        file: String,
        /// The line in that file, from 1.
        line: u32,
        /// The thread's name, `<unnamed>` without one; empty for the thread that runs the cells.
        thread: String,
    },
    /// The cell's code asks the user for a line of text; the reply is an [`Answer`].
    Input {
        /// Text beside the input field.
        prompt: String,
        /// Whether the text is hidden while it is typed.
        password: bool,
    },
    /// Opens a comm: a channel to an object in the client, such as a widget.
    CommOpen {
        /// Name of the comm.
        id: String,
        /// What the client is to create.
        target: String,
        /// The first message, in JSON.
        data: String,
        /// Metadata of the message, in JSON.
        metadata: String,
        /// Binary parts of the message, in base64.
        buffers: Vec<String>,
    },
    /// A message over a comm, in either direction.
    CommMessage {
        /// Name of the comm.
        id: String,
        /// The message, in JSON.
        data: String,
        /// Binary parts of the message, in base64.
        buffers: Vec<String>,
    },
    /// Closes a comm, in either direction.
    CommClose {
        /// Name of the comm.
        id: String,
    },
    /// The following output is that of a callback, until the next such frame.
    Callback {
        /// The comm whose message the callback answers; empty at the end of the callbacks.
        id: String,
    },
    /// Descriptions of the variables, after a cell.
    Variables {
        /// Pairs of name and description.
        values: Vec<(String, String)>,
    },
    /// A `return` has ended the cell.
    Returned,
    /// A `?` in the cell returned an error.
    Failed {
        /// The error as text.
        message: String,
        /// The file of the `?`; empty if it is unknown.
        file: String,
        /// The line of the `?`; 0 if it is unknown.
        line: u32,
    },
}

/// Error for a line that starts as a frame but cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong with the line.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a display line from the cell could not be read: {}", self.reason)
    }
}

impl std::error::Error for Malformed {}

impl Frame {
    /// Encodes the frame as one line, without the line feed.
    pub fn encode(&self) -> String {
        let mut line = String::from(MARK);
        match self {
            Frame::Display { id, data } => encode_bundle(&mut line, "display", id, data),
            Frame::Value { data } => encode_bundle(&mut line, "value", "", data),
            Frame::Update { id, data } => encode_bundle(&mut line, "update", id, data),
            Frame::Panic { message, file, line: number, thread } => {
                for field in ["panic", message, file, &number.to_string(), thread] {
                    push(&mut line, field);
                }
            }
            Frame::Clear { wait } => {
                push(&mut line, "clear");
                push(&mut line, if *wait { "wait" } else { "now" });
            }
            Frame::Input { prompt, password } => {
                push(&mut line, if *password { "password" } else { "input" });
                push(&mut line, prompt);
            }
            Frame::CommOpen { id, target, data, metadata, buffers } => {
                for field in ["comm open", id, target, data, metadata] {
                    push(&mut line, field);
                }
                buffers.iter().for_each(|buffer| push(&mut line, buffer));
            }
            Frame::CommMessage { id, data, buffers } => {
                for field in ["comm message", id, data] {
                    push(&mut line, field);
                }
                buffers.iter().for_each(|buffer| push(&mut line, buffer));
            }
            Frame::CommClose { id } => ["comm close", id].iter().for_each(|field| push(&mut line, field)),
            Frame::Callback { id } => ["callback", id].iter().for_each(|field| push(&mut line, field)),
            Frame::Variables { values } => encode_bundle(&mut line, "variables", "", values),
            Frame::Returned => push(&mut line, "returned"),
            Frame::Failed { message, file, line: number } => {
                for field in ["failed", message, file, &number.to_string()] {
                    push(&mut line, field);
                }
            }
        }
        line
    }

    /// Decodes a line; `None` if it is ordinary output.
    pub fn decode(line: &str) -> Option<Result<Frame, Malformed>> {
        let fields = line.strip_prefix(MARK)?.strip_prefix(FIELD)?;
        let fields: Option<Vec<String>> = fields.split(FIELD).map(unescape).collect();
        Some(match fields {
            Some(fields) => from_fields(fields),
            None => Err(Malformed { reason: "unknown escape" }),
        })
    }
}

fn from_fields(fields: Vec<String>) -> Result<Frame, Malformed> {
    let mut fields = fields.into_iter();
    let kind = fields.next().unwrap_or_default();
    let mut next = |reason| fields.next().ok_or(Malformed { reason });
    match kind.as_str() {
        "display" => {
            let (id, data) = decode_bundle(fields)?;
            Ok(Frame::Display { id, data })
        }
        "value" => Ok(Frame::Value { data: decode_bundle(fields)?.1 }),
        "update" => {
            let (id, data) = decode_bundle(fields)?;
            Ok(Frame::Update { id, data })
        }
        "panic" => Ok(Frame::Panic {
            message: next("no message")?,
            file: next("no file")?,
            line: next("no line")?.parse().map_err(|_| Malformed { reason: "line is no number" })?,
            thread: next("no thread")?,
        }),
        "clear" => match next("no time")?.as_str() {
            "wait" => Ok(Frame::Clear { wait: true }),
            "now" => Ok(Frame::Clear { wait: false }),
            _ => Err(Malformed { reason: "unknown time" }),
        },
        "input" => Ok(Frame::Input { prompt: next("no prompt")?, password: false }),
        "password" => Ok(Frame::Input { prompt: next("no prompt")?, password: true }),
        "comm open" => Ok(Frame::CommOpen {
            id: next("no comm")?,
            target: next("no target")?,
            data: next("no message")?,
            metadata: next("no metadata")?,
            buffers: fields.collect(),
        }),
        "comm message" => Ok(Frame::CommMessage {
            id: next("no comm")?,
            data: next("no message")?,
            buffers: fields.collect(),
        }),
        "comm close" => Ok(Frame::CommClose { id: next("no comm")? }),
        "callback" => Ok(Frame::Callback { id: next("no comm")? }),
        "variables" => Ok(Frame::Variables { values: decode_bundle(fields)?.1 }),
        "returned" => Ok(Frame::Returned),
        "failed" => Ok(Frame::Failed {
            message: next("no message")?,
            file: next("no file")?,
            line: next("no line")?.parse().map_err(|_| Malformed { reason: "line is no number" })?,
        }),
        _ => Err(Malformed { reason: "unknown kind" }),
    }
}

fn encode_bundle(line: &mut String, kind: &str, id: &str, data: &Bundle) {
    push(line, kind);
    push(line, id);
    for (mime, content) in data {
        push(line, mime);
        push(line, content);
    }
}

fn decode_bundle(mut fields: impl Iterator<Item = String>) -> Result<(String, Bundle), Malformed> {
    let id = fields.next().ok_or(Malformed { reason: "no display id" })?;
    let mut data = Bundle::new();
    while let Some(mime) = fields.next() {
        let content = fields.next().ok_or(Malformed { reason: "a type without content" })?;
        data.push((mime, content));
    }
    Ok((id, data))
}

fn push(line: &mut String, field: &str) {
    line.push(FIELD);
    for c in field.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\u{1e}' => line.push_str("\\e"),
            FIELD => line.push_str("\\f"),
            c => line.push(c),
        }
    }
}

fn unescape(field: &str) -> Option<String> {
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                'e' => '\u{1e}',
                'f' => FIELD,
                _ => return None,
            },
            c => c,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_a_round_trip() {
        let awkward = "a\\n\nb\r\u{1e}headstart\u{1f}end\u{1f}é\\";
        let data =
            vec![("text/plain".to_owned(), awkward.to_owned()), ("image/svg+xml".to_owned(), String::new())];
        for frame in [
            Frame::Display { id: awkward.into(), data: data.clone() },
            Frame::Value { data: data.clone() },
            Frame::Update { id: String::new(), data },
            Frame::CommOpen {
                id: "a".into(),
                target: "jupyter.widget".into(),
                data: awkward.into(),
                metadata: "{}".into(),
                buffers: vec![],
            },
            Frame::CommMessage {
                id: "a".into(),
                data: "{}".into(),
                buffers: vec!["AA==".into(), awkward.into()],
            },
            Frame::CommClose { id: awkward.into() },
            Frame::Callback { id: String::new() },
            Frame::Variables { values: vec![("x".into(), awkward.into())] },
            Frame::Panic { message: awkward.into(), file: "src/lib.rs".into(), line: 12, thread: "a".into() },
            Frame::Clear { wait: true },
            Frame::Clear { wait: false },
            Frame::Input { prompt: awkward.into(), password: true },
            Frame::Input { prompt: String::new(), password: false },
            Frame::Returned,
            Frame::Failed { message: awkward.into(), file: "src/lib.rs".into(), line: 12 },
            Frame::Failed { message: String::new(), file: String::new(), line: 0 },
        ] {
            let line = frame.encode();
            assert!(!line.contains('\n') && !line.contains('\r'));
            assert_eq!(Frame::decode(&line), Some(Ok(frame)));
        }
    }

    #[test]
    fn damaged_lines_are_rejected() {
        for line in
            ["panic\u{1f}m", "display", "display\u{1f}1\u{1f}text/plain", "nonsense", "display\u{1f}\\q"]
        {
            assert!(matches!(Frame::decode(&format!("\u{1e}headstart\u{1f}{line}")), Some(Err(_))), "{line}");
        }
    }
}
