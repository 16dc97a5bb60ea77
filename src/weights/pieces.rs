//! What comes of a request to the Hub, while the one who waits looks at the Stop button.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use headstart_hub::{Piece, Request};

use crate::{Result, check_interrupt};

/// How often a wait looks whether Stop was pressed.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The pieces of a file; whoever drops them wants no more.
pub(super) struct Pieces {
    received: Receiver<Piece>,
    _sender: Sender,
}

/// Asks for a file.
///
/// # Errors
/// Whatever the system says.
pub(super) fn ask(request: Request) -> io::Result<Pieces> {
    let (mut from, sender) = begin(request)?;
    let (give, received) = sync_channel(16);
    std::thread::spawn(move || {
        loop {
            let piece = Piece::read(&mut from)
                .unwrap_or_else(|error| Piece::Failed(format!("what fetched the file broke off: {error}")));
            let is_more = matches!(piece, Piece::Length(_) | Piece::Bytes(_));
            if give.send(piece).is_err() || !is_more {
                break;
            }
        }
    });
    Ok(Pieces { received, _sender: sender })
}

impl Pieces {
    /// The next one; after the last, a failure.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn next(&self) -> Result<Piece> {
        loop {
            let next = self.received.recv_timeout(POLL_INTERVAL);
            // Ctrl-C in a terminal ends the sender, too: that is no failure of its own.
            check_interrupt()?;
            match next {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Piece::Failed("what fetched the file ended".into()));
                }
            }
        }
    }
}

/// A thread of this process, which ends when nobody reads what it writes.
#[cfg(feature = "hub")]
type Sender = ();

#[cfg(feature = "hub")]
fn begin(request: Request) -> io::Result<(impl Read + Send + 'static, Sender)> {
    let (from, mut to) = io::pipe()?;
    std::thread::spawn(move || headstart_fetch::fetch(&request, &mut to));
    Ok((from, ()))
}

/// The program that the cells run in, once more.
#[cfg(not(feature = "hub"))]
struct Sender(std::process::Child);

#[cfg(not(feature = "hub"))]
impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(not(feature = "hub"))]
fn begin(request: Request) -> io::Result<(impl Read + Send + 'static, Sender)> {
    use std::process::{Command, Stdio};
    // By this name it is found even if another version has been installed meanwhile.
    let itself = std::path::Path::new("/proc/self/exe");
    let program = if itself.exists() { itself.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.arg(headstart_hub::COMMAND).args(request.to_arguments());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let from = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((from, Sender(child)))
}
