//! Status codes of cuDNN 9.

use std::os::raw::c_int;

use crate::{Error, Result};

/// `CUDNN_STATUS_NOT_SUPPORTED`.
const NOT_SUPPORTED: c_int = 3000;

/// Whether cuDNN or the GPU does not support a convolution.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Cuda { code: NOT_SUPPORTED..4000, .. })
}

/// The error of a convolution that is known to be unsupported.
pub(super) fn unsupported() -> Error {
    let (function, message) =
        ("convolution", format!("not supported by this cuDNN or GPU (status {NOT_SUPPORTED})"));
    Error::Cuda { function, message, code: NOT_SUPPORTED }
}

/// Turns a status into a result.
pub(super) fn check(function: &'static str, status: c_int) -> Result<()> {
    let meaning = match status {
        0 => return Ok(()),
        1000..2000 => "cuDNN is not ready: a library is missing, or its version does not fit the driver",
        2000..3000 => "wrong argument",
        NOT_SUPPORTED..4000 => "not supported by this cuDNN or GPU",
        4000..5000 => "internal error",
        5000..6000 => "execution failed",
        _ => "unknown error",
    };
    Err(Error::Cuda { function, message: format!("{meaning} (status {status})"), code: status })
}
