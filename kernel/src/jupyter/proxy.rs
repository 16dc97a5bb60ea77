//! The proxy: Jupyter holds its process id, while a standby serves the kernel. When either process ends, so
//! does the other.

use std::io;
use std::os::unix::net::UnixStream;
use std::pin::pin;

use jupyter_protocol::ConnectionInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::jupyter::origin::Origin;
use crate::jupyter::takeover::{Answer, DONE, Question, ask, socket};

/// Hands the connection to a standby, and returns the result when it has ended; `None` if there is no
/// standby.
pub fn hand_over(origin: &Origin, connection: &ConnectionInfo) -> Option<Result<(), String>> {
    origin.stay()?;
    let (kind, server) = (origin.kind(), origin.server);
    let question = Question { kind, connection: Some(connection.clone()), server };
    match ask(&socket().ok()?, &question) {
        Ok((stream, Answer::Serves)) => Some(serve_as_proxy(stream, origin)),
        _ => None,
    }
}

/// Forwards Jupyter's signals to the serving standby until it ends.
fn serve_as_proxy(stream: UnixStream, origin: &Origin) -> Result<(), String> {
    let stand = async {
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        let server = stream.peer_cred()?.pid();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut said = String::new();
        let mut ended = pin!(stream.read_to_string(&mut said));
        let mut parent_ended = pin!(origin.ended());
        let mut has_parent = true;
        loop {
            tokio::select! {
                ended = &mut ended => break ended.map(drop)?,
                _ = terminate.recv() => {}
                () = &mut parent_ended, if has_parent => has_parent = false,
            }
            server.map(|server| kill(Pid::from_raw(server), Signal::SIGTERM));
        }
        Ok::<_, io::Error>(said)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(stand)) {
        Ok(said) if said == DONE => Ok(()),
        Ok(_) => Err("the kernel ended unexpectedly".into()),
        Err(error) => Err(format!("the kernel was lost: {error}")),
    }
}
