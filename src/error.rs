//! The errors of the library, with hints on how to fix them.

use std::path::{Path, PathBuf};

/// The result type of the library. `?` works on it in a notebook cell.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the library. The message says what was expected, what was found, where, and what to
/// do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor or the input of a layer has the wrong shape.
    #[error("{place}: expected shape {expected}, found {found}{}", hint_line(.hint))]
    Shape {
        /// The layer or function.
        place: String,
        /// The expected shape, in words or as a list.
        expected: String,
        /// The shape found.
        found: String,
        /// How to fix the error; may be empty.
        hint: String,
    },
    /// The model has no layer with this name.
    #[error("`{model}` has no layer named `{name}`; its layers are: {known}{}", hint_line(.hint))]
    UnknownLayer {
        /// The model that was searched.
        model: String,
        /// The requested name.
        name: String,
        /// The existing names.
        known: String,
        /// The most similar name, if any.
        hint: String,
    },
    /// A weights file does not fit the network.
    #[error("{path}: these are not weights for {network}: {}", .problems.join("; "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// The network that the weights were loaded into.
        network: String,
        /// Each tensor that is missing or has the wrong shape, with expected and found shape.
        problems: Vec<String>,
    },
    /// An image cannot be read.
    #[error(
        "{path}: this image cannot be read: {reason}\nhint: replace the file or remove it from the folder"
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// The decoder's message.
        reason: String,
    },
    /// A folder contains no images where images were expected.
    #[error(
        "{path}: {problem}\nhint: put the images into one folder per class, as in {path}/cats/1.jpg, {path}/dogs/1.jpg"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What was found in the folder.
        problem: String,
    },
    /// A function of the GPU failed.
    #[error("the GPU failed: {message}\nhint: set HEADSTART_DEVICE=cpu to run without it")]
    Gpu {
        /// The message of the driver or of a library.
        message: String,
    },
    /// The loss cannot use the targets.
    #[error("{loss}: expected {expected}, found {found}{}", hint_line(.hint))]
    Targets {
        /// The loss.
        loss: String,
        /// The expected values or shape.
        expected: String,
        /// What was found.
        found: String,
        /// How to fix the error; may be empty.
        hint: String,
    },
    /// An argument is outside its range.
    #[error("{name}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// The expected values.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A model was trained or evaluated before `compile`.
    #[error(
        "the model is not compiled\nhint: call `model.compile(Adam::default(), BinaryCrossentropy, [Accuracy])` first"
    )]
    NotCompiled,
    /// The loss is not finite.
    #[error(
        "the {}loss is {loss} at epoch {epoch}, batch {batch}; the weights are those of the last step\n\
         hint: look for NaN in the data, scale the images, or try a smaller learning rate",
        if *.validation { "validation " } else { "" }
    )]
    NotFinite {
        /// The value of the loss.
        loss: f32,
        /// The epoch, from 1.
        epoch: usize,
        /// The batch of the epoch, from 1.
        batch: usize,
        /// Whether it is the validation loss.
        validation: bool,
    },
    /// A function panicked in a thread of the library.
    #[error("{place} panicked: {message}\nhint: {hint}")]
    Panicked {
        /// The function that panicked.
        place: String,
        /// The panic's message.
        message: String,
        /// How to fix the error.
        hint: String,
    },
    /// The user interrupted the kernel or the program.
    #[error("interrupted; the weights are those of the last batch, and all variables keep their values")]
    Interrupted,
    /// A file of pretrained weights could not be fetched.
    #[error("{what}: {problem}\nhint: {hint}")]
    Hub {
        /// The name of the weights.
        what: String,
        /// The expected and the actual content.
        problem: String,
        /// How to fix the error.
        hint: String,
    },
    /// No checkpoint exists for a model with these parameters.
    #[error(
        "this session has no checkpoint of `{model}`{}\n\
         hint: build the model exactly as it was when it was trained, then call `recover()` again", others_line(.models)
    )]
    NothingToRecover {
        /// The model that `recover` was called on.
        model: String,
        /// The models that have checkpoints.
        models: Vec<String>,
    },
    /// An ONNX file cannot be imported.
    #[error("{path}: the file cannot be imported: {problem}")]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The node, and what was expected and found.
        problem: String,
    },
    /// A file system operation failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A tensor is on another device than the model.
    #[error(
        "{place}: expected a tensor on {expected}, found one on {found}\nhint: move it: `x.to_device(&device())?`"
    )]
    Device {
        /// The layer or function that received the tensor.
        place: String,
        /// The device of the model.
        expected: String,
        /// The device of the tensor.
        found: String,
    },
    /// The memory of the GPU is too small for the computation.
    #[error("the memory of the GPU is full{}\nhint: {}; all variables keep their values", batch_line(.batch_size), smaller(.batch_size))]
    OutOfMemory {
        /// The number of samples in the current batch, if known.
        batch_size: Option<usize>,
    },
    /// A chart could not be drawn.
    #[error("the chart could not be drawn: {0}")]
    Chart(String),
    /// A tensor operation failed: a [`candle_core::Error`]. It is boxed, because its drop code takes
    /// long to compile in every cell that handles the error.
    #[error(transparent)]
    Tensor(Box<dyn std::error::Error + Send + Sync>),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        // The messages of CUDA and cuBLAS. candle has no error variant for them.
        let text = error.to_string();
        match ["OUT_OF_MEMORY", "ALLOC_FAILED"].iter().any(|sign| text.contains(sign)) {
            true => Error::OutOfMemory { batch_size: None },
            false => Error::Tensor(Box::new(error)),
        }
    }
}

impl Error {
    /// Converts a panic from `catch_unwind` to an error.
    pub(crate) fn panicked(place: String, panic: &(dyn std::any::Any + Send), hint: &str) -> Error {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let message = message.unwrap_or_else(|| "the panic has no message".into());
        Error::Panicked { place, message, hint: hint.into() }
    }

    /// Adds the size of the current batch to an out-of-memory error.
    pub(crate) fn with_batch(self, batch_size: usize) -> Error {
        match self {
            Error::OutOfMemory { .. } => Error::OutOfMemory { batch_size: Some(batch_size) },
            other => other,
        }
    }

    /// For `map_err` on the results of file system operations.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }

    /// Creates a weights error with the first problems and the last one.
    pub(crate) fn weights(path: &Path, network: &str, mut problems: Vec<String>) -> Error {
        // Number of problems that the message names.
        const MAX_SHOWN: usize = 6;
        if problems.len() > MAX_SHOWN + 2 {
            let more = problems.len() - MAX_SHOWN - 1;
            problems.splice(MAX_SHOWN..MAX_SHOWN + more, [format!("and {more} more")]);
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
        _ => "take fewer or smaller images at once, and drop models that are not needed".to_owned(),
    }
}

fn others_line(models: &[String]) -> String {
    if models.is_empty() { String::new() } else { format!("; checkpoints exist for {}", models.join(", ")) }
}

fn hint_line(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\nhint: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_gpu_error_suggests_a_smaller_batch() {
        let message = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let error = Error::from(candle_core::Error::Msg(message.into()));
        assert!(error.to_string().contains("take fewer or smaller images"), "{error}");
        let error = error.with_batch(32);
        assert!(
            error.to_string().contains("a batch of 32") && error.to_string().contains("`.batch_size(16)`"),
            "{error}"
        );
        let other = Error::from(candle_core::Error::Msg("shape".into())).with_batch(32);
        assert_eq!(other.to_string(), "shape");
    }
}
