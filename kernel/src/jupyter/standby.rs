//! The standby: a kernel that is loaded before Jupyter requests one.
//!
//! evcxr, rust-analyzer and the prelude take seconds to load. An idle kernel therefore starts this program
//! again ([`crate::jupyter::start_standby`]). The standby loads, and waits at a socket in the user's cache. The
//! process that Jupyter starts next hands its connection over and becomes a proxy
//! ([`crate::jupyter::proxy`]).
//!
//! A user has at most one standby. It serves only processes of the same program, folder and environment. It
//! ends some minutes after the kernel that started it, or with the Jupyter server. It also ends when a
//! kernel of another kind starts a standby.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use jupyter_protocol::ConnectionInfo;
use nix::unistd::{dup2_stderr, dup2_stdout};

use crate::engine::handle::Engine;
use crate::jupyter::dispatch;
use crate::jupyter::origin::Origin;
use crate::jupyter::takeover::{Answer, DONE, Question, ask, folder, receive, socket};
use crate::platform::{parent, programs};
use crate::prelude::toolchain;

/// Interval at which a loading standby is asked again to end (100 ms).
const LOADING_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs a standby: loads, waits, and serves the first kernel of its kind.
pub fn wait(origin: Origin) -> Result<(), String> {
    let Some(stay) = origin.stay() else { return Ok(()) };
    let Some(lock) = lock(&origin)? else { return Ok(()) };
    toolchain::pin();
    let loaded_from = origin.would_load().ok_or("there is no prelude to wait with")?;
    // SAFETY: no other thread runs.
    let engine = unsafe { Engine::start(origin.backend) }?;
    let runtime = crate::platform::runtime()?;
    let called = match runtime.block_on(engine.loaded()) {
        true => called(&origin, &loaded_from, stay),
        false => Err("the prelude could not be loaded".into()),
    };
    drop(lock);
    let (connection, server, mut stream) = match called {
        Ok(Called::Serves(connection, server, stream)) => (connection, server, stream),
        other => {
            engine.stop();
            return other.map(drop);
        }
    };
    let origin = origin.fronted(server);
    let served = dispatch::run(runtime, &connection, engine, origin);
    if served.is_ok() {
        let _ = stream.write_all(DONE.as_bytes());
    }
    served
}

/// Takes the lock that only one standby of a user can hold; `None` if a standby of this kind holds it.
fn lock(origin: &Origin) -> Result<Option<File>, String> {
    let path = folder()?.join("lock");
    let complain = |error: io::Error| format!("{}: {error}", path.display());
    let lock = File::create(&path).map_err(complain)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::Error(error)) => Err(complain(error)),
        Err(TryLockError::WouldBlock) => {
            let question = Question { kind: origin.kind(), connection: None, server: origin.server };
            match ask(&socket()?, &question) {
                Ok((_, Answer::Leaves)) => lock.lock().map(|()| Some(lock)).map_err(complain),
                _ => Ok(None),
            }
        }
    }
}

/// Asks the user's standby to end, and waits until it has removed its files. A standby that is still loading ends as soon
/// as it has loaded.
pub fn dismiss() -> Result<(), String> {
    let (folder, socket) = (folder()?, socket()?);
    let complain = |error: io::Error| format!("{}: {error}", folder.display());
    loop {
        let lock = File::create(folder.join("lock")).map_err(complain)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            _ => return Ok(()),
        }
        // No kernel is of this kind.
        let question = Question { kind: String::new(), connection: None, server: None };
        match ask(&socket, &question) {
            Ok((mut stream, Answer::Leaves)) => {
                // The standby closes its end after it has stopped its engine.
                stream.set_read_timeout(None).map_err(complain)?;
                let _ = io::copy(&mut stream, &mut io::sink());
            }
            _ => std::thread::sleep(LOADING_POLL_INTERVAL),
        }
    }
}

/// End of a standby's wait.
enum Called {
    /// It serves a kernel: the connection, the process id of the Jupyter server, and the socket to the proxy.
    Serves(ConnectionInfo, Option<i32>, UnixStream),
    /// It ends because of a question of another kind; the process that asked may wait for the end of the socket.
    Leaves { _asker: UnixStream },
    /// Its time is over.
    Over,
}

/// Waits for a kernel to serve.
fn called(
    origin: &Origin,
    loaded_from: &(PathBuf, Option<String>),
    stay: Duration,
) -> Result<Called, String> {
    let path = socket()?;
    // A killed standby may have left the socket.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let calls = calls(listener, stay, origin.server);
    let kind = origin.kind();
    let called = loop {
        let Ok(Some(mut stream)) = calls.recv() else { break Called::Over };
        let Ok((question, printed)) = receive(&stream) else { continue };
        let fits = question.kind == kind && origin.would_load().as_ref() == Some(loaded_from);
        let answer = match &question.connection {
            _ if !fits => Answer::Leaves,
            None => Answer::Waits,
            Some(_) => Answer::Serves,
        };
        if answer != Answer::Waits {
            // Without the socket, the next process finds no standby.
            let _ = fs::remove_file(&path);
        }
        let said = serde_json::to_string(&answer).unwrap_or_default() + "\n";
        let heard = stream.write_all(said.as_bytes());
        match (answer, question.connection) {
            (Answer::Serves, Some(connection)) => {
                if heard.is_err() {
                    break Called::Over;
                }
                print_to(&printed);
                end_with(&stream);
                break Called::Serves(connection, question.server, stream);
            }
            (Answer::Leaves, _) => break Called::Leaves { _asker: stream },
            _ => {}
        }
    };
    let _ = fs::remove_file(&path);
    Ok(called)
}

/// Channel of incoming connections. It receives `None` when the Jupyter server ends, or when the time
/// `stay` has passed since the end of the kernel that started this standby.
fn calls(listener: UnixListener, stay: Duration, server: Option<i32>) -> Receiver<Option<UnixStream>> {
    let (sender, receiver) = unbounded();
    let connected = sender.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if connected.send(Some(stream)).is_err() {
                return;
            }
        }
    });
    if let Some(server) = server {
        let gone = sender.clone();
        std::thread::spawn(move || {
            parent::wait_for_end(server);
            let _ = gone.send(None);
        });
    }
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::thread::sleep(stay);
        let _ = sender.send(None);
    });
    receiver
}

/// Redirects standard output and standard error to the proxy's.
fn print_to(printed: &[OwnedFd]) {
    if let [out, error] = printed {
        let _ = dup2_stdout(out);
        let _ = dup2_stderr(error);
    }
}

/// Ends this process, and the programs of its cells, when the proxy at the other end of the socket has ended.
fn end_with(stream: &UnixStream) {
    let Ok(mut stream) = stream.try_clone() else { return };
    let _ = stream.set_read_timeout(None);
    std::thread::spawn(move || {
        let _ = stream.read(&mut [0]);
        programs::kill_all();
        // SAFETY: runs no destructors, which could conflict with other threads.
        unsafe { libc::_exit(1) }
    });
}
