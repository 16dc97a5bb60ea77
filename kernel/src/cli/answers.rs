//! Answers to the questions of cells, read from standard input.
//!
//! A thread of its own reads the lines, so that a question that is withdrawn, for example by Ctrl-C, does not wait for
//! a line. That line answers the next question.

use std::sync::{LazyLock, Mutex, PoisonError};

use headstart_frame::Answer;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::engine::question::Question;

/// The thread that reads.
struct Reader {
    requests: UnboundedSender<()>,
    answers: UnboundedReceiver<Answer>,
    /// Whether a line was requested and has not arrived.
    is_reading: bool,
}

static READER: LazyLock<Mutex<Reader>> = LazyLock::new(|| {
    let (requests, mut requested) = unbounded_channel();
    let (send, answers) = unbounded_channel();
    std::thread::spawn(move || while requested.blocking_recv().is_some() && send.send(read()).is_ok() {});
    Mutex::new(Reader { requests, answers, is_reading: false })
});

/// Answers a question with the next line; returns early if the question is withdrawn.
pub fn give(question: &Question) {
    let mut reader = READER.lock().unwrap_or_else(PoisonError::into_inner);
    if !std::mem::replace(&mut reader.is_reading, true) {
        let _ = reader.requests.send(());
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return question.answer(&Answer::NoInput);
    };
    let answer = runtime.block_on(async {
        tokio::select! {
            () = question.is_over() => None,
            answer = reader.answers.recv() => Some(answer.unwrap_or(Answer::NoInput)),
        }
    });
    if let Some(answer) = answer {
        reader.is_reading = false;
        question.answer(&answer);
    }
}

/// The next line of standard input.
fn read() -> Answer {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(length) if length > 0 => Answer::Text(line.trim_end_matches(['\r', '\n']).to_owned()),
        _ => Answer::NoInput,
    }
}
