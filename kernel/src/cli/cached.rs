//! The `headstart cache` command: lists and removes Headstart's files in the user's cache.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::jupyter::standby;
use crate::platform::cache_folder::cache_folder;
use crate::platform::process_folder;
use crate::prelude::session;

/// A group of cached files with the same purpose.
struct Kind {
    name: &'static str,
    folders: &'static [&'static str],
    about: &'static str,
    /// Whether `clear` without names removes this kind.
    by_default: bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "preludes",
        folders: &["templates", "state", "parts"],
        about: "compiled preludes and cells; rebuilt when a kernel starts",
        by_default: true,
    },
    Kind {
        name: "builds",
        folders: &["target", "sources"],
        about: "cargo's files of preludes that were compiled here",
        by_default: true,
    },
    Kind {
        name: "sessions",
        folders: &["sessions", "standby"],
        about: "of running kernels",
        by_default: true,
    },
    Kind {
        name: "jupyter",
        folders: &["jupyter"],
        about: "the JupyterLab that `headstart lab` installed",
        by_default: true,
    },
    Kind {
        name: "weights",
        folders: &["weights"],
        about: "pretrained weights that were downloaded",
        by_default: false,
    },
];

/// Action on the cache.
#[derive(clap::Subcommand)]
pub enum Action {
    /// Remove everything but the weights, or the named kinds.
    Clear {
        /// Names from the list that `headstart cache` shows.
        names: Vec<String>,
    },
}

impl Kind {
    fn paths(&self, cache: &Path) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| cache.join(folder)).collect()
    }
}

/// Lists the cache's contents with their sizes, or removes them.
pub fn run(action: Option<&Action>) -> Result<(), String> {
    let cache = cache_folder()?;
    match action {
        None => show(&cache),
        Some(Action::Clear { names }) => {
            standby::dismiss()?;
            for name in clear(&cache, names)? {
                println!("removed {name}");
            }
        }
    }
    Ok(())
}

fn show(cache: &Path) {
    println!("{}", cache.display());
    for kind in &KINDS {
        let size: u64 = kind.paths(cache).iter().map(|path| size(path)).sum();
        println!("{:<10} {:>9}  {}", kind.name, megabytes(size), kind.about);
    }
    println!("`headstart cache clear NAME` removes one; without a name, all but the weights");
}

/// Removes the named kinds, or the default ones, and returns the names of the kinds that had files.
pub fn clear(cache: &Path, names: &[String]) -> Result<Vec<&'static str>, String> {
    let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!(
            "unknown kind of cached files: expected one of {}, found {unknown:?}",
            known.join(", ")
        ));
    }
    check_unused(cache)?;
    let mut cleared = Vec::new();
    for kind in &KINDS {
        let is_asked = match names.is_empty() {
            true => kind.by_default,
            false => names.iter().any(|name| name == kind.name),
        };
        for path in kind.paths(cache).into_iter().filter(|path| is_asked && path.exists()) {
            remove(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            if cleared.last() != Some(&kind.name) {
                cleared.push(kind.name);
            }
        }
    }
    Ok(cleared)
}

/// Removes a folder. If it is a link to a folder, for example on another disk, that one stays, and is empty.
fn remove(path: &Path) -> io::Result<()> {
    if !path.is_symlink() {
        return fs::remove_dir_all(path);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Returns an error if kernels are running: they use the preludes in the cache.
pub fn check_unused(cache: &Path) -> Result<(), String> {
    match running(&cache.join(session::FOLDER)) {
        0 => Ok(()),
        running => Err(format!(
            "{running} running kernels of Headstart use the cache\n\
             hint: shut them down first"
        )),
    }
}

/// Counts the sessions whose process is running.
fn running(sessions: &Path) -> usize {
    process_folder::sweep(sessions);
    let entries = fs::read_dir(sessions).into_iter().flatten().flatten();
    let locks = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "lock"));
    locks.filter(|lock| File::open(lock.path()).is_ok_and(|lock| lock.try_lock().is_err())).count()
}

/// Size of a folder's files in bytes. A file with several hard links counts once.
fn size(path: &Path) -> u64 {
    fn add(path: &Path, seen: &mut std::collections::HashSet<(u64, u64)>) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(file) = fs::symlink_metadata(path) else { return 0 };
        if file.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            return entries.map(|entry| add(&entry.path(), seen)).sum();
        }
        if seen.insert((file.dev(), file.ino())) { file.len() } else { 0 }
    }
    // A link to a folder on another disk counts like the folder.
    add(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), &mut Default::default())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::process_folder::ProcessFolder;

    #[test]
    fn weights_are_removed_only_by_name() {
        let cache = tempfile::tempdir().unwrap();
        for folder in ["templates", "weights"] {
            fs::create_dir_all(cache.path().join(folder)).unwrap();
            fs::write(cache.path().join(folder).join("a"), [0; 1000]).unwrap();
        }
        assert_eq!(megabytes(size(cache.path())), "0.0 MB");
        assert_eq!(size(cache.path()), 2000);
        assert_eq!(clear(cache.path(), &[]).unwrap(), ["preludes"]);
        assert!(cache.path().join("weights/a").is_file());
        assert_eq!(clear(cache.path(), &["weights".into()]).unwrap(), ["weights"]);
        let problem = clear(cache.path(), &["weight".into()]).unwrap_err();
        assert!(problem.contains("\"weight\"") && problem.contains("preludes"), "{problem}");
    }

    #[test]
    fn a_folder_on_another_disk_is_emptied_and_its_link_stays() {
        let [cache, disk] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        fs::create_dir(disk.path().join("a")).unwrap();
        fs::write(disk.path().join("a/b"), [0; 1000]).unwrap();
        let link = cache.path().join("weights");
        std::os::unix::fs::symlink(disk.path(), &link).unwrap();
        assert_eq!(size(&link), 1000);
        assert_eq!(clear(cache.path(), &["weights".into()]).unwrap(), ["weights"]);
        assert!(link.is_symlink() && link.is_dir());
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_cleared_under_a_running_kernel() {
        let cache = tempfile::tempdir().unwrap();
        let session = ProcessFolder::new(&cache.path().join(session::FOLDER)).unwrap();
        assert!(clear(cache.path(), &[]).unwrap_err().starts_with("1 running kernels"));
        drop(session);
        assert_eq!(clear(cache.path(), &[]).unwrap(), ["sessions"]);
    }
}
