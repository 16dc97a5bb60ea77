//! The `headstart` command: a Jupyter kernel for Rust whose cells find transfer learning loaded.

mod ahead;
mod archive;
mod backend;
mod cached;
mod cell;
mod certificates;
mod child;
mod commands;
mod compile;
mod complete;
mod config;
mod dispatch;
mod doctor;
mod edits;
mod engine;
mod environment;
mod errors;
mod execute;
mod export;
mod facade;
mod highlight;
mod hints;
mod history;
mod html;
mod install;
mod interrupt;
mod inventory;
mod kept;
mod lab;
mod listen;
mod modules;
mod notes;
mod operators;
mod output;
mod owned;
mod packages;
mod parameters;
mod parent;
mod phase;
mod pipes;
mod places;
mod predict;
mod prepare;
mod programs;
mod question;
mod redefined;
mod report;
mod restore;
mod run;
mod scanner;
mod session;
mod skeleton;
mod sources;
mod standby;
mod template;
mod terminal;
mod timing;
mod tokens;
mod toolchain;
mod trust;
mod variables;
mod warnings;
mod weights;
mod wire;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::backend::Backend;
use crate::engine::Engine;
use crate::output::Event;
use crate::standby::Origin;
use crate::template::Template;

/// Transfer learning in Rust, cell by cell.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile the prelude and make Jupyter know the kernel.
    Install {
        /// Install for the Jupyter of one environment, such as a Python virtual environment.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Compile the prelude, also where one is ready or came with this program.
        #[arg(long)]
        from_source: bool,
        #[command(flatten)]
        backend: Backend,
    },
    /// Remove the kernel from Jupyter, and what it keeps in the cache.
    Uninstall {
        /// Remove it from the Jupyter of one environment only.
        #[arg(long)]
        prefix: Option<PathBuf>,
        /// Remove downloaded weights, too.
        #[arg(long)]
        weights: bool,
    },
    /// Show what is kept in the cache, with its size, or clear it.
    Cache {
        #[command(subcommand)]
        action: Option<cached::Action>,
    },
    /// Write the compiled prelude as a tar archive into a folder; a release compresses it.
    #[command(hide = true)]
    Pack { folder: PathBuf },
    /// Be a kernel; Jupyter calls this.
    Kernel {
        /// The connection file.
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
        #[command(flatten)]
        backend: Backend,
    },
    /// Load, and wait to be the next kernel; a kernel calls this.
    #[command(hide = true)]
    Standby {
        #[command(flatten)]
        backend: Backend,
    },
    /// Look at all that a notebook needs and say what to do about what is missing.
    Doctor,
    /// Open JupyterLab with the kernel and the lessons; installs either where it is missing.
    Lab {
        /// Where the lessons are put and what is made of them is kept.
        #[arg(default_value = "headstart-notebooks")]
        folder: PathBuf,
        /// What JupyterLab itself is told, after `--`: `-- --no-browser`.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Show, fetch and check the pretrained weights that are known by name.
    Weights {
        #[command(subcommand)]
        action: weights::Action,
    },
    /// Write a cargo project that does what a notebook does.
    Export {
        notebook: PathBuf,
        /// The project's folder, a new one: unless told, named after the notebook, in the current folder.
        folder: Option<PathBuf>,
    },
    /// Execute notebooks without Jupyter, and write them with their outputs.
    Run {
        /// The notebooks, each in a session of its own.
        #[arg(required = true)]
        notebooks: Vec<PathBuf>,
        /// Write here rather than over the notebook: a file, or a folder for several notebooks.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Write a page to open in a browser beside each notebook, and one that leads to them in a folder of several.
        #[arg(long)]
        html: bool,
        #[command(flatten)]
        options: run::Options,
        #[command(flatten)]
        backend: Backend,
    },
}

