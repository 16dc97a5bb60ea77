//! Dispatch of Jupyter's messages: one `match` over all requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;
use jupyter_protocol::{
    CodeMirrorMode, CommClose, CompleteReply, ConnectionInfo, DebugReply, ExecuteReply, ExecutionState,
    HelpLink, HistoryReply, InspectReply, InterruptReply, IsCompleteReply, JupyterMessage,
    JupyterMessageContent as Content, KernelInfoReply, LanguageInfo, ReplyStatus, ShutdownReply,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::compile::cell::quits;
use crate::compile::completeness::{Completeness, completeness};
use crate::engine::complete::{byte_offset, char_offset};
use crate::engine::handle::{Engine, STACK_SIZE};
use crate::jupyter::comms::Comms;
use crate::jupyter::execute::aborted;
use crate::jupyter::history::History;
use crate::jupyter::kernel::{Kernel, media};
use crate::jupyter::origin::Origin;
use crate::jupyter::raise;
use crate::jupyter::wire::{Channel, PROTOCOL_VERSION, Sockets};
use crate::prelude::toolchain;

/// Longest time that the kernel waits for its last messages to be sent (100 ms).
const LINGER: Duration = Duration::from_millis(100);

/// The runtime of a kernel. Its threads check whether cells are complete.
pub fn runtime() -> Result<Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_stack_size(STACK_SIZE).build().map_err(|error| error.to_string())
}

/// Serves requests until a client asks for shutdown.
pub fn run(
    runtime: Runtime,
    connection: &ConnectionInfo,
    engine: Engine,
    origin: Origin,
) -> Result<(), String> {
    let served = runtime.block_on(serve(connection, engine, origin));
    // Waiting sockets must not keep the process alive.
    runtime.shutdown_background();
    served
}

async fn serve(connection: &ConnectionInfo, engine: Engine, origin: Origin) -> Result<(), String> {
    let session = format!("headstart-{}", std::process::id());
    let sockets = Sockets::bind(connection, &session).await.map_err(|error| error.to_string())?;
    let kernel = Arc::new(Kernel {
        engine,
        publisher: sockets.publisher,
        input: sockets.input,
        count: AtomicUsize::new(0),
        history: Mutex::new(History::begin()?),
        comms: Comms::default(),
        is_debugging: AtomicBool::new(false),
        last_cell: Mutex::new(None),
        ports: json!({
            "status": "ok",
            "shell_port": connection.shell_port,
            "iopub_port": connection.iopub_port,
            "stdin_port": connection.stdin_port,
            "control_port": connection.control_port,
            "hb_port": connection.hb_port,
        }),
        leave: Notify::new(),
    });
    kernel.publish_state(ExecutionState::Starting, None);
    let followed = origin.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::spawn(answer_all(kernel.clone(), sockets.shell));
    tokio::spawn(answer_all(kernel.clone(), sockets.control));
    tokio::spawn(publish_background(kernel.clone()));
    tokio::spawn(raise::raise_standby(kernel.clone(), origin));
    tokio::select! {
        () = kernel.leave.notified() => tokio::time::sleep(LINGER).await,
        _ = terminate.recv() => {}
        () = followed.ended() => {}
    }
    let stop = tokio::task::spawn_blocking(move || kernel.engine.stop());
    stop.await.map_err(|error| error.to_string())
}

/// Publishes output that background threads of the cells print between cells, below the last cell.
async fn publish_background(kernel: Arc<Kernel>) {
    let Some(mut outputs) = kernel.engine.background() else { return };
    while let Some((comm, output)) = outputs.recv().await {
        let last = || kernel.last_cell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The output of a callback belongs to the cell that shows the widget.
        let cell = comm.and_then(|comm| kernel.comms.parent(&comm)).or_else(last);
        kernel.publish_output(output, cell.as_ref()).await;
    }
}

