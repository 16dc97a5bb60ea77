//! A kernel that is ready before Jupyter asks for it.
//!
//! evcxr, rust-analyzer and the prelude take seconds to load. So a kernel that has nothing to do starts
//! this program once more, as a *standby*: it loads them and waits at a socket in the user's cache.
//! The process that Jupyter starts next hands its connection over and stays, for Jupyter watches and
//! may kill it: when either ends, so does the other.
//!
//! One standby at most waits for a user, and serves those that are started with the same program, in
//! the same folder and environment. It goes when a kernel of another kind wants one in its place, and
//! [`STAY`] after the kernel that started it, and with the Jupyter server. `HEADSTART_STANDBY` is that time in seconds; 0 means none.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use jupyter_protocol::ConnectionInfo;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{Pid, dup2_stderr, dup2_stdout};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::prelude::backend::Backend;
use crate::jupyter::dispatch::{self, Kernel};
use crate::engine::Engine;
use crate::prelude::template::{Template, cache, state};
use crate::platform::parent;
use crate::prelude::toolchain;

const STAY_VARIABLE: &str = "HEADSTART_STANDBY";
/// How long one stays after the kernel that started it: time enough to open another notebook.
const STAY: Duration = Duration::from_mins(5);
/// A kernel that has had nothing to do for so long starts one.
const REST: Duration = Duration::from_secs(5);
/// How long whoever asks waits for an answer, and the other for the question.
const PATIENCE: Duration = Duration::from_secs(1);
/// One is started where so much memory is free, of which it takes an eighth: training may want the rest.
const ROOM: u64 = 1 << 30;
/// Begin the names of variables that Jupyter sets anew for each kernel.
const JUPYTERS: &str = "JPY_";
/// The last word of one that ended as it should.
const DONE: &str = "done";

/// What a kernel was started with; take it before anything changes the environment.
#[derive(Clone)]
pub struct Origin {
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    backend: Backend,
    /// The process of the Jupyter server.
    server: Option<i32>,
    /// Whether this process serves in another's place, which then follows the server.
    is_fronted: bool,
}

/// What a standby is asked.
#[derive(Serialize, Deserialize)]
struct Question {
    /// Of the kernel that asks.
    kind: String,
    /// What it is to serve; without, whether it waits for kernels of this kind.
    connection: Option<ConnectionInfo>,
    /// The process of the Jupyter server.
    server: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Serves,
    Waits,
    Leaves,
}

impl Origin {
    /// This process's.
    pub fn of_this_process(backend: Backend) -> Origin {
        let is_jupyters = |name: &OsString| name.to_string_lossy().starts_with(JUPYTERS);
        let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| !is_jupyters(name)).collect();
        environment.sort_unstable();
        let folder = std::env::current_dir().unwrap_or_default();
        Origin { environment, folder, backend, server: parent::of_this_process(), is_fronted: false }
    }

    /// Waits until the process with which this one is to end has ended.
    pub async fn ended(&self) {
        parent::ended(self.server.filter(|_| !self.is_fronted)).await;
    }

    /// Kernels with the same can stand for each other.
    fn kind(&self) -> String {
        let mut hasher = DefaultHasher::new();
        let program = std::env::current_exe().ok();
        let program_state = program.as_deref().and_then(state);
        (&self.environment, &self.folder, self.backend.feature(), program, program_state).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// How long a standby stays; `None` if there is to be none.
    fn stay(&self) -> Option<Duration> {
        let set = self.environment.iter().find(|(name, _)| name == STAY_VARIABLE);
        let stay = set.and_then(|(_, value)| value.to_str()?.parse().ok()).map_or(STAY, Duration::from_secs);
        Some(stay).filter(|stay| !stay.is_zero())
    }

    /// A command with this environment, in this folder.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command
    }

    /// The prelude that a kernel started now would load, and the compiler that it would use.
    fn would_load(&self) -> Option<(PathBuf, Option<String>)> {
        let template = Template::expected(self.backend).ok().filter(Template::is_whole)?;
        let rustc = toolchain::which_rustc(|| self.command("rustup"));
        Some((template.path().to_owned(), rustc.and_then(|rustc| state(&rustc))))
    }
}

/// The folder of the socket and the lock, which nobody else may enter.
fn folder() -> Result<PathBuf, String> {
    let folder = cache()?.join("standby");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn socket() -> Result<PathBuf, String> {
    Ok(folder()?.join("socket"))
}

/// Lets a standby serve in this process's place, and returns how that ended; `None` if none does.
pub fn hand_over(origin: &Origin, connection: &ConnectionInfo) -> Option<Result<(), String>> {
    origin.stay()?;
    let (kind, server) = (origin.kind(), origin.server);
    let question = Question { kind, connection: Some(connection.clone()), server };
    match ask(&socket().ok()?, &question) {
        Ok((stream, Answer::Serves)) => Some(stand_before(stream, origin)),
        _ => None,
    }
}

fn ask(socket: &Path, question: &Question) -> io::Result<(UnixStream, Answer)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let text = serde_json::to_string(question)?;
    // It is to print where this process would.
    let printed = [libc::STDOUT_FILENO, libc::STDERR_FILENO];
    let rights = [ControlMessage::ScmRights(&printed)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(text.as_bytes())], &rights, MsgFlags::empty(), None)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    Ok((stream, serde_json::from_str(&line)?))
}