/// rust-analyzer's first look at the prelude takes a tenth less time with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    environment::note_users();
    timing::hook();
    kept::hook();
    // Before the next: it, too, is begun by the cells' process and finds its environment.
    weights::hook();
    engine::runtime_hook();
    let command = Arguments::parse().command;
    if !matches!(command, Command::Kernel { .. } | Command::Standby { .. }) {
        toolchain::pin();
    }
    let result = match command {
        Command::Install { prefix, from_source, backend } => {
            let remade =
                from_source.then(|| Template::expected(backend)?.remake(&|notice| terminal::show(&notice)));
            remade.transpose().and_then(|_| install(prefix.as_deref(), backend))
        }
        Command::Uninstall { prefix, weights } => uninstall(prefix.as_deref(), weights),
        Command::Cache { action } => cached::run(action.as_ref()),
        Command::Pack { folder } => pack(&folder),
        Command::Kernel { connection_file, backend } => kernel(&connection_file, backend),
        Command::Standby { backend } => standby::wait(Origin::of_this_process(backend)),
        Command::Doctor => doctor::examine(),
        Command::Lab { folder, arguments } => match install::installed(Backend::default()) {
            Some((_, program)) if program.is_file() => Ok(()),
            _ => install(None, Backend::default()),
        }
        .and_then(|()| lab::open(&folder, &arguments)),
        Command::Weights { action } => {
            // SAFETY: no other thread runs.
            unsafe { Engine::start(Backend::default()) }.and_then(|engine| {
                let result = action.run(&engine);
                engine.stop();
                result
            })
        }
        Command::Export { notebook, folder } => export(&notebook, folder),
        Command::Run { notebooks, output, html, options, backend } => {
            run_all(&notebooks, output, html, &options, backend)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn install(prefix: Option<&Path>, backend: Backend) -> Result<(), String> {
    // The first session compiles what every later one begins with.
    // SAFETY: no other thread runs.
    let engine = unsafe { Engine::start(backend) }?;
    let mut received = engine.execute("headstart::cells_run()".into());
    while let Some(event) = received.blocking_recv() {
        if let Event::Done(Err(error)) = event {
            return Err(error.plain());
        }
    }
    engine.stop();
    let folder = install::install(prefix, backend)?;
    println!("installed the kernel \"{}\" in {}", backend.kernel_name(), folder.display());
    Ok(())
}

fn uninstall(prefix: Option<&Path>, weights: bool) -> Result<(), String> {
    for folder in install::uninstall(prefix)? {
        println!("removed {}", folder.display());
    }
    if prefix.is_some() {
        return Ok(());
    }
    let cache = template::cache()?;
    let weights = if weights { cached::clear(&cache, &["weights".into()])? } else { Vec::new() };
    for name in cached::clear(&cache, &[])?.into_iter().chain(weights) {
        println!("removed {name} from {}", cache.display());
    }
    Ok(())
}

fn pack(folder: &Path) -> Result<(), String> {
    let template = Template::expected(Backend::default())?.ready(&|notice| terminal::show(&notice))?;
    let name = template.path().file_name().unwrap_or_default().to_string_lossy();
    let archive = folder.join(format!("{name}.tar"));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::File::create(&archive))
        .and_then(|file| archive::pack(template.path(), std::io::BufWriter::new(file)));
    written.map_err(|error| format!("{}: {error}", archive.display()))?;
    println!("{}", archive.display());
    Ok(())
}

fn kernel(connection_file: &Path, backend: Backend) -> Result<(), String> {
    let complain = |problem: String| format!("{}: {problem}", connection_file.display());
    let text = std::fs::read_to_string(connection_file).map_err(|error| complain(error.to_string()))?;
    note_open_file(connection_file);
    let connection = serde_json::from_str(&text).map_err(|error| complain(error.to_string()))?;
    let origin = Origin::of_this_process(backend);
    if let Some(ended) = standby::hand_over(&origin, &connection) {
        return ended;
    }
    toolchain::pin();
    // SAFETY: no other thread runs.
    let engine = unsafe { Engine::start(backend) }?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    dispatch::run(runtime, &connection, engine, origin)
}

/// The file holds the key by which messages are signed.
fn note_open_file(connection_file: &Path) {
    let mode = std::fs::metadata(connection_file).map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let file = connection_file.display();
        eprintln!("{file}: others may read the key of this kernel (mode {mode:o}); expected mode 600");
    }
}

fn export(notebook: &Path, folder: Option<PathBuf>) -> Result<(), String> {
    let folder = folder.unwrap_or_else(|| notebook.file_stem().unwrap_or_default().into());
    export::export(notebook, &folder)?;
    println!("wrote {0}; run it with: cargo run --release --manifest-path {0}/Cargo.toml", folder.display());
    Ok(())
}

fn run_all(
    notebooks: &[PathBuf],
    output: Option<PathBuf>,
    html: bool,
    options: &run::Options,
    backend: Backend,
) -> Result<(), String> {
    let is_folder = |path: &PathBuf| path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
    let folder = output.as_ref().filter(|path| notebooks.len() > 1 || is_folder(path));
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let target = |notebook: &Path| match (&output, folder) {
        (_, Some(folder)) => folder.join(notebook.file_name().unwrap_or_default()),
        (Some(file), None) => file.clone(),
        (None, None) => notebook.to_owned(),
    };
    for (number, notebook) in notebooks.iter().enumerate() {
        let to = target(notebook);
        if let Some(other) = notebooks[..number].iter().find(|other| target(other) == to) {
            let (first, second) = (other.display(), notebook.display());
            return Err(format!("{first} and {second} would both be written to {}", to.display()));
        }
    }
    let mut pages = Vec::new();
    for notebook in notebooks {
        // SAFETY: no other thread runs: the last notebook's engine has stopped.
        let engine = unsafe { Engine::start(backend) }?;
        let to = target(notebook);
        let page = html.then(|| to.with_extension("html"));
        let run = run::run_notebook(&engine, notebook, &to, page.as_deref(), options);
        engine.stop();
        let executed = run?;
        println!("wrote {}", to.display());
        trust::trust(&to);
        if let Some(page) = page {
            println!("wrote {}", page.display());
            pages.push((page.file_name().unwrap_or_default().to_string_lossy().into_owned(), executed));
        }
    }
    if let Some(folder) = folder.filter(|_| pages.len() > 1) {
        for (number, (file, _)) in pages.iter().enumerate() {
            run::write_whole(&folder.join(file), &html::linked_page(&pages, number))?;
        }
        let index = folder.join(html::INDEX);
        run::write_whole(&index, &html::gallery(&pages))?;
        println!("wrote {}, which links to them", index.display());
    }
    Ok(())
}
