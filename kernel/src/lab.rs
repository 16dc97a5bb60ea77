//! JupyterLab with the kernel and the lessons: `headstart lab`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::on_path;
use crate::{template, trust};

/// What is called in a Python environment.
const PROGRAM: &str = "jupyter-lab";

/// Becomes JupyterLab in a folder, into which the lessons that it lacks are copied; returns only what
/// went wrong.
pub fn open(folder: &Path, arguments: &[OsString]) -> Result<(), String> {
    let lessons = copy_lessons(folder)?;
    let program = match on_path(PROGRAM) {
        Some(program) => program,
        None => environment()?,
    };
    lessons.iter().for_each(|lesson| trust::trust(lesson));
    println!("opening {} in {}", program.display(), folder.display());
    let error = Command::new(&program).args(arguments).current_dir(folder).exec();
    Err(format!("{}: {error}", program.display()))
}

/// Copies the lessons that are not there yet, and names them: what a learner has changed stays as it is.
fn copy_lessons(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let complain = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| complain(folder, error))?;
    let Some(lessons) = template::source().map(|source| source.join("notebooks")) else {
        return Ok(Vec::new());
    };
    let mut copied = Vec::new();
    for entry in std::fs::read_dir(&lessons).map_err(|error| complain(&lessons, error))?.flatten() {
        let (from, to) = (entry.path(), folder.join(entry.file_name()));
        if from.extension().is_some_and(|extension| extension == "ipynb") && !to.exists() {
            std::fs::copy(&from, &to).map_err(|error| complain(&to, error))?;
            copied.push(to);
        }
    }
    Ok(copied)
}

/// JupyterLab in a Python environment of its own, made where it is not there yet.
fn environment() -> Result<PathBuf, String> {
    let folder = template::cache()?.join("jupyter");
    let program = folder.join("bin").join(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    println!("JupyterLab is not on the PATH: installing it into {}", folder.display());
    let run = |program: &Path, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} {} ended with {status}", program.display(), arguments.join(" "))),
            Err(error) => Err(format!(
                "{}: {error}\nhint: install Python 3 with its module venv; on Debian, apt install python3-venv",
                program.display()
            )),
        }
    };
    run(Path::new("python3"), &["-m", "venv", "--clear", &folder.to_string_lossy()])?;
    let installed = run(&folder.join("bin/pip"), &["install", "--quiet", "jupyterlab"]);
    installed.map(|()| program).inspect_err(|_| {
        // Half an environment is none.
        let _ = std::fs::remove_dir_all(&folder);
    })
}
