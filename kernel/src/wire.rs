//! Jupyter's sockets, and the messages that go through them.

use jupyter_protocol::{
    ConnectionInfo, InputRequest, JupyterError, JupyterMessage, JupyterMessageContent, UnknownMessage,
};
use jupyter_zmq_client::{
    KernelHeartbeatConnection, KernelIoPubConnection, KernelShellConnection, KernelStdinConnection,
    RawMessage, RouterSendConnection, RuntimeError, create_kernel_control_connection,
    create_kernel_heartbeat_connection, create_kernel_iopub_connection, create_kernel_shell_connection,
    create_kernel_stdin_connection,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zeromq::{SocketRecv, SocketSend};

/// <https://jupyter-client.readthedocs.io/en/stable/messaging.html>
pub const PROTOCOL_VERSION: &str = "5.4";

/// What a message carries, as a child of the request that caused it.
pub fn message(content: impl Into<JupyterMessageContent>, parent: Option<&JupyterMessage>) -> JupyterMessage {
    let mut message = JupyterMessage::new(content, parent);
    message.header.version = PROTOCOL_VERSION.into();
    message.header.username = "headstart".into();
    message
}

/// A message whose content is not as the protocol has it is read as one of an unknown kind, so
/// that whoever sent it is answered.
fn read(raw: RawMessage) -> Result<JupyterMessage, RuntimeError> {
    let part = |at: usize| serde_json::from_slice::<Value>(&raw.jparts[at]);
    let (header, parent_header, metadata, content) = (part(0)?, part(1)?, part(2)?, part(3)?);
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
        .map(|message| message.with_zmq_identities(raw.zmq_identities.clone()))
        .map_err(|error| RuntimeError::ZmqMessageError(error.to_string()))
}

/// The way to everyone who listens; messages arrive in the order in which they are sent.
#[derive(Clone)]
pub struct Publisher(UnboundedSender<JupyterMessage>);

impl Publisher {
    /// Sends to all clients.
    pub fn publish(&self, content: impl Into<JupyterMessageContent>, parent: Option<&JupyterMessage>) {
        let mut message = message(content, parent);
        let topic = message.header.msg_type.clone();
        message.zmq_identities = vec![topic.into()];
        let _ = self.0.send(message);
    }
}

/// The way to one client's user, whose keyboard answers.
pub struct Input(Mutex<KernelStdinConnection>);

impl Input {
    /// Asks, and waits for the line; an empty one if the client cannot be asked.
    pub async fn ask(&self, asked: InputRequest, request: &JupyterMessage) -> String {
        let mut socket = self.0.lock().await;
        if let Err(error) = socket.send(message(asked, Some(request))).await {
            eprintln!("a request for input was not sent: {error}");
            return String::new();
        }
        loop {
            match socket.read().await {
                Ok(JupyterMessage { content: JupyterMessageContent::InputReply(reply), .. }) => {
                    return reply.value;
                }
                Ok(_) => {}
                Err(RuntimeError::ZmqError(_)) => return String::new(),
                Err(error) => eprintln!("a message was dropped: {error}"),
            }
        }
    }
}

/// Requests of one channel, and the way back to those who sent them.
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
                    // Wrongly signed, or no message of Jupyter's: not to be answered.
                    Err(error) => eprintln!("a message was dropped: {error}"),
                }
            }
        });
        Channel { requests, replies }
    }

    /// The next request; `None` when the socket is closed.
    pub async fn request(&mut self) -> Option<JupyterMessage> {
        self.requests.recv().await
    }

    /// The requests that are already waiting.
    pub fn waiting(&mut self) -> Vec<JupyterMessage> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }

    /// Answers a request.
    pub async fn reply(&mut self, content: JupyterMessageContent, request: &JupyterMessage, metadata: Value) {
        let reply = message(content, Some(request)).with_metadata(metadata);
        if let Err(error) = self.replies.send(reply).await {
            eprintln!("a reply was not sent: {error}");
        }
    }
}

/// The sockets of a kernel, bound.
pub struct Sockets {
    pub shell: Channel,
    pub control: Channel,
    pub publisher: Publisher,
    pub input: Input,
}

impl Sockets {
    /// Binds what the connection file names, and begins to echo heartbeats.
    pub async fn bind(connection: &ConnectionInfo, session: &str) -> Result<Sockets, RuntimeError> {
        let heartbeat = create_kernel_heartbeat_connection(connection).await?;
        tokio::spawn(echo(heartbeat));
        let iopub = create_kernel_iopub_connection(connection, session).await?;
        let (sender, queue) = unbounded_channel();
        tokio::spawn(publish(iopub, queue));
        Ok(Sockets {
            shell: Channel::new(create_kernel_shell_connection(connection, session).await?),
            control: Channel::new(create_kernel_control_connection(connection, session).await?),
            publisher: Publisher(sender),
            input: Input(Mutex::new(create_kernel_stdin_connection(connection, session).await?)),
        })
    }
}

async fn echo(mut heartbeat: KernelHeartbeatConnection) {
    while let Ok(message) = heartbeat.socket.recv().await {
        if heartbeat.socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn publish(mut iopub: KernelIoPubConnection, mut queue: UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = iopub.send(message).await {
            eprintln!("a message was not published: {error}");
        }
    }
}
