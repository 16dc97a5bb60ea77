//! Errors of the GPU path.

/// The result type of the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the GPU path. The message says what failed, and what to do if that is known.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A CUDA library is missing or cannot be loaded.
    #[error("{library} not found: tried {tried}; {hint}")]
    Library {
        /// The library: "the NVIDIA driver", "cuDNN 9", …
        library: &'static str,
        /// The names that were tried, with the loader's messages.
        tried: String,
        /// How to install it.
        hint: &'static str,
    },
    /// A CUDA library lacks a function.
    #[error(
        "{library} has no function {function}: this version is not supported; install cuDNN 9 and CUDA 12 or 13"
    )]
    Function {
        /// The library's file.
        library: String,
        /// The missing function.
        function: String,
    },
    /// The machine does not have a GPU with this number.
    #[error("GPU {number}: expected a number below {count}, the number of NVIDIA GPUs of this machine")]
    Number {
        /// The requested number.
        number: usize,
        /// The number of GPUs.
        count: usize,
    },
    /// A CUDA function failed.
    #[error("{function}: {message}")]
    Cuda {
        /// The function that failed.
        function: &'static str,
        /// Its message.
        message: String,
        /// Its status code.
        code: i32,
    },
    /// The kernels' source does not compile.
    #[error("the kernels do not compile for {architecture}: {log}")]
    Kernels {
        /// The GPU's architecture, such as `sm_90`.
        architecture: String,
        /// The compiler's messages.
        log: String,
    },
    /// An operand has the wrong number of values.
    #[error("{operation}: expected {expected} values for `{operand}`, found {found}")]
    Length {
        /// The operation.
        operation: &'static str,
        /// The operand.
        operand: &'static str,
        /// The expected number of values.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// An argument is outside its range.
    #[error("{operation}: expected {expected}, found {found}")]
    Argument {
        /// The operation.
        operation: &'static str,
        /// The expected range.
        expected: String,
        /// The value found.
        found: String,
    },
}

impl Error {
    /// Whether the GPU's memory is full.
    pub fn is_out_of_memory(&self) -> bool {
        let Error::Cuda { code, function, .. } = self else { return false };
        let is_of = |library: &str| function.starts_with(library);
        // `CUDA_ERROR_OUT_OF_MEMORY`, `CUBLAS_STATUS_ALLOC_FAILED`, `CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED`.
        match code {
            2 => is_of("cu") && !is_of("cublas") && !is_of("cudnn"),
            3 => is_of("cublas"),
            4004 => is_of("cudnn"),
            _ => false,
        }
    }

    pub(crate) fn argument(
        operation: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Error {
        Error::Argument { operation, expected: expected.into(), found: found.to_string() }
    }
}
