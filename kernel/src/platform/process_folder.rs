//! Folders that belong to one running process.
//!
//! A folder has a random name and a lock file beside it, which its process holds locked. If no process
//! holds the lock, a killed process has left the folder. This also works if several machines or containers
//! share a cache, where process ids are meaningless.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// A folder that is removed when this is dropped, or by [`sweep`] after its process has ended.
#[derive(Debug)]
pub struct ProcessFolder {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl ProcessFolder {
    /// Creates an empty folder in `parent`, after removing the folders of ended processes.
    pub fn new(parent: &Path) -> Result<ProcessFolder, String> {
        let complain = |error: io::Error| format!("{}: {error}", parent.display());
        fs::create_dir_all(parent).map_err(complain)?;
        sweep(parent);
        loop {
            let name = tempfile::Builder::new().prefix("").rand_bytes(12).suffix(".lock").tempfile_in(parent);
            let (lock, lock_path) = name.map_err(complain)?.keep().map_err(|error| complain(error.error))?;
            lock.lock().map_err(complain)?;
            // A sweep of another process may have locked and removed the file first.
            if is_at(&lock, &lock_path) {
                let path = lock_path.with_extension("");
                fs::create_dir(&path).map_err(complain)?;
                return Ok(ProcessFolder { path, lock_path, _lock: lock });
            }
        }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ProcessFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Whether `path` still refers to the open file.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |metadata: io::Result<fs::Metadata>| metadata.map(|file| (file.dev(), file.ino())).ok();
    number(file.metadata()).is_some_and(|open| number(fs::metadata(path)) == Some(open))
}

/// Removes the folders of ended processes.
pub fn sweep(parent: &Path) {
    for path in fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(&path) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(path);
        }
    }
}

/// Locks a file, and waits while another process holds the lock. Calls `waiting` before it waits.
pub fn lock(path: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => waiting(),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_a_locked_file_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let held = ProcessFolder::new(parent.path()).unwrap();
        let left = parent.path().join("left");
        fs::create_dir(&left).unwrap();
        fs::write(parent.path().join("left.lock"), "").unwrap();
        let second = ProcessFolder::new(parent.path()).unwrap();
        assert_ne!(held.path(), second.path());
        assert!(held.path().is_dir() && !left.exists());
        let path = held.path().to_owned();
        drop(held);
        assert!(!path.exists());
        sweep(parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "the second and its lock");
    }
}
