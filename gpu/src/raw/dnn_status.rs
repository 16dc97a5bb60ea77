//! Status codes of cuDNN 9.

use std::os::raw::c_int;

use crate::{Error, Result};

/// Turns a status into a result.
pub(super) fn check(function: &'static str, status: c_int) -> Result<()> {
    let meaning = match status {
        0 => return Ok(()),
        1000..2000 => "cuDNN is not ready: a library is missing, or its version does not fit the driver",
        2000..3000 => "wrong argument",
        3000..4000 => "not supported by this cuDNN or GPU",
        4000..5000 => "internal error",
        5000..6000 => "execution failed",
        _ => "unknown error",
    };
    Err(Error::Cuda { function, message: format!("{meaning} (status {status})"), code: status })
}
