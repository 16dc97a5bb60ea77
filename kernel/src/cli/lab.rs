//! The `headstart lab` command: JupyterLab with the kernel and the lessons.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jupyter_zmq_client::dirs::data_dirs;

use crate::cli::notebook::write_whole;
use crate::cli::{install, trust};
use crate::platform::cache_folder::cache_folder;
use crate::prelude::sources;
use crate::prelude::toolchain::on_path;

/// JupyterLab's program in a Python environment.
const PROGRAM: &str = "jupyter-lab";
/// Package with the front end of widgets, which JupyterLab itself does not have.
pub const WIDGETS: &str = "jupyterlab_widgets";
/// Folder of [`WIDGETS`] in one of Jupyter's data folders.
const WIDGETS_EXTENSION: &str = "labextensions/@jupyter-widgets/jupyterlab-manager";
/// Environment variable with additional folders in which Jupyter looks for kernels.
const DATA_VARIABLE: &str = "JUPYTER_PATH";

/// Writes missing lessons into a folder and replaces this process by JupyterLab there. Returns only on
/// failure.
pub fn open(folder: &Path, arguments: &[OsString]) -> Result<(), String> {
    let lessons = write_lessons(folder)?;
    // Prefers the JupyterLab of the environment in which this program is installed, because it finds the
    // kernel there.
    let own = std::env::current_exe().ok().map(|program| program.with_file_name(PROGRAM));
    let program = match own.filter(|program| program.is_file()).or_else(|| on_path(PROGRAM)) {
        Some(program) => program,
        None => environment()?,
    };
    if !has_widgets(&program) {
        println!(
            "note: {} cannot show widgets such as sliders: install the Python package {WIDGETS} beside it",
            program.display()
        );
    }
    lessons.iter().for_each(|lesson| trust::trust(lesson));
    println!("opening {} in {}", program.display(), folder.display());
    let mut lab = Command::new(&program);
    if let Some(data) = install::own_data() {
        let others = std::env::var_os(DATA_VARIABLE).unwrap_or_default();
        let paths = std::env::split_paths(&others).filter(|path| !path.as_os_str().is_empty()).chain([data]);
        lab.envs(std::env::join_paths(paths).ok().map(|paths| (DATA_VARIABLE, paths)));
    }
    let error = lab.args(arguments).current_dir(folder).exec();
    Err(format!("{}: {error}", program.display()))
}

/// Whether a program of JupyterLab can show widgets.
pub fn has_widgets(program: &Path) -> bool {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let own = program.parent().and_then(Path::parent).map(|prefix| prefix.join("share/jupyter"));
    let mut data = own.into_iter().chain(install::user_data()).chain(data_dirs());
    data.any(|data| data.join(WIDGETS_EXTENSION).is_dir())
}

/// Writes the missing lessons and returns their paths. Existing lessons keep the learner's changes.
fn write_lessons(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let complain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| complain(folder, error))?;
    let mut written = Vec::new();
    for (name, content) in sources::lessons() {
        let lesson = folder.join(name);
        if lesson.extension().is_some_and(|extension| extension == "ipynb") && !lesson.exists() {
            write_whole(&lesson, content)?;
            written.push(lesson);
        }
    }
    Ok(written)
}

/// Program of JupyterLab in Headstart's own Python environment, which is created if it is missing.
fn environment() -> Result<PathBuf, String> {
    let folder = cache_folder()?.join("jupyter");
    let program = folder.join("bin").join(PROGRAM);
    let pip = folder.join("bin/pip");
    if program.is_file() {
        if !has_widgets(&program) {
            // An earlier version created the environment. Without a network, JupyterLab opens without widgets.
            let _ = run(&pip, &["install", "--quiet", WIDGETS]);
        }
        return Ok(program);
    }
    println!("JupyterLab is not on the PATH: installing it into {}", folder.display());
    run(Path::new("python3"), &["-m", "venv", "--clear", &folder.to_string_lossy()])?;
    let installed = run(&pip, &["install", "--quiet", "jupyterlab", WIDGETS]);
    installed.map(|()| program).inspect_err(|_| {
        // Removes an incomplete environment.
        let _ = std::fs::remove_dir_all(&folder);
    })
}

/// Runs a program until it ends.
fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} {} ended with {status}", program.display(), arguments.join(" "))),
        Err(error) => Err(format!(
            "{}: {error}\nhint: install Python 3 with its module venv; on Debian, apt install python3-venv",
            program.display()
        )),
    }
}
