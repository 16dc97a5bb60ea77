//! Jupyter's sockets, and the messages that go through them.

use jupyter_protocol::{ConnectionInfo, JupyterMessage, JupyterMessageContent};
use jupyter_zmq_client::{
    KernelHeartbeatConnection, KernelIoPubConnection, KernelShellConnection, RouterSendConnection,
    RuntimeError, create_kernel_control_connection, create_kernel_heartbeat_connection,
    create_kernel_iopub_connection, create_kernel_shell_connection, create_kernel_stdin_connection,
};
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
                match incoming.read().await {
                    Ok(request) => {
                        if sender.send(request).is_err() {
                            return;
                        }
                    }
                    Err(RuntimeError::ZmqError(error)) => {
                        eprintln!("a socket closed: {error}");
                        return;
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
    pub async fn reply(&mut self, content: JupyterMessageContent, request: &JupyterMessage) {
        if let Err(error) = self.replies.send(message(content, Some(request))).await {
            eprintln!("a reply was not sent: {error}");
        }
    }
}

/// The sockets of a kernel, bound.
pub struct Sockets {
    pub shell: Channel,
    pub control: Channel,
    pub publisher: Publisher,
    // Nothing asks for input yet; clients expect the socket to be there.
    _stdin: KernelShellConnection,
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
            _stdin: create_kernel_stdin_connection(connection, session).await?,
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
