//! Jupyter's sockets, and the messages that are sent over them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use headstart_frame::Answer;
use hmac::{Hmac, KeyInit, Mac};
use jupyter_protocol::{
    ConnectionInfo, InputRequest, JupyterError, JupyterMessage, JupyterMessageContent, StreamContent,
    UnknownMessage,
};
use jupyter_zmq_client::{
    KernelHeartbeatConnection, KernelIoPubConnection, KernelShellConnection, RawMessage,
    RouterSendConnection, RuntimeError, create_kernel_control_connection, create_kernel_heartbeat_connection,
    create_kernel_iopub_connection, create_kernel_shell_connection, create_kernel_stdin_connection,
};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use zeromq::{SocketRecv, SocketSend, ZmqMessage};

/// <https://jupyter-client.readthedocs.io/en/stable/messaging.html>
pub const PROTOCOL_VERSION: &str = "5.4";

/// Creates a message with this content, as a child of the request that caused it.
pub fn message(content: impl Into<JupyterMessageContent>, parent: Option<&JupyterMessage>) -> JupyterMessage {
    let mut message = JupyterMessage::new(content, parent);
    message.header.version = PROTOCOL_VERSION.into();
    message.header.username = "headstart".into();
    message
}

/// Parses a message. Content that does not match the protocol gives a message of unknown type, so that its
/// sender gets a reply.
fn read(raw: RawMessage) -> Result<JupyterMessage, RuntimeError> {
    let part = |at: usize| serde_json::from_slice::<Value>(&raw.jparts[at]);
    let (mut header, parent_header, metadata, mut content) = (part(0)?, part(1)?, part(2)?, part(3)?);
    set_missing(&mut header, &json!({"username": "", "session": "", "version": PROTOCOL_VERSION}));
    add_defaults(header["msg_type"].as_str().unwrap_or_default(), &mut content);
    let message = |header: &Value| {
        JupyterMessage::from_value(json!({
            "header": header, "parent_header": parent_header, "metadata": metadata, "content": content,
        }))
    };
    let message = message(&header).or_else(|_| {
        let mut unknown = header.clone();
        unknown["msg_type"] = "unknown".into();
        let mut message = message(&unknown)?;
        let msg_type = header["msg_type"].as_str().unwrap_or_default().to_owned();
        message.header.msg_type = msg_type.clone();
        message.content = UnknownMessage { msg_type, content: content.clone() }.into();
        Ok::<_, JupyterError>(message)
    });
    message
        .map(|message| message.with_buffers(raw.jparts[4..].to_vec()))
        .map(|message| message.with_zmq_identities(raw.zmq_identities.clone()))
        .map_err(|error| RuntimeError::ZmqMessageError(error.to_string()))
}

/// Adds the values that the protocol, or ipykernel, gives to missing fields of a request.
fn add_defaults(msg_type: &str, content: &mut Value) {
    let Value::Object(fields) = content else { return };
    let is_silent = fields.get("silent").and_then(Value::as_bool).unwrap_or_default();
    let defaults = match msg_type {
        "execute_request" => json!({
            "silent": false, "store_history": !is_silent, "user_expressions": {}, "allow_stdin": false,
            "stop_on_error": true,
        }),
        "inspect_request" => json!({"detail_level": 0}),
        "shutdown_request" => json!({"restart": false}),
        "comm_close" => json!({"data": {}}),
        _ => return,
    };
    set_missing(content, &defaults);
}

/// Sets the fields of an object that are missing or null.
fn set_missing(object: &mut Value, defaults: &Value) {
    let Value::Object(fields) = object else { return };
    for (name, value) in defaults.as_object().into_iter().flatten() {
        let field = fields.entry(name.clone()).or_insert(Value::Null);
        if field.is_null() {
            *field = value.clone();
        }
    }
}

/// Maximum size of output that waits for a slow client, in units of [`UNIT_BYTES`]: 64 MiB.
const CAPACITY: u32 = 16 << 10;
/// Size of a unit of output, in bytes (4 KiB).
const UNIT_BYTES: usize = 4 << 10;
/// Minimum size of a message, in units; at most 1,024 messages wait.
const MIN_UNITS: usize = 16;
/// Time (5 s) after which a client that does not read loses outputs, so that the cell continues.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a heartbeat that failed (10 ms).
const HEARTBEAT_PAUSE: Duration = Duration::from_millis(10);

/// Sends messages to all clients, in order.
///
/// The socket silently drops messages when too many wait. So outputs are counted until the socket has sent
/// them, and wait here for capacity. Messages about a cell's state are few and never wait.
#[derive(Clone)]
pub struct Publisher {
    queue: UnboundedSender<JupyterMessage>,
    room: Arc<Semaphore>,
    is_stalled: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
}

