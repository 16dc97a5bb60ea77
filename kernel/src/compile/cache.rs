//! The compile cache: rustc's results for the sources of cells, for this session and later ones.
//!
//! A notebook that runs again compiles the same sources in the same order, and every session compiles the
//! same initial cells. An entry is a folder with rustc's output files, its messages and checksums.

use std::fs::{self, File};
use std::hash::Hash;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use crate::compile::compilation::{Compilation, SESSION};
use crate::compile::evcxr_text::source::{CRATE_NAME, FILE};
use crate::platform::fingerprint::Fingerprint;
use crate::platform::rustc_wrapper;
use crate::prelude::session::LOADING;

/// File in an entry: rustc's exit status. Its modification time is the time of the last use.
const STATUS: &str = "status";
/// File in an entry: rustc's standard error.
const STDERR: &str = "stderr";
/// File in an entry: the checksums of its files, one per line.
const SUMS: &str = "sums";
/// Begin of the code of an error in the source, in rustc's messages.
const ERROR_CODE: &str = "\"code\":{\"code\":\"E";
/// Maximum size of the cache, in bytes. The least recently used entries are removed first.
const MAX_BYTES: u64 = 256 << 20;
/// Smallest size of a file on disk, in bytes.
const BLOCK_BYTES: u64 = 4 << 10;
/// Name prefix of an incomplete entry, which is renamed when it is complete.
const PART: &str = ".part-";
/// Age (one hour) from which an incomplete entry counts as left by a killed process.
const MAX_PART_AGE: Duration = Duration::from_hours(1);

/// Removes the least recently used entries beyond the maximum size, and stale incomplete entries.
pub fn shrink() {
    if let Some(folder) = rustc_wrapper::folder() {
        remove_parts(Path::new(&folder));
        remove_beyond(MAX_BYTES, Path::new(&folder));
    }
}

fn remove_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|part| part.modified());
        let is_old = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > MAX_PART_AGE));
        if is_old && entry.file_name().to_string_lossy().starts_with(PART) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn remove_beyond(most: u64, folder: &Path) {
    let cells = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let used = |cell: &PathBuf| fs::metadata(cell.join(STATUS)).and_then(|status| status.modified()).ok();
    // An entry that another session is writing has no status yet.
    let mut cells: Vec<_> = cells.filter_map(|cell| Some((used(&cell)?, cell))).collect();
    cells.sort_unstable();
    let mut bytes = 0;
    for (_, cell) in cells.iter().rev() {
        let files =
            fs::read_dir(cell).into_iter().flatten().flatten().filter_map(|file| file.metadata().ok());
        bytes += files.map(|file| file.len().next_multiple_of(BLOCK_BYTES)).sum::<u64>();
        if bytes > most {
            let _ = fs::remove_dir_all(cell);
        }
    }
}

impl Compilation {
    /// Copies the files of the cached result to rustc's output folder, and returns its status and messages.
    pub fn recall(&self) -> io::Result<(i32, String)> {
        let status = fs::read_to_string(self.entry.join(STATUS))?;
        let status = status.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        if fs::read_to_string(self.entry.join(SUMS)).ok() != Some(sums(&self.entry)?) {
            // The entry is damaged: compile the cell again.
            fs::remove_dir_all(&self.entry)?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        for entry in fs::read_dir(&self.entry)? {
            let (from, to) = {
                let entry = entry?;
                (entry.path(), self.out().join(entry.file_name()))
            };
            match from.extension().and_then(|extension| extension.to_str()) {
                Some("d") => fs::write(to, self.with_session(&from)?)?,
                Some(_) => fs::copy(from, to).map(drop)?,
                None => {}
            }
        }
        let messages = self.with_session(&self.entry.join(STDERR))?;
        let _ = File::options().append(true).open(self.entry.join(STATUS))?.set_modified(SystemTime::now());
        Ok((status, messages))
    }

    fn with_session(&self, file: &Path) -> io::Result<String> {
        Ok(fs::read_to_string(file)?.replace(SESSION, &self.session))
    }

    /// Whether this is one of the initial cells of every session.
    fn is_first(&self) -> bool {
        Path::new(&self.session).join(LOADING).exists()
    }

    /// Adds rustc's files (`libctx.so`, `ctx.d`) and messages to the cache. The entry is complete or
    /// absent.
    pub fn add(&self, status: ExitStatus, stderr: &str) -> io::Result<()> {
        let sources = format!("{CRATE_NAME}.d");
        let read = fs::read_to_string(self.out().join(&sources)).unwrap_or_default();
        // The dependencies of a failed compilation are unknown. Other causes of a failure, such as a missing linker or
        // a full disk, may be gone in the next session.
        let is_error = || status.code() == Some(1) && stderr.contains(ERROR_CODE);
        let is_known = if status.success() { stands_alone(&read) } else { self.is_first() && is_error() };
        if !is_known || self.has_dependencies {
            return Ok(());
        }
        let folder = self.entry.parent().unwrap_or(&self.entry);
        fs::create_dir_all(folder)?;
        let part = tempfile::Builder::new().prefix(PART).tempdir_in(folder)?;
        let in_part = |name: &str| part.path().join(name);
        if status.success() {
            let library =
                format!("{}{CRATE_NAME}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
            fs::copy(self.out().join(&library), in_part(&library))?;
            fs::write(in_part(&sources), read.replace(&self.session, SESSION))?;
        }
        fs::write(in_part(STDERR), stderr.replace(&self.session, SESSION))?;
        fs::write(in_part(STATUS), status.code().unwrap_or(1).to_string())?;
        fs::write(in_part(SUMS), sums(part.path())?)?;
        fs::rename(part.path(), &self.entry)
    }
}

/// Checksums of an entry's files, which detect damage such as truncated files.
fn sums(folder: &Path) -> io::Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == SUMS {
            continue;
        }
        let mut hasher = Fingerprint::default();
        fs::read(entry.path())?.hash(&mut hasher);
        lines.push(format!("{} {}\n", hasher.digits(), entry.file_name().to_string_lossy()));
    }
    lines.sort_unstable();
    Ok(lines.concat())
}

