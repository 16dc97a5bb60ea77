//! What a `?` in a cell does, compiled once for the usual values and errors.
//!
//! rustc takes what stands in the standard library to be inlined from another library only where that
//! has not inlined it, so this one is not optimised. It pays: to compile the conversion of one error,
//! rustc reads all that there are, in all libraries.
#![cfg(not(rust_analyzer))]

use headstart_core::prelude::*;
use headstart_core::variables::EvcxrUserCodeError;
use headstart_core::{Error, candle_core};

type Question<T, E = Error> = fn(Result<T, E>) -> Result<(), EvcxrUserCodeError>;

fn question<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Result<(), EvcxrUserCodeError> {
    outcome?;
    Ok(())
}

pub static OF_VALUES: (Question<()>, Question<Model>, Question<Tensor>, Question<History>) =
    (question, question, question, question);

/// A value that loops may make stays to be inlined.
pub static OF_ERRORS: (
    Question<Tensor, candle_core::Error>,
    Question<(), std::io::Error>,
    Question<(), std::num::ParseIntError>,
    Question<(), std::num::ParseFloatError>,
    Question<(), String>,
) = (question, question, question, question, question);
