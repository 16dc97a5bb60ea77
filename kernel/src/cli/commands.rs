//! Implementation of the subcommands.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::arguments::Command;
use crate::cli::{cached, doctor, export, features, html, install, lab, notebook, results, run, stop, trust};
use crate::engine::handle::Engine;
use crate::engine::output::Event;
use crate::jupyter::origin::Origin;
use crate::jupyter::{dispatch, proxy, standby};
use crate::platform::cache_folder::cache_folder;
use crate::prelude::backend::Backend;
use crate::prelude::template::Template;
use crate::prelude::{archive, terminal, toolchain};

/// Runs a subcommand.
///
/// # Errors
/// Returns the message for the user.
pub fn execute(command: Command) -> Result<(), String> {
    match command {
        Command::Install { prefix, from_source, backend } => {
            if from_source {
                // Cells of running kernels could not link to another library of the same name.
                standby::dismiss()?;
                cached::check_unused(&cache_folder()?)?;
                Template::expected(backend)?.remake(&|notice| terminal::show(&notice))?;
            }
            install(prefix.as_deref(), backend)
        }
        Command::Uninstall { prefix, weights } => uninstall(prefix.as_deref(), weights),
        Command::Cache { action } => cached::run(action.as_ref()),
        Command::Pack { folder } => pack(&folder),
        Command::Kernel { connection_file, backend } => kernel(&connection_file, backend),
        Command::Standby { backend } => standby::wait(Origin::of_this_process(backend)),
        Command::Doctor => doctor::examine(),
        Command::Lab { folder, arguments } => match install::installed(Backend::default()) {
            Some((_, program)) if is_this_program(&program) => Ok(()),
            _ => install(None, Backend::default()),
        }
        .and_then(|()| lab::open(&folder, &arguments)),
        Command::Models { action } => action.run(),
        // SAFETY: no other thread runs.
        Command::Weights { action } => unsafe { action.run() },
        Command::Export { notebook, folder } => export(&notebook, folder),
        Command::Run { notebooks, output, html, options, backend } => {
            run_all(&notebooks, output, html, &options, backend)
        }
        Command::Features { options, backend } => {
            let code = features::code(&options)?;
            // SAFETY: no other thread runs.
            let engine = unsafe { Engine::start(backend) }?;
            let outcome = run::run_code(&engine, code);
            engine.stop();
            outcome
        }
        Command::Results { options } => results::collect(&options),
    }
}

/// Whether a path leads to the program that runs, and not to another version.
fn is_this_program(path: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    std::env::current_exe().is_ok_and(|own| real(path).is_some() && real(path) == real(&own))
}

fn install(prefix: Option<&Path>, backend: Backend) -> Result<(), String> {
    // The first session fills the compile cache that later sessions start with.
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
    standby::dismiss()?;
    let cache = cache_folder()?;
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
    if let Some(ended) = proxy::hand_over(&origin, &connection) {
        return ended;
    }
    toolchain::pin();
    // Without an engine, for example because the cache is read-only, the notebook shows the reason.
    // SAFETY: no other thread runs.
    let engine = unsafe { Engine::start(backend) }.or_else(Engine::failed)?;
    let runtime = crate::platform::runtime()?;
    dispatch::run(runtime, &connection, engine, origin)
}

/// Warns if other users can read the connection file, which holds the key that signs messages.
fn note_open_file(connection_file: &Path) {
    let mode = std::fs::metadata(connection_file).map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let file = connection_file.display();
        eprintln!("{file}: other users can read the key of this kernel (mode {mode:o}); expected mode 600");
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
    stop::until_signal(|run| {
        for notebook in notebooks {
            if run.is_stopped() {
                return Err(format!("the run was stopped before {}", notebook.display()));
            }
            let to = target(notebook);
            // SAFETY: the last notebook's engine has stopped, and the thread that waits for signals uses no
            // environment variables.
            let engine = Arc::new(unsafe { Engine::start(backend) }.or_else(Engine::failed)?);
            run.set_engine(Some(engine.clone()));
            let page = html.then(|| to.with_extension("html"));
            let executed = run::run_notebook(&engine, run, notebook, &to, page.as_deref(), options);
            engine.stop();
            run.set_engine(None);
            let executed = executed?;
            println!("wrote {}", to.display());
            // Not a device or a pipe.
            if to.is_file() {
                trust::trust(&to);
            }
            if let Some(page) = page {
                println!("wrote {}", page.display());
                pages.push((page.file_name().unwrap_or_default().to_string_lossy().into_owned(), executed));
            }
        }
        Ok(())
    })?;
    let pages = html::in_reading_order(pages);
    if let Some(folder) = folder.filter(|_| pages.len() > 1) {
        for (number, (file, _)) in pages.iter().enumerate() {
            notebook::write_whole(&folder.join(file), html::linked_page(&pages, number))?;
        }
        let index = folder.join(html::INDEX);
        notebook::write_whole(&index, html::gallery(&pages))?;
        println!("wrote {}, which links to them", index.display());
    }
    Ok(())
}
