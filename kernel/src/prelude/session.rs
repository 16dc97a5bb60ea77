//! The folder in which one kernel's cells are compiled.
//!
//! It begins as a copy, by hard links, of the template's, so that nothing but the cells themselves
//! is ever compiled, and goes when the session ends. What a killed kernel left is swept up later.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::cache_folder::cache_folder;
use crate::platform::owned::Owned;
use crate::prelude::template::Template;

/// A file in a session's folder while the prelude is being loaded.
pub const LOADING: &str = "loading";

/// The folder in a session's folder where rustc compiles ahead, and the one beside cargo's for what it makes there.
pub const AHEAD: &str = "ahead";

/// A folder for evcxr to work in, removed when dropped.
#[derive(Debug)]
pub struct Session(Owned);

impl Session {
    /// Makes an empty folder for this session alone.
    pub fn new() -> Result<Session, String> {
        Owned::new(&cache_folder()?.join("sessions")).map(Session)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where training leaves weights that can be recovered when the cells' process is lost.
    pub fn checkpoints(&self) -> PathBuf {
        self.path().join("checkpoints")
    }

    /// Copies the files of an earlier session of this template into the folder. The prelude is loaded next.
    pub fn fill(&self, template: &Template) -> Result<(), String> {
        if is_fresh(&template.session()) {
            copy(&template.session(), self.path())
                .map_err(|error| format!("{}: {error}", self.path().display()))?;
        }
        // Only speed depends on it.
        let _ = File::create(self.path().join(LOADING));
        Ok(())
    }

    /// Saves the files that were compiled to load the prelude for later sessions, unless an earlier one has done so.
    /// Only speed depends on it.
    pub fn save(&self, template: &Template) {
        let _ = fs::remove_file(self.path().join(LOADING));
        let saved = template.session();
        if is_fresh(&saved) {
            return;
        }
        // Beside it, so that it can be renamed; another process may do the same.
        let Ok(part) = Owned::new(template.state()) else { return };
        let part = part.path().join("session");
        if copy(self.path(), &part).is_ok() {
            let _ = fs::remove_dir_all(&saved);
            let _ = fs::rename(&part, &saved);
        }
    }
}

/// Whether a session's folder was saved by this very program: cargo asks rustc for everything again when
/// the program that stands between them is another.
fn is_fresh(saved: &Path) -> bool {
    let written = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let program = std::env::current_exe().and_then(|program| written(&program));
    written(saved).is_ok_and(|saved| program.is_ok_and(|program| saved > program))
}

/// The models of which training left weights: one file in a folder for each.
pub fn checkpointed_models(checkpoints: &Path) -> BTreeSet<String> {
    let folders = fs::read_dir(checkpoints).into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
    let whole = files.filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
    whole.filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned())).collect()
}

/// Copies a folder: libraries, which nothing writes to again, by hard links; cells, and what would
/// be needed to compile the libraries again, not at all.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_library = [".rlib", ".rmeta"].iter().any(|extension| name.ends_with(extension));
        if from.ends_with("incremental") && !name.starts_with("ctx-") || name == AHEAD {
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

/// Copies a file with its time, by which cargo knows that it is up to date.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::File::options().append(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}
