//! The evaluation of cells: the only file that names evcxr.
//!
//! One thread owns evcxr's context and takes requests in turn; another ([`crate::listen`]) reads what the cells'
//! process prints, at any time, and turns it into [`Output`]s. The process waits at the end of a cell until all
//! of it has been read, so that nothing of a cell arrives after its end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, unbounded};
use evcxr::{CommandContext, Error, EvalContextOutputs};
use headstart_frame::{CHECKPOINTS_VARIABLE, ENVIRONMENT_VARIABLE, LIBRARY_VARIABLE};
use tokio::sync::{mpsc, watch};

use crate::ahead::Ahead;
use crate::backend::{Backend, LIBRARIES_REMEDY};
use crate::cell::last_commands;
use crate::commands::{self, Step};
use crate::complete::{Completions, end_of_name, insertion};
use crate::hints::{Cause, Gone};
use crate::interrupt::{Cells, STOP_TIMEOUT};
use crate::listen::Listener;
use crate::output::{Bundle, CellError, Event, Outcome, Output};
use crate::pipes::{self, Pipes};
use crate::prepare::Prepared;
use crate::report::{describe, outlives, unkept_variables};
use crate::session::{self, Session};
use crate::template::{Notice, Template};
use crate::tokens::identifiers;
use crate::{
    certificates, child, config, environment, kept, notes, places, programs, redefined, restore, terminal,
    timing, toolchain, warnings,
};

/// Run in each new process of cells, before the first.
const BEGIN: &str = "headstart::start();";
/// Ends a process of cells.
const END: &str = "std::process::exit(0);";
const USE_PRELUDE: &str = "use headstart::prelude::*;\nuse headstart::display::ShowDebug as _;";
/// evcxr prefers mold, which it has loaded into every program that a cell needs: that takes longer than
/// rustc's own linker.
const LINKER: &str = if toolchain::HAS_LINKER { ":linker system\n" } else { "" };
/// Until a cell has used `?`, evcxr tries each without it first, and then shows a value that was
/// made with it as no more than its `Debug`.
const ALLOW_QUESTION_MARK: &str = "headstart::check_interrupt()?;";
const FIRST_LOOK: &str = "Tensor::zeros(1, DType::F32, &device())?.";
/// How often candle's threads look for work before they sleep.
const SPINNING_VARIABLE: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";
/// How often programs that are still at work are ended when the kernel ends.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Capacity of a cell's channel of outputs; a cell waits while it is full.
const MAX_EVENTS: usize = 16;

/// If this process was started to run cells, does so and does not return.
pub fn runtime_hook() {
    if std::env::var_os("EVCXR_IS_RUNTIME").is_some() {
        // SAFETY: no other thread runs yet.
        let run = unsafe {
            kept::forget();
            child::run()
        };
        if let Err(error) = &run {
            eprintln!("the process of the cells cannot go on: {error}");
        }
        std::process::exit(i32::from(run.is_err()));
    }
    // The wrapper that evcxr puts before rustc.
    evcxr::runtime_hook();
}

enum Request {
    Stop,
    Execute { number: u64, code: String, events: mpsc::Sender<Event> },
    Complete { code: String, position: usize, answer: tokio::sync::oneshot::Sender<Completions> },
    Inspect { code: String, position: usize, answer: tokio::sync::oneshot::Sender<Option<Bundle>> },
}

/// A running engine; requests wait until it has loaded.
pub struct Engine {
    requests: Sender<Request>,
    cells: Arc<Cells>,
    stopped: Receiver<()>,
    stage: watch::Receiver<Stage>,
    /// What threads of the cells put out between cells.
    background: Mutex<Option<mpsc::Receiver<Output>>>,
}

/// How far the engine is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// With what to tell a user who waits.
    Loading(Option<Notice>),
    Loaded,
    /// Each cell will say why.
    Failed,
}

