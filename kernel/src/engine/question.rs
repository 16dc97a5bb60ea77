//! A cell's request for input from the user; only the first answer counts.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use headstart_frame::Answer;
use tokio::sync::watch;

/// A pending question.
#[derive(Clone)]
pub struct Question {
    /// Pipe from which the cell reads; `None` once the question is answered.
    answers: Arc<Mutex<Option<File>>>,
    is_over: watch::Sender<bool>,
    /// Called when the user has answered.
    on_answer: Arc<dyn Fn() + Send + Sync>,
}

impl Question {
    pub fn new(answers: File, on_answer: impl Fn() + Send + Sync + 'static) -> Question {
        let answers = Arc::new(Mutex::new(Some(answers)));
        Question { answers, is_over: watch::channel(false).0, on_answer: Arc::new(on_answer) }
    }

    /// Sends an answer, unless there already is one.
    pub fn answer(&self, answer: &Answer) {
        let Some(mut answers) = self.take() else { return };
        (self.on_answer)();
        if let Err(error) = answers.write_all(answer.encode().as_bytes()) {
            eprintln!("an answer did not reach the cell: {error}");
        }
    }

    /// Withdraws the question, because the process has ended.
    pub fn withdraw(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<File> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_over.send_replace(true);
        answers
    }

    /// Waits until the question is answered or withdrawn.
    pub async fn is_over(&self) {
        let _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question").field("is_over", &*self.is_over.borrow()).finish_non_exhaustive()
    }
}
