//! Receives a file from the Hub in pieces, while checking for an interrupt.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use headstart_hub::{Piece, Request};

use crate::{Result, check_interrupt};

/// Interval between checks for an interrupt while waiting (100 ms).
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Pieces of a file that is being downloaded. Dropping it cancels the download.
pub(super) struct Pieces {
    received: Receiver<Piece>,
    _sender: Sender,
}

/// Starts a download.
///
/// # Errors
/// Errors of the operating system.
pub(super) fn ask(request: Request) -> io::Result<Pieces> {
    let (mut from, sender) = begin(request)?;
    let (give, received) = sync_channel(16);
    std::thread::spawn(move || {
        loop {
            let piece = Piece::read(&mut from)
                .unwrap_or_else(|error| Piece::Failed(format!("the download process failed: {error}")));
            let is_more = matches!(piece, Piece::Length(_) | Piece::Bytes(_));
            if give.send(piece).is_err() || !is_more {
                break;
            }
        }
    });
    Ok(Pieces { received, _sender: sender })
}

impl Pieces {
    /// Waits for the next piece. After the last one it returns a failure.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn next(&self) -> Result<Piece> {
        loop {
            let next = self.received.recv_timeout(POLL_INTERVAL);
            // Ctrl-C in a terminal also ends the download process, which is not an error of its own.
            check_interrupt()?;
            match next {
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Piece::Failed("the download process ended early".into()));
                }
            }
        }
    }
}

/// The download runs in a thread of this process, which ends when the pipe is closed.
#[cfg(feature = "hub")]
type Sender = ();

#[cfg(feature = "hub")]
fn begin(request: Request) -> io::Result<(impl Read + Send + 'static, Sender)> {
    let (from, mut to) = io::pipe()?;
    std::thread::spawn(move || headstart_fetch::fetch(&request, &mut to));
    Ok((from, ()))
}

/// Download process: this executable, started again. It is killed on drop.
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
    // This link is valid even if another version was installed in the meantime.
    let itself = std::path::Path::new("/proc/self/exe");
    let program = if itself.exists() { itself.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.arg(headstart_hub::COMMAND).args(request.to_arguments());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let from = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((from, Sender(child)))
}
