//! Files in the session's folder through which the wrapper ([`crate::compile::wrapper`]) and compilation
//! ahead ([`crate::compile::ahead`]) communicate: the last call of rustc, and the result of a compilation.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use serde::{Deserialize, Serialize};

use crate::compile::compilation::Compilation;
use crate::compile::evcxr_text::source::FILE;
use crate::prelude::session::AHEAD;

/// File in the folder [`AHEAD`] with the last call of rustc.
const CALL: &str = "call";
/// File in the folder [`AHEAD`] with the predicted source as evcxr would write it.
pub const PREDICTED: &str = "predicted";
/// Environment variable of cargo's job server, which a process outside cargo cannot use.
const JOBS: &str = "CARGO_MAKEFLAGS";

/// One call of rustc for a cell.
#[derive(Serialize, Deserialize)]
pub struct Call {
    pub session: String,
    pub rustc: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Source as evcxr wrote it.
    pub source: String,
}

impl Call {
    /// The compilation of another source with the same call.
    pub fn compilation(&self, cells: &Path, source: &str) -> Option<Compilation> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Compilation::new(cells, &self.session, &arguments, source)
    }

    /// Reads the last call in a session.
    pub fn last(session: &Path) -> Option<Call> {
        serde_json::from_slice(&fs::read(session.join(AHEAD).join(CALL)).ok()?).ok()
    }
}

/// Records cargo's call of rustc for a cell, with the source as evcxr wrote it.
pub fn note(session: &str, rustc: &Command) -> io::Result<()> {
    let folder = Path::new(session).join(AHEAD);
    fs::create_dir_all(folder.join("src"))?;
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let call = Call {
        session: session.to_owned(),
        rustc: text(rustc.get_program()),
        arguments: rustc.get_args().map(text).collect(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != JOBS)
            .collect(),
        source: fs::read_to_string(Path::new(session).join(FILE))?,
    };
    // Only the user may read the environment.
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(folder.join(CALL))?;
    file.write_all(&serde_json::to_vec(&call)?)
}

/// Reads the last source that evcxr wrote for rustc in a session.
pub fn written(session: &Path) -> Option<String> {
    Call::last(session).map(|call| call.source)
}

/// Takes the result of the compilation ahead with this name in the compile cache, if there is one. Waits
/// until rustc has ended, and moves its files to where cargo expects them.
pub fn take(session: &Path, name: &OsStr, out: &Path) -> Option<Output> {
    let mut file = File::open(session.join(AHEAD).join(name)).ok()?;
    // The file is locked until rustc has ended.
    file.lock_shared().ok()?;
    let mut content = String::new();
    file.read_to_string(&mut content).ok()?;
    let (status, content) = content.split_once('\n')?;
    let status = ExitStatus::from_raw(status.parse().ok()?);
    // If the order of the variables differed, evcxr would attribute an error to the wrong variable.
    let is_same = || fs::read(session.join(AHEAD).join(PREDICTED)).ok() == fs::read(session.join(FILE)).ok();
    if !status.success() && !is_same() {
        return None;
    }
    let made = made(out);
    let in_place = |text: &str| text.replace(&*made.to_string_lossy(), &out.to_string_lossy());
    for file in fs::read_dir(&made).ok()?.flatten() {
        let (from, to) = (file.path(), out.join(file.file_name()));
        if from.extension().is_some_and(|extension| extension == "d") {
            let sources = in_place(&fs::read_to_string(&from).ok()?);
            fs::write(&from, sources).ok()?;
        }
        fs::rename(from, to).ok()?;
    }
    Some(Output { status, stdout: Vec::new(), stderr: in_place(content).into_bytes() })
}

/// Folder for rustc's files, at the same depth as cargo's: library paths are relative to it.
pub fn made(out: &Path) -> PathBuf {
    out.with_file_name(AHEAD)
}