impl Engine {
    /// Begins to load evcxr and the prelude in the background.
    ///
    /// # Safety
    /// Sets environment variables: no other thread may be reading them.
    ///
    /// # Errors
    /// When there is no cache folder to work in.
    pub unsafe fn start(backend: Backend) -> Result<Engine, String> {
        let session = Session::new()?;
        let template = Template::expected(backend);
        let no_pipes = |error: std::io::Error| format!("the cells' output cannot be read: {error}");
        let pipes = Pipes::new().map_err(no_pipes)?;
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var("EVCXR_TMPDIR", session.path());
            std::env::set_var(ENVIRONMENT_VARIABLE, "1");
            std::env::set_var(pipes::VARIABLE, pipes.variable());
            std::env::set_var(CHECKPOINTS_VARIABLE, session.checkpoints());
            // An error is its message: where in the library it arose is no help in a notebook.
            std::env::set_var("RUST_LIB_BACKTRACE", "0");
            // candle's own threads would else wait for work by spinning, on cores that others need.
            if std::env::var_os(SPINNING_VARIABLE).is_none() {
                std::env::set_var(SPINNING_VARIABLE, "100");
            }
            if let Ok(template) = &template {
                std::env::set_var(LIBRARY_VARIABLE, template.library());
                std::env::set_var(toolchain::SOURCES_VARIABLE, template.library_sources());
                kept::set_up(template);
                if let Some((variable, path)) = backend.search_path(&template.libraries()) {
                    std::env::set_var(variable, path);
                }
            }
        }
        let (requests, queue) = unbounded();
        let (ended, stopped) = bounded(1);
        let (say, stage) = watch::channel(Stage::Loading(None));
        let cells: Arc<Cells> = Arc::default();
        let (listener, background) = Listener::start(pipes, cells.clone()).map_err(no_pipes)?;
        let background = Mutex::new(Some(background));
        let engine = Engine { requests, cells: cells.clone(), stopped, stage, background };
        let thread = std::thread::Builder::new().name("engine".into());
        let run = move || {
            let loaded = load(&cells, &session, listener, || {
                let ready = template?.ready(&|notice| {
                    terminal::show(&notice);
                    say.send_replace(Stage::Loading(Some(notice)));
                });
                terminal::end_progress();
                ready
            });
            environment::note_ours();
            cells.is_loaded();
            say.send_replace(if loaded.is_ok() { Stage::Loaded } else { Stage::Failed });
            // A session that was killed left that undone.
            std::thread::spawn(kept::tidy);
            serve(&cells, loaded, &queue);
            kept::tidy();
            // Its folder goes before the engine is said to have stopped.
            drop(session);
            let _ = ended.send(());
        };
        thread.spawn(run).map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(engine)
    }

    /// Ends the cells' process, compilers and commands, and removes what the session leaves, within some seconds.
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
    }

    /// Runs a cell; what it puts out and how it ends comes through the channel.
    pub fn execute(&self, code: String) -> mpsc::Receiver<Event> {
        let (events, received) = mpsc::channel(MAX_EVENTS);
        let number = self.cells.expect(events.clone());
        let _ = self.requests.send(Request::Execute { number, code, events });
        received
    }

    /// What threads of the cells put out between cells, for the first who asks.
    pub fn background(&self) -> Option<mpsc::Receiver<Output>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What could stand at a byte position of a cell; nothing while a cell runs or waits.
    pub async fn complete(&self, code: String, position: usize) -> Completions {
        if self.cells.is_busy() {
            return Completions { start: position, end: position, ..Completions::default() };
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let _ = self.requests.send(Request::Complete { code, position, answer });
        answered.await.unwrap_or_default()
    }

    /// Signature and documentation of what stands at a byte position of a cell; nothing while a
    /// cell runs or waits.
    pub async fn inspect(&self, code: String, position: usize) -> Option<Bundle> {
        if self.cells.is_busy() {
            return None;
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        let _ = self.requests.send(Request::Inspect { code, position, answer });
        answered.await.ok().flatten()
    }

    /// How far it is, and will be.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }

    /// Whether it has loaded, once that is known.
    pub async fn loaded(&self) -> bool {
        let mut stage = self.stage();
        let known = stage.wait_for(|stage| !matches!(stage, Stage::Loading(_))).await;
        known.is_ok_and(|stage| *stage == Stage::Loaded)
    }

    /// Whether a cell runs or waits.
    pub fn is_busy(&self) -> bool {
        self.cells.is_busy()
    }

    /// Asks the running cell to stop; kills its process if it does not in time, or is asked again.
    pub fn interrupt(&self) {
        self.cells.interrupt();
    }
}

/// evcxr's context with the prelude loaded, and the reader of the cells' output.
struct Loaded {
    context: CommandContext,
    listener: Arc<Listener>,
    /// What makes the prelude known.
    load: String,
    gone: Gone,
    /// If cells are kept.
    ahead: Option<Ahead>,
    /// The `:dep` lines so far.
    dependencies: BTreeSet<String>,
    /// Where evcxr compiles.
    folder: PathBuf,
    /// Where training leaves weights to be recovered.
    checkpoints: PathBuf,
    /// The user's configuration of evcxr, which is loaded with the first cell.
    config: Vec<PathBuf>,
}

fn serve(cells: &Cells, mut loaded: Result<Loaded, String>, queue: &Receiver<Request>) {
    for request in queue {
        match (&mut loaded, request) {
            (_, Request::Stop) => return,
            (Ok(loaded), Request::Execute { number, code, events }) => {
                if cells.begin(number) {
                    let outcome = loaded.execute(cells, &code, &events);
                    cells.end(number);
                    let _ = events.blocking_send(Event::Done(outcome));
                }
            }
            (Ok(loaded), Request::Complete { code, position, answer }) => {
                let _ = answer.send(loaded.complete(&code, position));
            }
            (Ok(loaded), Request::Inspect { code, position, answer }) => {
                let _ = answer.send(loaded.inspect(&code, position));
            }
            (Err(problem), Request::Execute { number, events, .. }) => {
                if cells.begin(number) {
                    cells.end(number);
                    let _ = events.blocking_send(Event::Done(Err(CellError::new("StartError", problem))));
                }
            }
            // Dropping the sender is the empty answer.
            (Err(_), _) => {}
        }
    }
}

fn load(
    cells: &Cells,
    session: &Session,
    listener: Arc<Listener>,
    template: impl FnOnce() -> Result<Template, String>,
) -> Result<Loaded, String> {
    let template = template()?;
    session.fill(&template)?;
    let config = config::files();
    config::check(&config)?;
    let (context, outputs) = CommandContext::new().map_err(|error| error.to_string())?;
    let _ = cells.child.set(context.process_handle());
    std::thread::spawn(move || log(&outputs));
    let ahead = kept::folder().map(|cells| Ahead::new(session.path(), cells));
    let load = format!("{LINKER}{}{USE_PRELUDE}\n{BEGIN}\n{ALLOW_QUESTION_MARK}", template.load_commands());
    let (folder, checkpoints) = (session.path().to_owned(), session.checkpoints());
    let gone = Gone::default();
    let dependencies = BTreeSet::new();
    let mut loaded =
        Loaded { context, listener, load, gone, ahead, dependencies, folder, checkpoints, config };
    loaded.listener.collect();
    // Not with what `:clear` repeats: a crate asked for beside it is still to be fetched then.
    if let Some(command) = certificates::without() {
        let _ = loaded.context.execute(&command);
    }
    if let Err(error) = loaded.context.execute(&loaded.load) {
        let heard = loaded.listener.finish_ended();
        let mut text = describe(&error, &Prepared::new(&loaded.load), &loaded.load, &Gone::default()).plain();
        // Such as the loader's, of a library that is missing.
        text += &heard.error.into_iter().map(|error| format!("\n{error}")).collect::<String>();
        text += &format!("\n{}", heard.collected.trim_end());
        let hint = match template.missing_libraries() {
            Some(missing) => format!("{missing}\nhint: {LIBRARIES_REMEDY}"),
            None => "hint: `headstart doctor` looks at all that a kernel needs".to_owned(),
        };
        return Err(format!("{text}\n{hint}"));
    }
    if let Some(error) = loaded.listener.finish().error {
        return Err(format!("the prelude cannot be loaded: {error}"));
    }
    session.keep(&template);
    loaded.look_ahead("", true);
    if !cells.is_busy() {
        // Nobody waits yet: the first look at a type of candle's takes a second that a later cell
        // then has not to wait.
        loaded.complete(FIRST_LOOK, FIRST_LOOK.len());
    }
    Ok(loaded)
}

impl Loaded {
    fn execute(&mut self, cells: &Cells, code: &str, events: &mpsc::Sender<Event>) -> Outcome {
        let variables = self.variables();
        self.listener.begin(events.clone());
        self.load_config(events);
        if let Some(command) = certificates::for_cell(code) {
            let _ = self.context.execute(&command);
        }
        let begin = SystemTime::now();
        let (steps, code) = commands::split(code);
        let code = code.as_str();
        for step in steps {
            let outcome = match step {
                Step::Shell(command) => commands::run(&command, &self.listener),
                Step::Evcxr(lines) => self
                    .context
                    .execute(&lines)
                    .map(drop)
                    .map_err(|error| describe(&error, &Prepared::new(&lines), &lines, &self.gone)),
            };
            if let Err(error) = outcome {
                self.listener.finish();
                return Err(match cells.is_interrupted() {
                    true => CellError::interrupted("while a command ran"),
                    false => error,
                });
            }
        }
        let whole = code;
        // evcxr knows commands before code alone.
        let (code, commands) = code.split_at(last_commands(code).unwrap_or(code.len()));
        let mut prepared = Prepared::new(code);
        let before: Vec<(String, String)> = self
            .context
            .variables_and_types()
            .map(|(name, type_)| (name.to_owned(), type_.to_owned()))
            .collect();
        prepared.give_types(&before);
        if let Some(note) = self.loses_by_dependency(code, &before) {
            let _ = events.blocking_send(Event::Output(Output::Stderr(note)));
        }
        let begun = self.ahead.as_ref().and_then(|ahead| ahead.begin(prepared.sent()));
        let mut result = self.context.execute(prepared.sent());
        drop(begun);
        // What evcxr cannot keep for later cells serves its own cell nevertheless.
        while let Err(error) = &result
            && prepared.make_any_local(&unkept_variables(error), outlives(error))
        {
            result = self.context.execute(prepared.sent());
        }
        if let Ok(outputs) = &mut result
            && !commands.is_empty()
        {
            match self.context.execute(Prepared::new(commands).sent()) {
                Ok(more) => outputs.merge(more),
                Err(error) => result = Err(error),
            }
        }
        let code = whole;
        if result.is_ok() && code.lines().any(|line| line.trim() == ":clear") {
            // It clears the prelude too.
            result = self.context.execute(&self.load).and(result);
        }
        if code.lines().any(|line| line.trim() == ":restart") {
            // evcxr goes on to take the variables of the process that has ended, unless that ends under a cell.
            let _ = self.context.execute(END);
            // The new process must know Stop and how to report a panic.
            result = self.context.execute(BEGIN).and(result);
        }
        if code.lines().filter(|line| line.trim() == ":timing").count() % 2 == 1 {
            timing::toggle(&self.folder);
        }
        if let Some(format) = code.lines().rev().find_map(|line| line.trim().strip_prefix(":fmt ")) {
            // evcxr keeps it for the values that the prelude does not show.
            let is_pretty = format.contains('#');
            let _ = self.context.execute(&format!("headstart::display::set_pretty_debug({is_pretty});"));
        }
        let mut heard = match &result {
            Err(Error::SubprocessTerminated(_)) => self.listener.finish_ended(),
            _ => self.listener.finish(),
        };
        let is_interrupted = cells.is_interrupted();
        // What runs from here on is the kernel's own: Stop is not for it.
        cells.finish();
        self.warn(&prepared, result.is_ok(), events);
        let source = self.context.last_source().unwrap_or_default();
        let restored = match heard.failed() {
            true => self.restore(&before, &source),
            false => BTreeSet::new(),
        };
        let items: BTreeSet<&str> = self.context.defined_item_names().collect();
        let cause = cause(code, &result, heard.failed());
        let cause_of = |name: &str| {
            let type_ = before.iter().find(|(known, _)| known == name).map_or("", |(_, type_)| type_);
            match cause == Cause::UsedUp && is_retyped(name, type_, &items, code) {
                true => Cause::Retyped,
                false => cause,
            }
        };
        let after = self.variables();
        self.gone.note(&variables, &after, code, cause_of);
        self.gone.note_local(prepared.local(), code);
        self.look_ahead(code, result.is_ok());
        match result {
            Err(Error::SubprocessTerminated(text)) => {
                if !cells.is_stopping() {
                    // The new process must know how to report a panic; a failure here will show there.
                    let _ = self.context.execute(BEGIN);
                }
                let kept = session::kept_models(&self.checkpoints);
                Err(CellError::process_ended(&text, is_interrupted, &variables, &kept))
            }
            Err(_) if is_interrupted => Err(CellError::interrupted("while it was being compiled")),
            Err(error) => Err(describe(&error, &prepared, code, &self.gone)),
            Ok(_) if heard.failed() => {
                let text = heard.error.take().unwrap_or_default();
                let mut error = match heard.panic.take() {
                    Some((message, line)) => CellError::panic(
                        &message,
                        line.and_then(|line| line_of(&prepared, &source, line as usize)),
                    ),
                    None if is_interrupted => {
                        CellError::new("Interrupted", text.strip_prefix("interrupted; ").unwrap_or(&text))
                    }
                    None => CellError::new("Error", &text),
                };
                if !restored.is_empty() {
                    let names: Vec<_> = restored.iter().map(|name| format!("`{name}`")).collect();
                    error.traceback.push(format!("hint: {} as before this cell", are(&names)));
                }
                Err(error)
            }
            // What stops of itself, such as `fit`, ends well; what was to run after it does not.
            Ok(_) if is_interrupted => Err(CellError::interrupted("when it was asked to")),
            Ok(outputs) => {
                if let Some(whole) = outputs.timing {
                    let phases: Vec<_> =
                        outputs.phases.into_iter().map(|phase| (phase.name, phase.duration)).collect();
                    let line = timing::line(whole, &phases, begin, &self.folder);
                    let _ = events.blocking_send(Event::Output(Output::Stdout(line)));
                }
                // What evcxr's own commands show, such as `:vars`, and after it the cell's own value.
                let mut data: Bundle = outputs.content_by_mime_type.into_iter().collect();
                let value = std::mem::take(&mut heard.value);
                if !value.is_empty() {
                    let shown = std::mem::replace(&mut data, value);
                    if !shown.is_empty() {
                        let id = format!("headstart-command-{begin:?}");
                        let _ = events.blocking_send(Event::Output(Output::Display { id, data: shown }));
                    }
                }
                data.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                let is_unit =
                    matches!(data.as_slice(), [(mime, text)] if mime == "text/plain" && text == "()");
                Ok((!data.is_empty() && !is_unit).then_some(data))
            }
        }
    }

    /// Loads the crates and the code of the user's configuration of evcxr; what fails is said, and the cell runs.
    fn load_config(&mut self, events: &mpsc::Sender<Event>) {
        let files = std::mem::take(&mut self.config);
        if files.is_empty() {
            return;
        }
        if let Some(command) = certificates::for_cell(config::COMMAND) {
            let _ = self.context.execute(&command);
        }
        let loaded = self.context.execute(config::COMMAND);
        if let Some(command) = certificates::without() {
            let _ = self.context.execute(&command);
        }
        if let Err(error) = loaded {
            let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            let problem =
                describe(&error, &Prepared::new(config::COMMAND), config::COMMAND, &self.gone).plain();
            let text =
                format!("the configuration of evcxr ({}) cannot be loaded: {problem}\n", files.join(", "));
            let _ = events.blocking_send(Event::Output(Output::Stderr(text)));
        }
    }

    /// Which variables a `:dep` takes: those of types that cells have defined, which are compiled anew then.
    fn loses_by_dependency(&mut self, code: &str, variables: &[(String, String)]) -> Option<String> {
        let asked = code.lines().map(str::trim).filter(|line| line.starts_with(":dep "));
        let new: Vec<String> =
            asked.filter(|line| !self.dependencies.contains(*line)).map(str::to_owned).collect();
        let first = new.first()?.clone();
        self.dependencies.extend(new);
        let items: BTreeSet<&str> = self.context.defined_item_names().collect();
        let lost: Vec<String> = variables
            .iter()
            .filter(|(_, type_)| identifiers(type_).any(|word| items.contains(word)))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        (!lost.is_empty()).then(|| {
            format!(
                "note: `{first}` has the types of earlier cells compiled anew, so {} will be lost: write `:dep` \
                 lines in the first cell\n",
                lost.join(", ")
            )
        })
    }

    /// Says what rustc warns of, if the cell ran, and what differs in a notebook from a program.
    fn warn(&self, prepared: &Prepared, has_run: bool, events: &mpsc::Sender<Event>) {
        let mut lines = Vec::new();
        let found = warnings::take(&self.folder);
        if !has_run {
            return;
        }
        if !found.is_empty() {
            let source = self.context.last_source().unwrap_or_default();
            for (message, line) in found {
                if let Some((number, text)) = line_of(prepared, &source, line) {
                    lines.push(format!(
                        "warning: {message}\n{number:>4} │ {text}\n{}",
                        warnings::remedy(&message)
                    ));
                }
            }
        }
        if let Some(block) = prepared.block() {
            lines.extend(notes::notes(&block.stmts));
            let lasting = prepared.local().iter().filter(|name| !redefined::may_move(&block.stmts, name));
            lines.extend(lasting.map(|name| {
                format!("note: `{name}` lasts for this cell only: it borrows from here, or its type cannot be written")
            }));
        }
        for line in lines {
            let _ = events.blocking_send(Event::Output(Output::Stderr(line + "\n")));
        }
    }

    /// Gives variables that a cell was to define anew, and that are gone since it failed, what they held before.
    fn restore(&mut self, before: &[(String, String)], source: &str) -> BTreeSet<String> {
        let after = self.variables();
        let lost: Vec<_> = before.iter().filter(|(name, _)| !after.contains(name)).collect();
        let saved = restore::saved(&lost, source);
        let all: String = saved.iter().map(|(_, code)| code.as_str()).collect();
        if !all.is_empty() && self.context.execute(&all).is_err() && saved.len() > 1 {
            for (_, code) in &saved {
                let _ = self.context.execute(code);
            }
        }
        let there = self.variables();
        saved.into_iter().map(|(name, _)| name).filter(|name| there.contains(name)).collect()
    }

    /// For the next cell, after one that evcxr has counted or not.
    fn look_ahead(&mut self, code: &str, is_counted: bool) {
        if let Some(ahead) = &mut self.ahead {
            ahead.end(code, is_counted, self.context.variables_and_types());
        }
    }

    fn variables(&self) -> BTreeSet<String> {
        self.context.variables_and_types().map(|(name, _)| name.to_owned()).collect()
    }

    fn complete(&mut self, code: &str, position: usize) -> Completions {
        let Ok(found) = self.context.completions(code, position) else {
            return Completions { start: position, end: position, ..Completions::default() };
        };
        let mut matches: Vec<_> = found
            .completions
            .into_iter()
            .map(|found| (insertion(&found.code).to_owned(), found.kind))
            .collect();
        matches.dedup();
        Completions { matches, start: found.start_offset, end: found.end_offset }
    }

    fn inspect(&mut self, code: &str, position: usize) -> Option<Bundle> {
        // evcxr looks at what stands before a position.
        let (text, html) = self.context.hover_at(code, end_of_name(code, position)).ok()?;
        let found = text != "No documentation found" && !text.is_empty();
        found.then(|| vec![("text/plain".into(), text), ("text/html".into(), html)])
    }
}

/// The line of a cell, and its text, that is a line of what was compiled.
fn line_of<'a>(prepared: &'a Prepared, source: &str, line: usize) -> Option<(usize, &'a str)> {
    let cell = prepared.plain();
    let number = places::cell_line(cell, prepared.block()?, source, line)?;
    Some((number, cell.lines().nth(number - 1)?))
}