/// Topic of a message; it lives until the socket has sent the message to all clients.
struct Topic {
    name: String,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Topic {
    fn as_ref(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

impl Publisher {
    fn new(queue: UnboundedSender<JupyterMessage>) -> Publisher {
        let room = Arc::new(Semaphore::new(CAPACITY as usize));
        Publisher { queue, room, is_stalled: Arc::default(), lost: Arc::default() }
    }

    /// Sends a message to all clients.
    pub fn publish(&self, content: impl Into<JupyterMessageContent>, parent: Option<&JupyterMessage>) {
        self.send_message(message(content, parent), None);
    }

    /// Sends an output of `size` bytes to all clients, after waiting for capacity.
    pub async fn publish_output(
        &self,
        content: impl Into<JupyterMessageContent>,
        size: usize,
        parent: Option<&JupyterMessage>,
    ) {
        self.publish_bounded(message(content, parent), size, parent).await;
    }

    /// Like [`Publisher::publish_output`], for a message with metadata or binary parts.
    pub async fn publish_bounded(
        &self,
        message: JupyterMessage,
        size: usize,
        parent: Option<&JupyterMessage>,
    ) {
        let units = u32::try_from(size / UNIT_BYTES + MIN_UNITS).unwrap_or(CAPACITY).min(CAPACITY);
        let room = match self.room.clone().try_acquire_many_owned(units) {
            Ok(room) => Some(room),
            Err(_) if self.is_stalled.load(Ordering::SeqCst) => None,
            Err(_) => {
                let room =
                    tokio::time::timeout(READ_TIMEOUT, self.room.clone().acquire_many_owned(units)).await;
                room.ok().and_then(Result::ok)
            }
        };
        self.is_stalled.store(room.is_none(), Ordering::SeqCst);
        if room.is_none() {
            self.lost.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let lost = self.lost.swap(0, Ordering::SeqCst);
        if lost > 0 {
            let seconds = READ_TIMEOUT.as_secs();
            let note = format!("{lost} outputs were dropped here: a client did not read for {seconds} s\n");
            self.publish(StreamContent::stderr(&note), parent);
        }
        self.send_message(message, room);
    }

    /// Sends a message that has metadata or binary parts to all clients.
    pub fn publish_message(&self, message: JupyterMessage) {
        self.send_message(message, None);
    }

    fn send_message(&self, mut message: JupyterMessage, room: Option<OwnedSemaphorePermit>) {
        let topic = Topic { name: message.header.msg_type.clone(), _room: room };
        message.zmq_identities = vec![Bytes::from_owner(topic)];
        let _ = self.queue.send(message);
    }
}

/// Connection to the user of one client, for input requests.
pub struct Input(Mutex<Channel>);

impl Input {
    /// Asks for a line of input and waits for it. The future may be dropped: a late reply does not answer
    /// the next question.
    pub async fn ask(&self, content: InputRequest, request: &JupyterMessage) -> Answer {
        let mut channel = self.0.lock().await;
        channel.waiting();
        let question = message(content, Some(request));
        let id = question.header.msg_id.clone();
        if let Err(error) = channel.replies.send(question).await {
            eprintln!("a request for input was not sent: {error}");
            return Answer::NoInput;
        }
        while let Some(reply) = channel.request().await {
            let is_late = reply
                .parent_header
                .as_ref()
                .is_some_and(|parent| parent.msg_type == "input_request" && parent.msg_id != id);
            if let (JupyterMessageContent::InputReply(reply), false) = (&reply.content, is_late) {
                return Answer::Text(reply.value.clone());
            }
        }
        Answer::NoInput
    }
}

/// Requests of one channel, and the connection for replies.
pub struct Channel {
    requests: UnboundedReceiver<JupyterMessage>,
    replies: RouterSendConnection,
}

impl Channel {
    fn new(connection: KernelShellConnection) -> Channel {
        let (replies, mut incoming) = connection.split();
        let (sender, requests) = unbounded_channel();
        tokio::spawn(async move {
            loop {
                let parts = match incoming.socket.recv().await {
                    Ok(parts) => parts,
                    Err(error) => {
                        eprintln!("a socket closed: {error}");
                        return;
                    }
                };
                match RawMessage::from_multipart(parts, &incoming.mac).and_then(read) {
                    Ok(request) => {
                        if sender.send(request).is_err() {
                            return;
                        }
                    }
                    // The signature is wrong, or it is not a Jupyter message: no reply.
                    Err(error) => eprintln!("a message was dropped: {error}"),
                }
            }
        });
        Channel { requests, replies }
    }

    /// Receives the next request; `None` when the socket is closed.
    pub async fn request(&mut self) -> Option<JupyterMessage> {
        self.requests.recv().await
    }

    /// Takes the requests that are already waiting.
    pub fn waiting(&mut self) -> Vec<JupyterMessage> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    /// Sends the reply to a request.
    pub async fn reply(&mut self, content: JupyterMessageContent, request: &JupyterMessage, metadata: Value) {
        let reply = message(content, Some(request)).with_metadata(metadata);
        if let Err(error) = self.replies.send(reply).await {
            eprintln!("a reply was not sent: {error}");
        }
    }
}

/// Bound sockets of a kernel.
pub struct Sockets {
    pub shell: Channel,
    pub control: Channel,
    pub publisher: Publisher,
    pub input: Input,
}

impl Sockets {
    /// Binds the sockets of the connection file, and starts to echo heartbeats.
    pub async fn bind(connection: &ConnectionInfo, session: &str) -> Result<Sockets, RuntimeError> {
        let heartbeat = create_kernel_heartbeat_connection(connection).await?;
        tokio::spawn(echo(heartbeat));
        let iopub = create_kernel_iopub_connection(connection, session).await?;
        let (sender, queue) = unbounded_channel();
        tokio::spawn(publish(iopub, queue, connection.key.clone(), session.to_owned()));
        Ok(Sockets {
            shell: Channel::new(create_kernel_shell_connection(connection, session).await?),
            control: Channel::new(create_kernel_control_connection(connection, session).await?),
            publisher: Publisher::new(sender),
            input: Input(Mutex::new(Channel::new(
                create_kernel_stdin_connection(connection, session).await?,
            ))),
        })
    }
}

/// Echoes heartbeats. A malformed message, or a client that has gone, does not affect other clients.
async fn echo(mut heartbeat: KernelHeartbeatConnection) {
    loop {
        let echoed = match heartbeat.socket.recv().await {
            Ok(message) => heartbeat.socket.send(message).await,
            Err(error) => Err(error),
        };
        if echoed.is_err() {
            tokio::time::sleep(HEARTBEAT_PAUSE).await;
        }
    }
}

async fn publish(
    mut iopub: KernelIoPubConnection,
    mut queue: UnboundedReceiver<JupyterMessage>,
    key: String,
    session: String,
) {
    while let Some(message) = queue.recv().await {
        let sent = match frames(message.with_session(&session), &key) {
            Ok(frames) => iopub.socket.send(frames).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            eprintln!("a message was not published: {error}");
        }
    }
}

/// Encodes a signed message. The crate's own function copies the topic, which must live as long as the
/// message.
fn frames(message: JupyterMessage, key: &str) -> Result<ZmqMessage, serde_json::Error> {
    let parent = match &message.parent_header {
        Some(parent) => serde_json::to_vec(parent)?,
        None => b"{}".to_vec(),
    };
    let parts = [
        serde_json::to_vec(&message.header)?,
        parent,
        serde_json::to_vec(&message.metadata)?,
        serde_json::to_vec(&message.content)?,
    ];
    let signature = match key.is_empty() {
        true => String::new(),
        false => {
            let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
            let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part));
            hex::encode(mac.finalize().into_bytes())
        }
    };
    let mut frames: Vec<Bytes> = message.zmq_identities;
    frames.extend([Bytes::from_static(b"<IDS|MSG>"), signature.into()]);
    frames.extend(parts.map(Bytes::from));
    frames.extend(message.buffers);
    Ok(ZmqMessage::try_from(frames).expect("it has parts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_only_an_id_and_a_type() {
        let part = |value: Value| Bytes::from(value.to_string());
        let header = json!({"msg_id": "1", "msg_type": "kernel_info_request", "username": null});
        let parts = [header, json!({}), json!({}), json!({})].map(part);
        let message = read(RawMessage { zmq_identities: Vec::new(), jparts: parts.into() }).unwrap();
        assert_eq!(
            (message.header.msg_id.as_str(), message.header.version.as_str()),
            ("1", PROTOCOL_VERSION)
        );
    }

    #[test]
    fn missing_fields_get_the_protocols_defaults() {
        let mut content = json!({"code": "1", "silent": true, "user_expressions": null});
        add_defaults("execute_request", &mut content);
        assert_eq!(
            content,
            json!({
                "code": "1", "silent": true, "user_expressions": {}, "store_history": false, "allow_stdin": false,
                "stop_on_error": true,
            })
        );
        let mut content = json!({"silent": "no", "stop_on_error": false});
        add_defaults("execute_request", &mut content);
        assert_eq!((&content["silent"], &content["stop_on_error"]), (&json!("no"), &json!(false)));
        let mut content = json!([1]);
        add_defaults("execute_request", &mut content);
        assert_eq!(content, json!([1]));
    }
}
