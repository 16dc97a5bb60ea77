//! Start of the engine: evcxr's context, the prelude, and the probe of evcxr's text.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crossbeam_channel::select;
use evcxr::{CommandContext, EvalContext, EvalContextOutputs};
use tokio::sync::mpsc;

use crate::compile::ahead::Ahead;
use crate::compile::evcxr_text::commands::{BUILD_VARIABLE, CLEAR, DEPENDENCY, LOAD_CONFIG};
use crate::compile::{boundary, probe};
use crate::engine::guard::guarded;
use crate::engine::hints::LostVariables;
use crate::engine::interrupt::Cells;
use crate::engine::listen::Listener;
use crate::engine::output::{Event, Output};
use crate::engine::prepare::Prepared;
use crate::engine::report::describe;
use crate::engine::{certificates, config};
use crate::platform::{programs, rustc_wrapper};
use crate::prelude::backend::LIBRARIES_REMEDY;
use crate::prelude::facade::toml_string;
use crate::prelude::session::Session;
use crate::prelude::template::Template;
use crate::prelude::toolchain;

/// Code that runs in each new process of cells, before the first cell.
pub const BEGIN: &str = "headstart::start();";
/// Cell that restores a context's numbering after `:clear`: evcxr runs it when it starts.
const FIRST: &str = "42";
/// Code that drops the variables and ends a process of cells.
pub const END: &str = "headstart::variables::end();";
const USE_PRELUDE: &str = "use headstart::prelude::*;\nuse headstart::display::ShowDebug as _;";
/// evcxr prefers mold, which it loads into every program that it starts for a cell. That takes longer than
/// rustc's own linker.
const LINKER: &str = if toolchain::HAS_LINKER { ":linker system\n" } else { "" };
/// Cell that makes evcxr expect `?`. Without it, evcxr first tries each cell without `?`, and then shows a
/// value created with `?` only as its `Debug` text.
const ALLOW_QUESTION_MARK: &str = "headstart::check_interrupt()?;";
/// Code whose completion warms up rust-analyzer. The cursor is at its end.
const WARM_UP_CODE: &str = "Tensor::zeros(1, DType::F32, &device())?.";
/// evcxr's context with the prelude loaded, and the reader of the cells' output.
pub struct Loaded {
    pub context: CommandContext,
    pub listener: Arc<Listener>,
    /// Code that loads the prelude.
    pub load: String,
    pub gone: LostVariables,
    /// Compilation ahead, if it is enabled.
    pub ahead: Option<Ahead>,
    /// `:dep` lines so far.
    pub dependencies: BTreeSet<String>,
    /// Whether `:fmt` asks for values in several lines.
    pub is_pretty: bool,
    /// Folder in which evcxr compiles.
    pub folder: PathBuf,
    /// Folder in which training saves checkpoints.
    pub checkpoints: PathBuf,
    /// Files of the user's evcxr configuration, which are loaded with the first cell.
    pub config: Vec<PathBuf>,
    /// Whether cells use the prelude's variable store.
    pub is_rewritten: bool,
    /// Note for the user, shown with the first cell.
    pub note: Option<String>,
}