/// Is the process that Jupyter knows, until the one that serves has ended.
fn stand_before(stream: UnixStream, origin: &Origin) -> Result<(), String> {
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
        Ok(_) => Err("the kernel ended before it was asked to".into()),
        Err(error) => Err(format!("the kernel was lost: {error}")),
    }
}

/// Starts a standby for the next kernel when this one has had nothing to do for a while.
pub async fn raise(kernel: Arc<Kernel>, origin: Origin) {
    if origin.stay().is_none() || !kernel.engine.loaded().await {
        return;
    }
    let second = Duration::from_secs(1);
    let mut rested = Duration::ZERO;
    while rested < REST {
        tokio::time::sleep(second).await;
        rested = if kernel.engine.is_busy() { Duration::ZERO } else { rested + second };
    }
    let Ok(program) = std::env::current_exe() else { return };
    if free_memory().is_some_and(|free| free < ROOM) {
        return;
    }
    let mut command = origin.command(program);
    command.envs(origin.server.map(|server| (parent::VARIABLE, server.to_string())));
    command.arg("standby").args(origin.backend.feature().map(|feature| format!("--{feature}")));
    // Whoever stops this kernel's group does not mean it; nor may it keep a pipe of this one's open.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut standby) = command.spawn() else { return };
    // By its end the standby knows that this process is gone.
    let _input = standby.stdin.take();
    let _ = tokio::task::spawn_blocking(move || standby.wait()).await;
}

#[cfg(target_os = "linux")]
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(not(target_os = "linux"))]
fn free_memory() -> Option<u64> {
    None
}

/// Is a standby: loads, waits, and serves the first kernel of its kind.
pub fn wait(origin: Origin) -> Result<(), String> {
    let Some(stay) = origin.stay() else { return Ok(()) };
    let Some(lock) = lock(&origin)? else { return Ok(()) };
    toolchain::pin();
    let loaded_from = origin.would_load().ok_or("there is no prelude to wait with")?;
    // SAFETY: no other thread runs.
    let engine = unsafe { Engine::start(origin.backend) }?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let called = match runtime.block_on(engine.loaded()) {
        true => called(&origin, &loaded_from, stay),
        false => Err("the prelude could not be loaded".into()),
    };
    drop(lock);
    let Ok(Some((connection, server, mut stream))) = called else {
        engine.stop();
        return called.map(drop);
    };
    let origin = Origin { server, is_fronted: true, ..origin };
    let served = dispatch::run(runtime, &connection, engine, origin);
    if served.is_ok() {
        let _ = stream.write_all(DONE.as_bytes());
    }
    served
}

/// What only one standby of a user's holds; `None` if one of this kind has it already.
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

/// Waits for a kernel to serve; `None` when it is time to go.
fn called(
    origin: &Origin,
    loaded_from: &(PathBuf, Option<String>),
    stay: Duration,
) -> Result<Option<(ConnectionInfo, Option<i32>, UnixStream)>, String> {
    let path = socket()?;
    // What one that was killed left.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let calls = calls(listener, stay, origin.server);
    let kind = origin.kind();
    let called = loop {
        let Ok(Some(mut stream)) = calls.recv() else { break None };
        let Ok((question, printed)) = hear(&stream) else { continue };
        let fits = question.kind == kind && origin.would_load().as_ref() == Some(loaded_from);
        let answer = match &question.connection {
            _ if !fits => Answer::Leaves,
            None => Answer::Waits,
            Some(_) => Answer::Serves,
        };
        if answer != Answer::Waits {
            // The next looks for another.
            let _ = fs::remove_file(&path);
        }
        let said = serde_json::to_string(&answer).unwrap_or_default() + "\n";
        let heard = stream.write_all(said.as_bytes());
        match (answer, question.connection) {
            (Answer::Serves, Some(connection)) => {
                if heard.is_err() {
                    break None;
                }
                print_to(&printed);
                end_with(&stream);
                break Some((connection, question.server, stream));
            }
            (Answer::Leaves, _) => break None,
            _ => {}
        }
    };
    let _ = fs::remove_file(&path);
    Ok(called)
}

/// Who connects, and `None` when the kernel that started this standby has been gone for long enough, or when the
/// Jupyter server has ended.
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

/// What is asked, and where whoever asks prints.
fn hear(stream: &UnixStream) -> io::Result<(Question, Vec<OwnedFd>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = vec![0; 1 << 16];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let mut printed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: they were made for this process, and nothing else knows them.
            printed.extend(
                descriptors.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }),
            );
        }
    }
    let length = message.bytes;
    Ok((serde_json::from_slice(&text[..length])?, printed))
}

/// Prints from now on where the process that Jupyter knows does.
fn print_to(printed: &[OwnedFd]) {
    if let [out, error] = printed {
        let _ = dup2_stdout(out);
        let _ = dup2_stderr(error);
    }
}

/// Ends this process when that at the other end has ended: whoever killed it meant this one.
fn end_with(stream: &UnixStream) {
    let Ok(mut stream) = stream.try_clone() else { return };
    let _ = stream.set_read_timeout(None);
    std::thread::spawn(move || {
        let _ = stream.read(&mut [0]);
        // SAFETY: nothing is run that could meet what the other threads hold.
        unsafe { libc::_exit(1) }
    });
}
