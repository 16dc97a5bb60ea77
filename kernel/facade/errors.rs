//! The error conversions of `?` in a cell, and the destructors of common values, compiled once.
//!
//! This library is not optimised: rustc reuses a library's copy of an inline function of the standard
//! library only if that copy was not inlined. Without the copies, rustc would read the error conversions of
//! all libraries to compile one conversion in a cell.
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

/// Conversions of common errors.
pub static OF_ERRORS: (
    Question<Tensor, candle_core::Error>,
    Question<(), std::io::Error>,
    Question<(), std::num::ParseIntError>,
    Question<(), std::num::ParseFloatError>,
    Question<(), String>,
) = (question, question, question, question, question);

pub static OF_TEXTS: [fn(&str) -> String; 3] = [str::to_owned, str::to_string, |text| text.into()];

/// Destructors of values that cells often create and drop.
pub static OF_ENDS: (fn(nn::Sequential), fn(String), fn(Vec<String>), fn(Vec<f32>), fn(Vec<f64>), fn(Vec<usize>)) =
    (drop, drop, drop, drop, drop, drop);
