//! The state that all handlers of Jupyter's messages share, and what they publish.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use jupyter_protocol::{
    ClearOutput, DisplayData, ExecutionState, JupyterMessage, JupyterMessageContent, Media, Status,
    StreamContent, Transient, UpdateDisplayData,
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::engine::handle::Engine;
use crate::engine::output::{self, Bundle, Output};
use crate::jupyter::history::History;
use crate::jupyter::wire::{Input, Publisher};

/// A kernel that is connected to its clients.
pub struct Kernel {
    pub engine: Engine,
    pub publisher: Publisher,
    pub input: Input,
    /// The number of the last cell.
    pub count: AtomicUsize,
    pub history: Mutex<History>,
    /// The last cell that was run.
    pub last_cell: Mutex<Option<JupyterMessage>>,
    /// The reply to `connect_request`.
    pub ports: Value,
    /// Is notified when the kernel is to end.
    pub leave: Notify,
}

impl Kernel {
    /// Publishes whether the kernel is busy.
    pub fn publish_state(&self, execution_state: ExecutionState, request: Option<&JupyterMessage>) {
        self.publisher.publish(Status { execution_state }, request);
    }

    /// Sends an output, when there is room for it.
    pub async fn publish_output(&self, output: Output, request: Option<&JupyterMessage>) {
        let size = output.size();
        self.publisher.publish_output(content(output), size, request).await;
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
    }
}

/// A bundle in the protocol's form. Types that carry JSON are parsed, as the protocol has it.
pub fn media(data: &Bundle) -> Media {
    serde_json::from_value(output::media(data)).unwrap_or_default()
}
