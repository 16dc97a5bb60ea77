//! Questions to whoever runs the cell.

use std::io::Write;

use super::{Sink, sink};
use crate::{Error, Result};

/// What evcxr's kernels take for a question.
const QUESTION: &str = "EVCXR_INPUT_REQUEST";
const PASSWORD: &str = "EVCXR_INPUT_REQUEST_PASSWORD";

/// Asks for a line of text, in the notebook or in the terminal.
///
/// ```no_run
/// use headstart::prelude::*;
/// let folder = input("Where are your pictures? ")?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if nothing can be read.
pub fn input(prompt: &str) -> Result<String> {
    ask(QUESTION, prompt)
}

/// The same for a secret, which a notebook does not show while it is typed.
///
/// # Errors
/// [`Error::Io`] if nothing can be read.
pub fn input_password(prompt: &str) -> Result<String> {
    ask(PASSWORD, prompt)
}

fn ask(question: &str, prompt: &str) -> Result<String> {
    match sink() {
        Sink::Terminal => print!("{prompt}"),
        // A colon ends the prompt there.
        Sink::Kernel | Sink::StockKernel => println!("{question}:{}", prompt.replace([':', '\n'], " ")),
    }
    std::io::stdout().flush().map_err(Error::io("standard output"))?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Error::io("standard input"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
