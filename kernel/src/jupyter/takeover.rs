//! Communication between a new kernel's process and the user's standby: one question and one answer over a
//! socket in the cache folder.

use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jupyter_protocol::ConnectionInfo;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::platform::cache_folder::cache_folder;

/// Timeout for an answer, and of the standby for a question (1 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Written by a standby that has served a kernel and ended normally.
pub const DONE: &str = "done";
/// Maximum size of a question, in bytes.
const MAX_QUESTION: usize = 1 << 16;

/// A question to a standby.
#[derive(Serialize, Deserialize)]
pub struct Question {
    /// Kind of the kernel that asks.
    pub kind: String,
    /// Connection to serve. `None` asks only whether the standby waits for kernels of this kind.
    pub connection: Option<ConnectionInfo>,
    /// Process id of the Jupyter server.
    pub server: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Serves,
    Waits,
    Leaves,
}

/// Folder of the socket and the lock, which only its owner may enter.
pub fn folder() -> Result<PathBuf, String> {
    let folder = cache_folder()?.join("standby");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

pub fn socket() -> Result<PathBuf, String> {
    Ok(folder()?.join("socket"))
}

/// Asks the standby at a socket, and passes it this process's standard output and standard error.
pub fn ask(socket: &Path, question: &Question) -> io::Result<(UnixStream, Answer)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let text = serde_json::to_string(question)?;
    // The standby prints where this process would print.
    let printed = [libc::STDOUT_FILENO, libc::STDERR_FILENO];
    let rights = [ControlMessage::ScmRights(&printed)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(text.as_bytes())], &rights, MsgFlags::empty(), None)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok((stream, serde_json::from_str(&line)?))
}

/// Reads a question, and receives the standard output and standard error of the process that asks.
pub fn receive(stream: &UnixStream) -> io::Result<(Question, Vec<OwnedFd>)> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut text = vec![0; MAX_QUESTION];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let mut printed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the descriptors were created for this process, and nothing else uses them.
            printed.extend(
                descriptors.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }),
            );
        }
    }
    let length = message.bytes;
    Ok((serde_json::from_slice(&text[..length])?, printed))
}