/// Whether rustc's dependency file shows that a cell depends only on its source. Other dependencies are
/// files, such as `include_str!` reads, and environment variables.
fn stands_alone(noted: &str) -> bool {
    let rules = noted.lines().filter_map(|line| line.split_once(": "));
    !noted.lines().any(|line| line.starts_with("# env-dep:"))
        && rules.map(|(_, sources)| sources.trim()).all(|sources| sources == FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::process::Command;

    /// A session's folder with a source, and the compilation that cargo would request.
    fn cell(template: &Path, session: &Path, source: &str) -> Compilation {
        fs::create_dir_all(session.join("src")).unwrap();
        fs::write(session.join("src/lib.rs"), source).unwrap();
        let out = session.to_str().unwrap();
        let arguments = ["--crate-name", CRATE_NAME, "--out-dir", out].map(OsString::from);
        Compilation::of_session(&template.join("cells"), session.to_str().unwrap(), &arguments).unwrap()
    }

    #[test]
    fn a_later_session_gets_the_cached_result_for_the_same_source() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let first = cell(folder.path(), &one, "fn f() {}");
        let said = "made $0/libctx.so".replace("$0", one.to_str().unwrap());
        let rustc = format!("echo bytes > libctx.so; echo $PWD > ctx.d; echo '{said}' >&2");
        let status = Command::new("sh").args(["-c", &rustc]).current_dir(&one).status().unwrap();
        assert!(first.recall().is_err());
        first.add(status, &said).unwrap();
        let second = cell(folder.path(), &two, "fn f() {}");
        assert_eq!(second.recall().unwrap().0, 0);
        assert_eq!(fs::read_to_string(two.join("libctx.so")).unwrap(), "bytes\n");
        assert_eq!(fs::read_to_string(two.join("ctx.d")).unwrap().trim(), two.to_str().unwrap());
        assert!(cell(folder.path(), &two, "fn g() {}").recall().is_err());
    }

    #[test]
    fn a_cell_that_depends_on_more_than_its_source_is_not_cached() {
        assert!(stands_alone("/s/libctx.so: src/lib.rs\n\n/s/ctx.d: src/lib.rs\n\nsrc/lib.rs:\n"));
        assert!(!stands_alone("/s/libctx.so: src/lib.rs /s/src/words.txt\n\nsrc/lib.rs:\n"));
        assert!(!stands_alone("/s/libctx.so: src/lib.rs\n\nsrc/lib.rs:\n\n# env-dep:HOME=/root\n"));
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("one");
        let cell = cell(folder.path(), &session, "fn f() { g() }");
        let failed = Command::new("false").status().unwrap();
        cell.add(failed, "error").unwrap();
        assert!(cell.recall().is_err(), "a user's cell that failed");
        File::create(session.join(LOADING)).unwrap();
        cell.add(failed, "error: linker `cc` not found").unwrap();
        assert!(cell.recall().is_err(), "a failure with another cause than the source");
        cell.add(failed, r#"{"message":"error","code":{"code":"E0277","explanation":null}}"#).unwrap();
        assert_eq!(cell.recall().unwrap().0, 1, "one with which each session begins");
    }

    #[test]
    fn the_most_recently_used_entries_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cells = ["b", "c", "a"].map(|name| folder.path().join(name));
        for (age, cell) in cells.iter().enumerate() {
            fs::create_dir(cell).unwrap();
            let used = SystemTime::now() - std::time::Duration::from_secs(60 - age as u64);
            fs::write(cell.join("libctx.so"), vec![0; 5000]).unwrap();
            let status = File::create(cell.join(STATUS)).unwrap();
            status.set_modified(used).unwrap();
        }
        remove_beyond(4 * BLOCK_BYTES, folder.path());
        assert_eq!(cells.map(|cell| cell.exists()), [false, true, true]);
    }

    #[test]
    fn a_damaged_entry_is_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("one");
        let cell = cell(folder.path(), &session, "fn f() {}");
        let rustc = ["-c", "echo bytes > libctx.so; echo > ctx.d"];
        let status = Command::new("sh").args(rustc).current_dir(&session).status().unwrap();
        cell.add(status, "").unwrap();
        assert_eq!(cell.recall().unwrap().0, 0);
        fs::write(cell.entry.join("libctx.so"), "byte").unwrap();
        assert!(cell.recall().is_err() && !cell.is_cached());
        cell.add(status, "").unwrap();
        assert_eq!(cell.recall().unwrap().0, 0);
    }
}