/// Starts evcxr and loads the prelude.
pub fn load(
    cells: &Cells,
    session: &Session,
    listener: Arc<Listener>,
    template: impl FnOnce() -> Result<Template, String>,
) -> Result<Loaded, String> {
    let template = template()?;
    session.fill(&template)?;
    let config = config::files();
    config::check(&config)?;
    let decided = boundary::Cells::decided(&template, rustc_wrapper::folder().is_some());
    if let Some(decided) = &decided {
        decided.apply(session.path())?;
    }
    let program = programs::link_to_self(session.path()).or_else(|_| std::env::current_exe());
    let program = program.map_err(|error| format!("this program's path is not known: {error}"))?;
    let (context, outputs) =
        EvalContext::with_subprocess_command(Command::new(program)).map_err(|error| error.to_string())?;
    let context = CommandContext::with_eval_context(context);
    let _ = cells.child.set(context.process_handle());
    cells.process_has_changed();
    std::thread::spawn(move || log(&outputs));
    let mut loaded = Loaded {
        context,
        listener,
        load: format!("{}{USE_PRELUDE}\n{BEGIN}\n{ALLOW_QUESTION_MARK}", dependency(&template)),
        gone: LostVariables::default(),
        ahead: None,
        dependencies: BTreeSet::new(),
        is_pretty: false,
        folder: session.path().to_owned(),
        checkpoints: session.checkpoints(),
        config,
        is_rewritten: false,
        note: None,
    };
    // Not part of the code that `:clear` repeats: a crate in the same cell may have to be fetched then.
    if let Some(command) = certificates::without() {
        let _ = loaded.context.execute(&command);
    }
    let decided = match decided {
        Some(decided) => {
            loaded.load_prelude(&template)?;
            decided
        }
        None => {
            let probe = loaded.load_prelude(&template).and_then(|()| loaded.probe());
            let could_run = probe.is_ok();
            let found = boundary::Cells::of(&probe.and_then(|text| text));
            found.apply(session.path())?;
            loaded.listener.collect();
            // Repeats the start of later sessions, so that the compile cache contains their first cells.
            for cell in [CLEAR.to_owned(), dependency(&template) + FIRST] {
                loaded.context.execute(&cell).map_err(|error| error.to_string())?;
            }
            loaded.load_prelude(&template)?;
            // The cause of a probe's failure, such as a full disk or a setting, may be gone in the next session.
            let may_pass = found != boundary::Cells::Rewritten && !loaded.config.is_empty();
            if could_run && !may_pass {
                found.record(&template);
            }
            found
        }
    };
    // The probe and `:clear` replace the process.
    cells.process_has_changed();
    loaded.is_rewritten = decided == boundary::Cells::Rewritten;
    loaded.note = decided.note();
    loaded.ahead = rustc_wrapper::folder()
        .filter(|_| loaded.is_rewritten)
        .map(|cells| Ahead::new(session.path(), cells));
    session.save(&template);
    loaded.prepare_compilation_ahead("", true);
    if !cells.is_busy() {
        // No client waits yet. The first completion on a candle type takes a second; doing it now saves a
        // later cell that wait.
        loaded.complete(WARM_UP_CODE, WARM_UP_CODE.len());
    }
    Ok(loaded)
}

/// Commands that make the prelude available to cells.
fn dependency(template: &Template) -> String {
    format!(
        "{LINKER}{BUILD_VARIABLE}CARGO_INCREMENTAL=0\n{BUILD_VARIABLE}CARGO_ENCODED_RUSTFLAGS={}\n\
         {DEPENDENCY}headstart = {{ path = {} }}\n",
        template.rustc_flags().join("\u{1f}"),
        toml_string(&template.facade())
    )
}

impl Loaded {
    fn load_prelude(&mut self, template: &Template) -> Result<(), String> {
        self.listener.collect();
        if let Err(error) = self.context.execute(&self.load) {
            let collected = self.listener.finish_ended();
            let mut text =
                describe(&error, &Prepared::new(&self.load), &self.load, &LostVariables::default()).plain();
            // For example, the loader's message about a missing library.
            text += &collected.error.into_iter().map(|error| format!("\n{error}")).collect::<String>();
            text += &format!("\n{}", collected.stderr.trim_end());
            let hint = match template.missing_libraries() {
                Some(missing) => format!("{missing}\nhint: {LIBRARIES_REMEDY}"),
                None => "hint: run `headstart doctor`, which checks the installation".to_owned(),
            };
            return Err(format!("{text}\n{hint}"));
        }
        match self.listener.finish().error {
            Some(error) => Err(format!("the prelude cannot be loaded: {error}")),
            None => Ok(()),
        }
    }

    /// Tests whether evcxr's text is as expected, and returns the difference if not.
    ///
    /// # Errors
    /// If the probe cannot run.
    fn probe(&mut self) -> Result<Result<(), String>, String> {
        self.listener.collect();
        let found = guarded(|| probe::run(&mut self.context, &self.folder)).and_then(|found| found);
        let collected = self.listener.finish();
        match collected.error.or(collected.panic.map(|(message, _)| message)) {
            Some(problem) => Err(format!("a probe cell failed: {problem}")),
            None => found,
        }
    }

    /// Loads the crates and the code of the user's evcxr configuration. Failures are reported, and the cell
    /// still runs.
    pub fn load_config(&mut self, events: &mpsc::Sender<Event>) {
        let files = std::mem::take(&mut self.config);
        if files.is_empty() {
            return;
        }
        if let Some(command) = certificates::for_cell(LOAD_CONFIG) {
            let _ = self.context.execute(&command);
        }
        let loaded = self.context.execute(LOAD_CONFIG);
        if let Some(command) = certificates::without() {
            let _ = self.context.execute(&command);
        }
        if let Err(error) = loaded {
            let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            let problem = describe(&error, &Prepared::new(LOAD_CONFIG), LOAD_CONFIG, &self.gone).plain();
            let text =
                format!("the configuration of evcxr ({}) cannot be loaded: {problem}\n", files.join(", "));
            let _ = events.blocking_send(Event::Output(Output::Stderr(text)));
        }
    }
}

/// Logs what a process of cells prints before its output is redirected, such as a loader error about a
/// missing library.
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