/// Runs cells one after another. Answers other requests immediately, also while a cell runs.
async fn answer_all(kernel: Arc<Kernel>, mut channel: Channel) {
    let mut cells = VecDeque::new();
    loop {
        let next = match cells.pop_front() {
            Some(cell) => Some(cell),
            None => channel.request().await,
        };
        let Some(request) = next else { return };
        if !is_cell(&request) {
            kernel.answer(&mut channel, &request).await;
            continue;
        }
        *kernel.last_cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        kernel.publish_state(ExecutionState::Busy, Some(&request));
        let begin = chrono::Utc::now();
        let mut running = std::pin::pin!(kernel.reply_to(&request));
        let reply = loop {
            tokio::select! {
                reply = &mut running => break reply,
                Some(other) = channel.request() => match is_cell(&other) {
                    true => cells.push_back(other),
                    false => {
                        kernel.answer(&mut channel, &other).await;
                        kernel.publish_state(ExecutionState::Busy, Some(&request));
                    }
                },
            }
        };
        // With `stop_on_error`, the cells after a failed one do not run.
        let (unwanted, others): (Vec<_>, Vec<_>) = channel.waiting().into_iter().partition(is_cell);
        cells.extend(unwanted);
        let unwanted = match failed(&request, reply.as_ref()) {
            true => std::mem::take(&mut cells),
            false => VecDeque::new(),
        };
        if let Some(reply) = reply {
            // Clients use it to show the duration of a cell.
            let metadata = json!({"started": begin.to_rfc3339_opts(SecondsFormat::Micros, true)});
            channel.reply(reply, &request, metadata).await;
        }
        kernel.publish_state(ExecutionState::Idle, Some(&request));
        if matches!(&request.content, Content::ExecuteRequest(asked) if quits(&asked.code)) {
            kernel.leave.notify_one();
        }
        for cell in unwanted {
            kernel.abort(&mut channel, &cell).await;
        }
        for other in others {
            kernel.answer(&mut channel, &other).await;
        }
    }
}

fn is_cell(request: &JupyterMessage) -> bool {
    matches!(request.content, Content::ExecuteRequest(_))
}

fn failed(request: &JupyterMessage, reply: Option<&Content>) -> bool {
    match (&request.content, reply) {
        (Content::ExecuteRequest(asked), Some(Content::ExecuteReply(reply))) => {
            asked.stop_on_error && reply.status == ReplyStatus::Error
        }
        _ => false,
    }
}

impl Kernel {
    async fn answer(&self, channel: &mut Channel, request: &JupyterMessage) {
        self.publish_state(ExecutionState::Busy, Some(request));
        if let Some(reply) = self.reply_to(request).await {
            channel.reply(reply, request, json!({})).await;
        }
        self.publish_state(ExecutionState::Idle, Some(request));
        if matches!(request.content, Content::ShutdownRequest(_)) {
            self.leave.notify_one();
        }
    }

    async fn abort(&self, channel: &mut Channel, request: &JupyterMessage) {
        self.publish_state(ExecutionState::Busy, Some(request));
        channel.reply(aborted(self.count.load(Ordering::SeqCst)).into(), request, json!({})).await;
        self.publish_state(ExecutionState::Idle, Some(request));
    }

