//! What a `?` in a cell does, and what drops a value, compiled once for the usual ones.
//!
//! rustc takes what stands in the standard library to be inlined from another library only where that
//! has not inlined it, so this one is not optimised. It pays: to compile the conversion of one error,
//! rustc reads all that there are, in all libraries.
#![cfg(not(rust_analyzer))]

use headstart_core::prelude::*;
use headstart_core::variables::EvcxrUserCodeError;
use headstart_core::{Error, candle_core, nn};

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

pub static OF_TEXTS: [fn(&str) -> String; 3] = [str::to_owned, str::to_string, |text| text.into()];

/// How those end that cells make and give away.
pub static OF_ENDS: (fn(nn::Sequential), fn(String), fn(Vec<String>), fn(Vec<f32>), fn(Vec<f64>), fn(Vec<usize>)) =
    (drop, drop, drop, drop, drop, drop);
