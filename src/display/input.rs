//! Questions to whoever runs the cell.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use headstart_frame::{ANSWERS_VARIABLE, Answer, Frame};

use super::{Sink, sink};
use crate::{Error, Result};

/// What evcxr's stock kernel takes for a question.
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
/// [`Error::Io`] if nothing can be read; [`Error::Interrupted`] if the user pressed Stop instead.
pub fn input(prompt: &str) -> Result<String> {
    ask(prompt, false)
}

/// The same for a secret, which a notebook does not show while it is typed.
///
/// # Errors
/// As [`input`].
pub fn input_password(prompt: &str) -> Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> Result<String> {
    match sink() {
        Sink::Kernel => return ask_kernel(prompt, password),
        // A colon ends the prompt there.
        Sink::StockKernel => {
            let question = if password { PASSWORD } else { QUESTION };
            println!("{question}:{}", prompt.replace([':', '\n'], " "));
        }
        Sink::Terminal => print!("{prompt}"),
    }
    std::io::stdout().flush().map_err(Error::io("standard output"))?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Error::io("standard input"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard input is empty in the Headstart kernel: answers have a pipe of their own.
fn ask_kernel(prompt: &str, password: bool) -> Result<String> {
    // Answers do not name their question, so there is one question at a time.
    static QUESTION: Mutex<()> = Mutex::new(());
    let _question = QUESTION.lock().unwrap_or_else(PoisonError::into_inner);
    let no_input = |reason: &str| Error::io("standard input")(IoError::new(ErrorKind::UnexpectedEof, reason));
    let descriptor =
        std::env::var(ANSWERS_VARIABLE).map_err(|_| no_input("the kernel takes no questions"))?;
    let answers = File::open(format!("/dev/fd/{descriptor}")).map_err(Error::io("standard input"))?;
    println!("{}", Frame::Input { prompt: prompt.to_owned(), password }.encode());
    std::io::stdout().flush().map_err(Error::io("standard output"))?;
    let mut line = String::new();
    BufReader::new(answers).read_line(&mut line).map_err(Error::io("standard input"))?;
    match Answer::decode(&line) {
        Some(Answer::Text(text)) => Ok(text),
        Some(Answer::Interrupted) => Err(Error::Interrupted),
        Some(Answer::NoInput) => Err(no_input("this client cannot be asked for input")),
        None => Err(no_input("the kernel did not answer")),
    }
}
