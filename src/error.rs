//! What can go wrong, told so that a reader knows what to do next.

use std::path::{Path, PathBuf};

/// The result of everything fallible here; `?` works on it in a notebook cell.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the library: what was expected, what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or a layer's input has another shape than it must have.
    #[error("{place}: expected shape {expected}, found {found}{}", hint_line(.hint))]
    Shape {
        /// The layer or function.
        place: String,
        /// The shape that fits, in words or as a list.
        expected: String,
        /// The shape that was given.
        found: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// A name that the model does not know.
    #[error("`{model}` has no layer named `{name}`; its layers are: {known}{}", hint_line(.hint))]
    UnknownLayer {
        /// The model that was asked.
        model: String,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
        /// The closest name, if one is close.
        hint: String,
    },
    /// A weights file that does not fit the network.
    #[error("{path}: these are not weights for {network}: {}", .problems.join("; "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// The network that the weights were meant for.
        network: String,
        /// Each tensor that is missing or misshapen, expected and found.
        problems: Vec<String>,
    },
    /// A picture that cannot be read.
    #[error(
        "{path}: this picture cannot be read: {reason}\nhint: replace the file or remove it from the folder"
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A folder that holds no pictures where pictures were expected.
    #[error(
        "{path}: {problem}\nhint: put the pictures into one folder a class, as in {path}/cats/1.jpg, {path}/dogs/1.jpg"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was found there.
        problem: String,
    },
    /// Targets that the loss cannot use.
    #[error("{loss}: expected {expected}, found {found}{}", hint_line(.hint))]
    Targets {
        /// The loss.
        loss: String,
        /// The values or the shape that it takes.
        expected: String,
        /// What was given.
        found: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// An argument outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// The values that it takes.
        expected: String,
        /// The value that was given.
        found: String,
    },
    /// A model that was trained or evaluated before `compile`.
    #[error(
        "the model is not compiled\nhint: call `model.compile(Adam::default(), BinaryCrossentropy, [Accuracy])` first"
    )]
    NotCompiled,
    /// A loss that is no number any more.
    #[error(
        "the {}loss is {loss} at epoch {epoch}, batch {batch}; the weights are as the last step left them\n\
         hint: look for NaN in the data, scale the pictures, or try a smaller learning rate",
        if *.validation { "validation " } else { "" }
    )]
    NotFinite {
        /// The loss that was found.
        loss: f32,
        /// The epoch, from 1.
        epoch: usize,
        /// The batch of the epoch, from 1.
        batch: usize,
        /// Whether it is the loss on the validation data.
        validation: bool,
    },
    /// A function that panicked in a thread of the library.
    #[error("{place} panicked: {message}\nhint: {hint}")]
    Panicked {
        /// What ran.
        place: String,
        /// The panic's message.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// The user pressed stop.
    #[error("interrupted; the variables and the weights are as the last batch left them")]
    Interrupted,
    /// A file of pretrained weights that could not be fetched.
    #[error("{what}: {problem}\nhint: {hint}")]
    Hub {
        /// The weights' name.
        what: String,
        /// What was expected and what was found.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// No training of a model of this form was kept.
    #[error(
        "no weights of `{model}` are kept from a training in this session{}\n\
         hint: build the model exactly as it was when it was trained, then call `recover()` again", kept_line(.kept)
    )]
    NothingToRecover {
        /// The model that was asked.
        model: String,
        /// The models of which weights are kept.
        kept: Vec<String>,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A tensor on another device than the model.
    #[error(
        "{place}: expected a tensor on {expected}, found one on {found}\nhint: move it: `x.to_device(&device())?`"
    )]
    Device {
        /// What it was given to.
        place: String,
        /// Where the program's tensors live.
        expected: String,
        /// Where this one does.
        found: String,
    },
    /// A GPU whose memory does not hold what was to be computed.
    #[error("the memory of the GPU is full{}\nhint: {}; every variable is as it was", batch_line(.batch_size), smaller(.batch_size))]
    OutOfMemory {
        /// The samples in the batch that was at hand, if one was.
        batch_size: Option<usize>,
    },
    /// A chart that could not be drawn.
    #[error("the chart could not be drawn: {0}")]
    Chart(String),
    /// A tensor operation failed: a [`candle_core::Error`]. In a box, since how to drop one takes long
    /// to compile, in every cell that could meet it.
    #[error(transparent)]
    Tensor(Box<dyn std::error::Error + Send + Sync>),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        // As CUDA and cuBLAS say it; candle has no case of its own for it.
        let text = error.to_string();
        match ["OUT_OF_MEMORY", "ALLOC_FAILED"].iter().any(|sign| text.contains(sign)) {
            true => Error::OutOfMemory { batch_size: None },
            false => Error::Tensor(Box::new(error)),
        }
    }
}

impl Error {
    /// A panic, as `catch_unwind` gives it.
    pub(crate) fn panicked(place: String, panic: &(dyn std::any::Any + Send), hint: &str) -> Error {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "the panic has no message".into());
        Error::Panicked { place, message, hint: hint.into() }
    }

    /// The same with the batch that was at hand.
    pub(crate) fn with_batch(self, batch_size: usize) -> Error {
        match self {
            Error::OutOfMemory { .. } => Error::OutOfMemory { batch_size: Some(batch_size) },
            other => other,
        }
    }

    /// For `map_err` on what the file system answers.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// Weights that do not fit, with the first of their problems and the last.
    pub(crate) fn weights(path: &Path, network: &str, mut problems: Vec<String>) -> Error {
        const SHOWN: usize = 6;
        if problems.len() > SHOWN + 2 {
            let more = problems.len() - SHOWN - 1;
            problems.splice(SHOWN..SHOWN + more, [format!("and {more} more")]);
        }
        Error::Weights { path: path.to_owned(), network: network.to_owned(), problems }
    }

    pub(crate) fn shape(
        place: impl Into<String>,
        expected: impl Into<String>,
        found: &[usize],
        hint: impl Into<String>,
    ) -> Error {
        Error::Shape {
            place: place.into(),
            expected: expected.into(),
            found: format!("{found:?}"),
            hint: hint.into(),
        }
    }
}

fn batch_line(batch_size: &Option<usize>) -> String {
    batch_size.map_or(String::new(), |size| format!(" with a batch of {size}"))
}

fn smaller(batch_size: &Option<usize>) -> String {
    match batch_size {
        Some(2..) => format!("try `.batch_size({})`", batch_size.unwrap_or(0) / 2),
        _ => "take fewer or smaller pictures at once, and drop models that are not needed".to_owned(),
    }
}

fn kept_line(kept: &[String]) -> String {
    if kept.is_empty() { String::new() } else { format!("; there are some of {}", kept.join(", ")) }
}

fn hint_line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\nhint: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_told_with_a_smaller_batch() {
        let said = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let error = Error::from(candle_core::Error::Msg(said.into()));
        assert!(error.to_string().contains("take fewer or smaller pictures"), "{error}");
        let error = error.with_batch(32);
        assert!(
            error.to_string().contains("a batch of 32") && error.to_string().contains("`.batch_size(16)`"),
            "{error}"
        );
        let other = Error::from(candle_core::Error::Msg("shape".into())).with_batch(32);
        assert_eq!(other.to_string(), "shape");
    }
}
