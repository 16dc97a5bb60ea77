//! Input from the user of the notebook or terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, ErrorKind, Write};
use std::sync::{Mutex, PoisonError};

use headstart_frame::{ANSWERS_VARIABLE, Answer, Frame};

use super::{Sink, sink};
use crate::{Error, Result};

/// Prefixes of a line that evcxr's stock kernel takes as an input request.
const QUESTION: &str = "EVCXR_INPUT_REQUEST";
const PASSWORD: &str = "EVCXR_INPUT_REQUEST_PASSWORD";

/// Asks for a line of text, in the notebook or in the terminal.
///
/// ```no_run
/// use headstart::prelude::*;
/// let folder = input("Where are your images? ")?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if nothing can be read; [`Error::Interrupted`] if the user interrupted the kernel.
pub fn input(prompt: &str) -> Result<String> {
    ask(prompt, false)
}

/// Asks for a secret. A notebook hides the text while it is typed.
///
/// # Errors
/// Those of [`input`].
pub fn input_password(prompt: &str) -> Result<String> {
    ask(prompt, true)
}

fn ask(prompt: &str, password: bool) -> Result<String> {
    match sink() {
        Sink::Kernel => return ask_kernel(prompt, password),
        // In the stock kernel, a colon ends the prompt.
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

/// Asks through the Headstart kernel. Standard input is empty there; answers come through a separate
/// pipe.
fn ask_kernel(prompt: &str, password: bool) -> Result<String> {
    // Answers do not name their question, so only one question may be open at a time.
    static QUESTION: Mutex<()> = Mutex::new(());
    let _question = QUESTION.lock().unwrap_or_else(PoisonError::into_inner);
    let no_input = |reason: &str| Error::io("standard input")(IoError::new(ErrorKind::UnexpectedEof, reason));
    let descriptor =
        std::env::var(ANSWERS_VARIABLE).map_err(|_| no_input("the kernel takes no questions"))?;
    let answers = File::open(format!("/dev/fd/{descriptor}")).map_err(Error::io("standard input"))?;
    Frame::Input { prompt: prompt.to_owned(), password }.print();
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
