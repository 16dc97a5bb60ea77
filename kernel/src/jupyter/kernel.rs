//! State that all handlers of Jupyter's messages share, and the messages that they publish.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use jupyter_protocol::{
    ClearOutput, DisplayData, ExecutionState, JupyterMessage, JupyterMessageContent, Media, MediaType,
    Status, StreamContent, Transient, UpdateDisplayData,
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
    pub shutdown: Notify,
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
                if let Some(message) = message {
                    self.publisher.publish_bounded(message, size, request).await;
                }
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

/// Converts a bundle to the protocol's format. JSON types are parsed, as the protocol requires. The values stay as the
/// cell wrote them: the crate's own types reject or drop fields that they do not know.
pub fn media(data: &Bundle) -> Media {
    let formats = match output::media(data) {
        Value::Object(formats) => formats,
        _ => return Media::default(),
    };
    Media { content: formats.into_iter().map(MediaType::Other).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_format_that_does_not_fit_its_schema_is_passed_on() {
        let json_type = "application/vnd.dataresource+json";
        let data = [
            ("text/plain", "hello"),
            (json_type, "{\"data\": [], \"mine\": 1}"),
            ("image/svg+xml", "<svg/>"),
        ]
        .map(|(mime, content)| (mime.to_owned(), content.to_owned()));
        let expected =
            json!({"text/plain": "hello", json_type: {"data": [], "mine": 1}, "image/svg+xml": "<svg/>"});
        assert_eq!(serde_json::to_value(media(&data.to_vec())).unwrap(), expected);
    }
}
