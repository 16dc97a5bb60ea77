//! Handle to the engine for other threads. Requests wait in a queue until the engine has loaded.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use headstart_frame::{CHECKPOINTS_VARIABLE, Frame, LIBRARY_VARIABLE};
use tokio::sync::{mpsc, oneshot, watch};

use crate::compile::cache;
use crate::compile::evcxr_text::protocol;
use crate::engine::complete::Completions;
use crate::engine::guard::guarded;
use crate::engine::interrupt::{Cells, STOP_TIMEOUT};
use crate::engine::known::Variable;
use crate::engine::listen::Listener;
use crate::engine::load::load;
use crate::engine::output::{Background, Bundle, Event};
use crate::engine::request::Request;
use crate::engine::run::serve;
use crate::platform::pipes::{self, Pipes};
use crate::platform::{PARSER_STACK, environment, programs, rustc_wrapper};
use crate::prelude::backend::Backend;
use crate::prelude::session::Session;
use crate::prelude::template::{Notice, Template};
use crate::prelude::{terminal, toolchain};

/// Interval at which running programs are killed while the kernel ends (50 ms).
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Capacity of a cell's channel of outputs, in events. While it is full, the cell waits.
const MAX_EVENTS: usize = 16;
/// Capacity of the queue of messages to comms, in messages. While it is full, further messages are dropped.
const MAX_COMM_MESSAGES: usize = 1024;

/// A running engine.
pub struct Engine {
    requests: Sender<Request>,
    cells: Arc<Cells>,
    stopped: Receiver<()>,
    stage: watch::Receiver<Stage>,
    /// Output of the cells' background threads between cells.
    background: Mutex<Option<mpsc::Receiver<Background>>>,
    /// Messages of the client to comms of the cells.
    comms: Sender<Frame>,
}

/// Loading stage of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Loading, with the notices for the user.
    Loading(Vec<Notice>),
    Loaded,
    /// Loading failed; each cell reports the reason. The notices may show its cause.
    Failed(Vec<Notice>),
}

impl Stage {
    /// The notices for a cell that waits.
    pub fn notices(&self) -> &[Notice] {
        match self {
            Stage::Loading(notices) | Stage::Failed(notices) => notices,
            Stage::Loaded => &[],
        }
    }

    fn add(&mut self, notice: Notice) {
        if let Stage::Loading(notices) = self {
            if let (Notice::Progress(_), Some(Notice::Progress(_))) = (&notice, notices.last()) {
                notices.pop();
            }
            notices.push(notice);
        }
    }

    fn end(&mut self, is_loaded: bool) {
        *self = match is_loaded {
            true => Stage::Loaded,
            false => Stage::Failed(self.notices().to_owned()),
        };
    }
}