/// Why the variables that are gone after a cell are.
fn cause<T>(code: &str, result: &Result<T, Error>, failed: bool) -> Cause {
    let has_command = |command: &str| code.lines().any(|line| line.trim().starts_with(command));
    match result {
        Err(Error::SubprocessTerminated(_)) => Cause::ProcessEnded,
        _ if has_command(":clear") || has_command(":restart") => Cause::Cleared,
        _ if failed => Cause::Failed,
        Err(_) => Cause::Retyped,
        Ok(_) => Cause::UsedUp,
    }
}

/// Whether a variable of a type that a cell defined is gone since that was compiled anew.
fn is_retyped(name: &str, type_: &str, items: &BTreeSet<&str>, code: &str) -> bool {
    let has = |text: &str| identifiers(code).any(|word| word == text);
    let mut own = identifiers(type_).filter(|word| items.contains(word)).peekable();
    own.peek().is_some() && (!has(name) || own.any(has))
}

fn are(names: &[String]) -> String {
    match names {
        [name] => format!("{name} is"),
        names => format!("{} are", names.join(", ")),
    }
}

/// What a process of cells says before its output is redirected, such as the loader of a library that is missing.
fn log(outputs: &EvalContextOutputs) {
    loop {
        select! {
            recv(outputs.stdout) -> line => match line {
                Ok(line) => eprintln!("{line}"),
                Err(_) => return,
            },
            recv(outputs.stderr) -> line => match line {
                Ok(line) => eprintln!("{line}"),
                Err(_) => return,
            },
        }
    }
}
