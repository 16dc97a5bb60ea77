//! JupyterLab with the kernel and the lessons: `headstart lab`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::template;
use crate::toolchain::on_path;

/// What is called in a Python environment.
const PROGRAM: &str = "jupyter-lab";
const SIGNER: &str = "jupyter-trust";

/// Becomes JupyterLab in a folder, into which the lessons that it lacks are copied; returns only what
/// went wrong.
pub fn open(folder: &Path, arguments: &[OsString]) -> Result<(), String> {
    let lessons = copy_lessons(folder)?;
    let program = match on_path(PROGRAM) {
        Some(program) => program,
        None => environment()?,
    };
    trust(&lessons, program.parent());
    println!("opening {} in {}", program.display(), folder.display());
    let error = Command::new(&program).args(arguments).current_dir(folder).exec();
    Err(format!("{}: {error}", program.display()))
}

/// Lets Jupyter show the pictures in notebooks that come from here, where it is installed: of a notebook
/// that it does not know, JupyterLab shows the texts alone.
fn trust(notebooks: &[PathBuf], programs: Option<&Path>) {
    let beside = programs.map(|folder| folder.join(SIGNER)).filter(|program| program.is_file());
    if let (Some(program), false) = (beside.or_else(|| on_path(SIGNER)), notebooks.is_empty()) {
        // Without it they still open.
        let _ = Command::new(program).args(notebooks).output();
    }
}

/// Jupyter's program that makes a notebook trusted, which has started when the notebook is there: it takes
/// two seconds to start.
pub struct Signer(Option<Child>);

impl Signer {
    /// Starts it, where Jupyter is installed.
    pub fn start() -> Signer {
        // Without names of files it reads the notebook that it is to sign.
        let start = |program: PathBuf| {
            let mut command = Command::new(program);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            command.env("PYTHONUTF8", "1").spawn().ok()
        };
        Signer(on_path(SIGNER).and_then(start))
    }

    /// Makes a notebook trusted; without it that still opens.
    pub fn sign(mut self, notebook: &Path) {
        if let (Some(signer), Ok(mut notebook)) = (&mut self.0, File::open(notebook)) {
            if let Some(mut to) = signer.stdin.take() {
                let _ = io::copy(&mut notebook, &mut to);
            }
            let _ = signer.wait();
        }
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        if let Some(signer) = &mut self.0 {
            let _ = signer.kill();
            let _ = signer.wait();
        }
    }
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
