//! The folder of cached features: a file and a lock for each key, and a size limit.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::feature_file::FeatureFile;
use crate::notes::note;
use crate::{Error, Result, check_interrupt};

/// Environment variable with the folder, for programs that do not set [`Fit::cache_folder`](super::Fit::cache_folder).
const FOLDER_VARIABLE: &str = "HEADSTART_FEATURE_CACHE";
/// Environment variable with the size limit of the folder, in bytes.
const BYTES_VARIABLE: &str = "HEADSTART_FEATURE_CACHE_BYTES";
/// Default size limit of a folder (20 GiB).
const DEFAULT_BYTES: u64 = 20 << 30;
/// Interval at which a waiting process tries the lock again (50 ms).
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Age at which a temporary or lock file is removed (1 day). Younger ones may be in use.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const EXTENSION: &str = "safetensors";

/// The features of a key.
pub(super) enum Entry {
    Found(FeatureFile),
    /// This process is to compute them. The lock is missing on a file system without locks.
    Missing {
        lock: Option<File>,
    },
}

/// A folder with features.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FeatureFolder {
    folder: PathBuf,
    max_bytes: u64,
}

impl FeatureFolder {
    /// The folder from the options, otherwise from the environment; `None` if neither is set.
    ///
    /// # Errors
    /// [`Error::Argument`] if the size in the environment is not a number.
    pub(super) fn new(folder: Option<&Path>, max_bytes: Option<u64>) -> Result<Option<FeatureFolder>> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(folder) =
            folder.map(Path::to_owned).or_else(|| variable(FOLDER_VARIABLE).map(PathBuf::from))
        else {
            return Ok(None);
        };
        let max_bytes = match (max_bytes, variable(BYTES_VARIABLE)) {
            (Some(bytes), _) => bytes,
            (None, None) => DEFAULT_BYTES,
            (None, Some(text)) => text.to_string_lossy().trim().parse().map_err(|_| Error::Argument {
                name: BYTES_VARIABLE,
                expected: "a number of bytes".into(),
                found: text.to_string_lossy().into_owned(),
            })?,
        };
        Ok(Some(FeatureFolder { folder, max_bytes }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The file of a key.
    pub(super) fn file(&self, key: &str) -> PathBuf {
        self.folder.join(key).with_extension(EXTENSION)
    }

    /// Finds the features of a key, in a folder that is created if it is missing. Waits while another process computes
    /// them.
    pub(super) fn entry(&self, key: &str) -> Result<Entry> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let path = self.file(key);
        if let Some(found) = Self::found(&path)? {
            return Ok(Entry::Found(found));
        }
        let lock = self.lock(key)?;
        // Another process may have written them while this one waited.
        Ok(Self::found(&path)?.map_or(Entry::Missing { lock }, Entry::Found))
    }

    /// Opens the file of a key. A damaged file is removed and counts as missing.
    pub(super) fn found(path: &Path) -> Result<Option<FeatureFile>> {
        match FeatureFile::open(path) {
            Ok(found) => {
                // Records the time of last use, for `evict`. It fails if another user owns the file.
                let _ = found.file.set_modified(SystemTime::now());
                Ok(Some(found))
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(problem) => {
                note(format_args!("{problem}; the features are computed again"));
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Waits until no other process computes the features of this key. The lock ends when the file is closed, also if
    /// the process is killed.
    fn lock(&self, key: &str) -> Result<Option<File>> {
        let path = self.folder.join(format!(".{key}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        let mut is_announced = false;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    // For `evict`.
                    let _ = file.set_modified(SystemTime::now());
                    return Ok(Some(file));
                }
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut is_announced, true) {
                println!("waiting for another process that computes the same features");
            }
            check_interrupt()?;
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Removes the least recently used files until the folder is within its size limit. The file in use stays. A process
    /// that has a removed file open can still read it.
    pub(super) fn evict(&self, in_use: &Path) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in entries {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            let Ok(time) = metadata.modified() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_temporary = name.starts_with('.') && (name.ends_with(".part") || name.ends_with(".lock"));
            if is_temporary && time.elapsed().is_ok_and(|age| age > MAX_AGE) && !is_locked(&path) {
                let _ = std::fs::remove_file(&path);
            }
            let is_features = path.extension().is_some_and(|extension| extension == EXTENSION)
                && name.len() == 64 + 1 + EXTENSION.len();
            if is_features {
                files.push((time, metadata.len(), path));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files.iter().filter(|(_, _, path)| path != in_use) {
            if total <= self.max_bytes {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                total -= length;
            }
        }
    }
}

/// Whether a process holds the lock of a file.
fn is_locked(path: &Path) -> bool {
    let file = File::options().write(true).open(path);
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
impl FeatureFolder {
    pub(super) fn of(folder: &Path, max_bytes: u64) -> FeatureFolder {
        FeatureFolder { folder: folder.to_owned(), max_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_locks_that_no_process_holds_are_removed() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let cache = FeatureFolder::of(folder.path(), 0);
        let lock = |key: &str| folder.path().join(format!(".{key}.lock"));
        let old = SystemTime::now() - 2 * MAX_AGE;
        let held = cache.lock("held")?.unwrap();
        held.set_modified(old).unwrap();
        for key in ["old", "young"] {
            std::fs::write(lock(key), "").unwrap();
        }
        File::options().write(true).open(lock("old")).unwrap().set_modified(old).unwrap();
        cache.evict(Path::new(""));
        assert!(lock("held").exists() && lock("young").exists() && !lock("old").exists());
        drop(held);
        // A lock that is taken again is young again.
        cache.lock("held")?.unwrap();
        cache.evict(Path::new(""));
        assert!(lock("held").exists());
        Ok(())
    }
}
