//! The folder in which one kernel's cells are compiled.
//!
//! It starts as a copy of the template's folder, made with hard links, so that only the cells themselves
//! are compiled. It is removed when the session ends; the folder of a killed kernel is removed by a later
//! session.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::cache_folder::cache_folder;
use crate::platform::owned::Owned;
use crate::prelude::template::Template;

/// Folder of the sessions in the cache. cargo searches the folders above a package for its workspace, and stops at a
/// folder `target/package`, where it packs packages itself. So a `Cargo.toml` in the user's home has no effect.
pub const FOLDER: &str = "sessions/target/package";

/// File in a session's folder that exists while the prelude is being loaded.
pub const LOADING: &str = "loading";

/// Folder in a session's folder where rustc compiles ahead, and the folder beside cargo's for the results.
pub const AHEAD: &str = "ahead";

/// evcxr's working folder; removed when dropped.
#[derive(Debug)]
pub struct Session(Owned);

impl Session {
    /// Creates an empty folder for this session.
    pub fn new() -> Result<Session, String> {
        Owned::new(&cache_folder()?.join(FOLDER)).map(Session)
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Folder for checkpoints of training, for recovery after the loss of the cells' process.
    pub fn checkpoints(&self) -> PathBuf {
        self.path().join("checkpoints")
    }

    /// Copies the files of an earlier session with this template into the folder, before the prelude is
    /// loaded.
    pub fn fill(&self, template: &Template) -> Result<(), String> {
        if is_fresh(&template.session()) {
            copy(&template.session(), self.path())
                .map_err(|error| format!("{}: {error}", self.path().display()))?;
        }
        // A failure only costs speed.
        let _ = File::create(self.path().join(LOADING));
        Ok(())
    }

    /// Saves the files that were compiled to load the prelude for later sessions, unless an earlier session
    /// has saved them. A failure only costs speed.
    pub fn save(&self, template: &Template) {
        let _ = fs::remove_file(self.path().join(LOADING));
        let saved = template.session();
        if is_fresh(&saved) {
            return;
        }
        // On the same file system, so that it can be renamed. Another process may do the same.
        let Ok(part) = Owned::new(template.state()) else { return };
        let part = part.path().join("session");
        if copy(self.path(), &part).is_ok() {
            let _ = fs::remove_dir_all(&saved);
            let _ = fs::rename(&part, &saved);
        }
    }
}

/// Whether this program's current build has saved a session's folder. cargo calls rustc again for
/// everything when its rustc wrapper has changed.
fn is_fresh(saved: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let program = std::env::current_exe().and_then(|program| written(&program));
    written(saved).is_ok_and(|saved| program.is_ok_and(|program| saved > program))
}

/// Models with a checkpoint: each has a folder with one file.
pub fn checkpointed_models(checkpoints: &Path) -> BTreeSet<String> {
    let folders = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
    let whole = files.filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
    whole.filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned())).collect()
}

/// Copies a folder. Libraries, which never change again, become hard links. Cells, and files that are only
/// needed to recompile the libraries, are not copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_library = [".rlib", ".rmeta"].iter().any(|extension| name.ends_with(extension));
        let is_ours = from.ends_with("incremental") && !name.starts_with("ctx-") || name == AHEAD;
        // A link leads to this program.
        if is_ours || entry.file_type()?.is_symlink() {
            continue;
        } else if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if is_library && fs::hard_link(entry.path(), &target).is_ok() || name.ends_with(".so") {
            continue;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies a file with its modification time, which cargo compares to detect changes.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::File::options().append(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}
