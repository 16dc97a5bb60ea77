//! State that all handlers of Jupyter's messages share, and the messages that they publish.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use jupyter_protocol::{
    ClearOutput, DisplayData, ExecutionState, JupyterMessage, JupyterMessageContent, Media, Status,
    StreamContent, Transient, UpdateDisplayData,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::engine::handle::Engine;
use crate::engine::output::{self, Bundle, Output};
use crate::jupyter::comms::Comms;
use crate::jupyter::history::History;
use crate::jupyter::wire::{Input, Publisher};

/// A kernel that is connected to its clients.
pub struct Kernel {
    pub engine: Engine,
    pub publisher: Publisher,
    pub input: Input,
    /// Execution count of the last cell.
    pub count: AtomicUsize,
    pub history: Mutex<History>,
    pub comms: Comms,
    /// Whether a client shows the variables pane.
    pub is_debugging: AtomicBool,
    /// Request of the last cell that ran.
    pub last_cell: Mutex<Option<JupyterMessage>>,
    /// Reply to `connect_request`.
    pub ports: Value,
    /// Notified when the kernel shall end.
    pub leave: Notify,
}

impl Kernel {
    /// Publishes the kernel's execution state.
    pub fn publish_state(&self, execution_state: ExecutionState, request: Option<&JupyterMessage>) {
        self.publisher.publish(Status { execution_state }, request);
    }

    /// Sends an output, after waiting for capacity in the queue.
    pub async fn publish_output(&self, output: Output, request: Option<&JupyterMessage>) {
        let size = output.size();
        match output {
            Output::Comm(frame) => {
                let message = self.comms.to_clients(frame, request);
                message.into_iter().for_each(|message| self.publisher.publish_message(message));
            }
            Output::CommsEnded => {
                self.comms.end().into_iter().for_each(|message| self.publisher.publish_message(message));
            }
            output => self.publisher.publish_output(content(output), size, request).await,
        }
    }
}

fn content(output: Output) -> JupyterMessageContent {
    match output {
        Output::Stdout(text) => StreamContent::stdout(&text).into(),
        Output::Stderr(text) => StreamContent::stderr(&text).into(),
        Output::Display { id, data } => {
            let transient = Some(Transient { display_id: Some(id) });
            DisplayData { transient, ..DisplayData::new(media(&data)) }.into()
        }
        Output::Clear { wait } => ClearOutput { wait }.into(),
        Output::Update { id, data } => UpdateDisplayData::new(media(&data), &id).into(),
        Output::Comm(_) | Output::CommsEnded => StreamContent::stdout("").into(),
    }
}

/// Converts a bundle to the protocol's format. JSON types are parsed, as the protocol requires.
pub fn media(data: &Bundle) -> Media {
    serde_json::from_value(output::media(data)).unwrap_or_default()
}