    /// Handles a request; `None` for messages without a reply.
    async fn reply_to(&self, request: &JupyterMessage) -> Option<Content> {
        Some(match &request.content {
            Content::KernelInfoRequest(_) => self.kernel_info().into(),
            Content::ExecuteRequest(asked) => {
                let reply: ExecuteReply = self.execute(asked, request).await;
                reply.into()
            }
            Content::IsCompleteRequest(asked) => match completeness(&asked.code) {
                Completeness::Complete => IsCompleteReply::complete(),
                Completeness::Incomplete { indent } => IsCompleteReply::incomplete(indent),
                Completeness::Invalid => IsCompleteReply::invalid(),
            }
            .into(),
            Content::CompleteRequest(asked) => self.complete(&asked.code, asked.cursor_pos).await.into(),
            Content::InspectRequest(asked) => {
                let position = byte_offset(&asked.code, asked.cursor_pos);
                match self.engine.inspect(asked.code.clone(), position).await {
                    Some(data) => InspectReply { found: true, data: media(&data), ..InspectReply::default() },
                    None => InspectReply::default(),
                }
                .into()
            }
            Content::HistoryRequest(asked) => {
                self.history(serde_json::to_value(asked).unwrap_or_default()).into()
            }
            Content::CommInfoRequest(asked) => self.comms.info(asked.target_name.as_deref()).into(),
            Content::CommOpen(open) => {
                // Only cells open comms.
                let close = CommClose { comm_id: open.comm_id.clone(), ..CommClose::default() };
                self.publisher.publish(close, Some(request));
                return None;
            }
            Content::CommMsg(asked) => {
                match self.comms.to_cells(asked, request) {
                    Ok(frame) => self.engine.send_to_comm(frame),
                    Err(answer) => self.publisher.publish_message(*answer),
                }
                return None;
            }
            Content::CommClose(asked) => {
                let closed = self.comms.closed_by_client(&asked.comm_id.0);
                closed.into_iter().for_each(|frame| self.engine.send_to_comm(frame));
                return None;
            }
            Content::InterruptRequest(_) => {
                self.engine.interrupt();
                InterruptReply::new().into()
            }
            Content::ShutdownRequest(asked) => {
                let reply = ShutdownReply { restart: asked.restart, ..ShutdownReply::default() };
                self.publisher.publish(reply.clone(), Some(request));
                reply.into()
            }
            // Also accepts requests with missing fields, which have defaults.
            Content::UnknownMessage(unknown) if unknown.msg_type == "history_request" => {
                self.history(unknown.content.clone()).into()
            }
            Content::UnknownMessage(unknown) if unknown.msg_type == "connect_request" => {
                unknown.reply(self.ports.clone())
            }
            Content::DebugRequest(asked) => DebugReply { content: self.debug(&asked.content).await }.into(),
            Content::UnknownMessage(unknown) if unknown.msg_type.ends_with("_request") => {
                unknown.reply(json!({
                    "status": "error",
                    "ename": "NotSupported",
                    "evalue": format!("headstart does not know this {}", unknown.msg_type),
                    "traceback": [],
                }))
            }
            _ => return None,
        })
    }

    fn history(&self, asked: Value) -> HistoryReply {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).answer(asked)
    }

    async fn complete(&self, code: &str, position: usize) -> CompleteReply {
        let found = self.engine.complete(code.to_owned(), byte_offset(code, position)).await;
        let (start, end) = (char_offset(code, found.start), char_offset(code, found.end));
        let kinds: Vec<_> = found
            .matches
            .iter()
            .map(|(text, kind)| json!({"text": text, "type": kind, "start": start, "end": end}))
            .collect();
        let mut reply = CompleteReply { cursor_start: start, cursor_end: end, ..CompleteReply::default() };
        reply.metadata.insert("_jupyter_types_experimental".into(), kinds.into());
        reply.matches = found.matches.into_iter().map(|(text, _)| text).collect();
        reply
    }

    fn kernel_info(&self) -> KernelInfoReply {
        let link = |text: &str, url: &str| HelpLink { text: text.into(), url: url.into() };
        KernelInfoReply {
            status: ReplyStatus::Ok,
            protocol_version: PROTOCOL_VERSION.into(),
            implementation: "headstart".into(),
            implementation_version: env!("CARGO_PKG_VERSION").into(),
            language_info: LanguageInfo {
                name: "rust".into(),
                version: toolchain::release(),
                mimetype: Some("text/x-rustsrc".into()),
                file_extension: Some(".rs".into()),
                pygments_lexer: Some("rust".into()),
                codemirror_mode: Some(CodeMirrorMode::Simple("rust".into())),
                nbconvert_exporter: Some("script".into()),
            },
            banner: format!(
                "Headstart {} on Rust {}: transfer learning, cell by cell",
                env!("CARGO_PKG_VERSION"),
                toolchain::release()
            ),
            help_links: vec![
                link("The Rust book", "https://doc.rust-lang.org/book/"),
                link("candle", "https://huggingface.github.io/candle/"),
            ],
            // For the variables pane.
            debugger: true,
            error: None,
        }
    }
}
