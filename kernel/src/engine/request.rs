//! Requests of other threads to the engine.

use tokio::sync::{mpsc, oneshot};

use crate::engine::complete::Completions;
use crate::engine::output::{Bundle, Event};

/// A request to the engine.
pub enum Request {
    Stop,
    Execute { number: u64, code: String, events: mpsc::Sender<Event> },
    Complete { code: String, position: usize, answer: oneshot::Sender<Completions> },
    Inspect { code: String, position: usize, answer: oneshot::Sender<Option<Bundle>> },
}