impl Engine {
    /// Starts to load evcxr and the prelude in the background.
    ///
    /// # Safety
    /// Sets environment variables: no other thread may be reading them.
    ///
    /// # Errors
    /// If there is no usable cache folder.
    pub unsafe fn start(backend: Backend) -> Result<Engine, String> {
        let session = Session::new()?;
        let template = Template::expected(backend);
        let no_pipes = |error: std::io::Error| format!("the cells' output cannot be read: {error}");
        let pipes = Pipes::new().map_err(no_pipes)?;
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var(protocol::FOLDER_VARIABLE, session.path());
            std::env::set_var(pipes::VARIABLE, pipes.variable());
            std::env::set_var(CHECKPOINTS_VARIABLE, session.checkpoints());
            // Shows only the message of an error: a backtrace into the library does not help in a notebook.
            std::env::set_var("RUST_LIB_BACKTRACE", "0");
            // Otherwise candle's threads would spin while they wait, on cores that other threads need.
            if std::env::var_os(environment::SPINNING_VARIABLE).is_none() {
                std::env::set_var(environment::SPINNING_VARIABLE, "100");
            }
            if let Ok(template) = &template {
                std::env::set_var(LIBRARY_VARIABLE, template.library());
                std::env::set_var(toolchain::SOURCES_VARIABLE, template.library_sources());
                rustc_wrapper::set_up(&template.compile_cache());
                if let Some((variable, path)) = backend.search_path(&template.libraries()) {
                    std::env::set_var(variable, path);
                }
            }
            environment::pass_user_environment();
        }
        let (requests, queue) = unbounded();
        let (ended, stopped) = bounded(1);
        let (stage_sender, stage) = watch::channel(Stage::Loading(Vec::new()));
        let comms = write_comms(pipes.comms.try_clone().map_err(no_pipes)?).map_err(no_pipes)?;
        let cells: Arc<Cells> = Arc::default();
        let (listener, background) = Listener::start(pipes, cells.clone()).map_err(no_pipes)?;
        let background = Mutex::new(Some(background));
        let engine = Engine { requests, cells: cells.clone(), stopped, stage, background, comms };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(PARSER_STACK);
        let run = move || {
            let template = || {
                let ready = template?.ready(&|notice| {
                    terminal::show(&notice);
                    stage_sender.send_modify(|stage| stage.add(notice));
                });
                terminal::end_progress();
                ready
            };
            let loaded = guarded(|| load(&cells, &session, listener, template)).unwrap_or_else(Err);
            environment::record_kernel_environment();
            cells.is_loaded();
            stage_sender.send_modify(|stage| stage.end(loaded.is_ok()));
            // A session that was killed could not shrink the cache.
            std::thread::spawn(cache::shrink);
            serve(&cells, loaded, &queue);
            cache::shrink();
            // Removes the session's folder before reporting that the engine has stopped.
            drop(session);
            let _ = ended.send(());
        };
        thread.spawn(run).map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(engine)
    }

    /// An engine that could not start: each cell reports the reason.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn failed(problem: String) -> Result<Engine, String> {
        let (requests, queue) = unbounded();
        let (ended, stopped) = bounded(1);
        let (_, stage) = watch::channel(Stage::Failed(Vec::new()));
        // There are no cells that open comms.
        let (comms, _) = bounded(1);
        let cells: Arc<Cells> = Arc::default();
        cells.is_loaded();
        let engine =
            Engine { requests, cells: cells.clone(), stopped, stage, background: Mutex::default(), comms };
        let run = move || {
            serve(&cells, Err(problem), &queue);
            let _ = ended.send(());
        };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(PARSER_STACK).spawn(run);
        thread.map(|_| engine).map_err(|error| format!("no thread can be started: {error}"))
    }

    /// Ends the cells' process, compilers and commands, and removes the session's files, within a few
    /// seconds.
    pub fn stop(&self) {
        self.cells.shut_down();
        let _ = self.requests.send(Request::Stop);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout)
            && Instant::now() < deadline
        {
            programs::kill_all();
        }
        programs::kill_all();
        self.cells.end_programs();
    }

    /// Runs a cell. Its outputs and its outcome arrive through the channel.
    pub fn execute(&self, code: String) -> mpsc::Receiver<Event> {
        let (events, received) = mpsc::channel(MAX_EVENTS);
        let number = self.cells.expect(events.clone());
        let _ = self.requests.send(Request::Execute { number, code, events });
        received
    }

    /// Channel of the output that background threads print between cells; `None` after the first call.
    pub fn background(&self) -> Option<mpsc::Receiver<Background>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends a client's message to a comm of the cells, also while a cell runs.
    pub fn send_to_comm(&self, message: Frame) {
        if self.comms.try_send(message).is_err() {
            eprintln!("a message to a comm was dropped: {MAX_COMM_MESSAGES} others wait");
        }
    }

    /// The cells' variables after the last cell.
    pub fn variables(&self) -> Vec<Variable> {
        self.cells.known.variables()
    }

    /// Whether the engine can answer a question about code now. Otherwise the answer would wait, and with it all
    /// other requests of the client.
    fn is_free(&self) -> bool {
        !self.cells.is_busy() && *self.stage.borrow() == Stage::Loaded
    }

    /// Completions at a byte position of a cell; empty while the engine loads, and while a cell runs or waits.
    pub async fn complete(&self, code: String, position: usize) -> Completions {
        if !self.is_free() {
            return Completions { start: position, end: position, ..Completions::default() };
        }
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(Request::Complete { code, position, answer });
        answered.await.unwrap_or_default()
    }

    /// Signature and documentation of the name at a byte position of a cell; `None` while the engine loads, and
    /// while a cell runs or waits.
    pub async fn inspect(&self, code: String, position: usize) -> Option<Bundle> {
        if !self.is_free() {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(Request::Inspect { code, position, answer });
        answered.await.ok().flatten()
    }

    /// Channel with the current and all later loading stages.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Waits until loading has ended, and returns whether it succeeded.
    pub async fn loaded(&self) -> bool {
        let mut stage = self.stage();
        let known = stage.wait_for(|stage| !matches!(stage, Stage::Loading(_))).await;
        known.is_ok_and(|stage| *stage == Stage::Loaded)
    }

    /// Whether a cell runs or waits.
    pub fn is_busy(&self) -> bool {
        self.cells.is_busy()
    }

    /// Asks the running cell to stop. Kills its process at the timeout or at the second call.
    pub fn interrupt(&self) {
        self.cells.interrupt();
    }
}

/// Starts the thread that writes messages to the cells' process, which may read slowly.
fn write_comms(mut pipe: File) -> std::io::Result<Sender<Frame>> {
    let (sender, messages) = bounded::<Frame>(MAX_COMM_MESSAGES);
    std::thread::Builder::new().name("comms".into()).spawn(move || {
        for message in messages {
            if let Err(error) = pipe.write_all((message.encode() + "\n").as_bytes()) {
                eprintln!("a message did not reach the cells: {error}");
            }
        }
    })?;
    Ok(sender)
}
