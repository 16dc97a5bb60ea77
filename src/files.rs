//! Atomic writing of files.

use std::fs::Permissions;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::check::check;
use crate::{Error, Result};

/// Largest number of a temporary folder with the same name. Each user of a machine has one.
const MAX_FOLDERS: usize = 10_000;

/// Writes a file under a temporary name beside it, and renames it when it is complete.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    write_whole_with(path, |temporary| std::fs::write(temporary, content))
}

/// Like [`write_whole`], for a function that writes the file itself.
///
/// A link stays, and the file that it names is replaced. A device or pipe, such as `/dev/null`, is written directly.
pub(crate) fn write_whole_with(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let missing = |problem: String| failed(io::Error::new(io::ErrorKind::NotFound, problem));
    if path.as_os_str().is_empty() {
        return Err(Error::Argument {
            name: "path",
            expected: "a file".into(),
            found: "an empty path".into(),
        });
    }
    let name = path.file_name().ok_or_else(|| missing("the path has no file name".into()))?.to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(missing(format!("the folder {} does not exist: create it first", folder.display())));
    }
    let target = without_links(path);
    if target.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return write_device(&target, write).map_err(failed);
    }
    // Two threads may write the same file. Without `persist`, the temporary file is removed.
    let temporary = target.with_file_name(format!(".{name}.{}.part", unique()));
    let temporary = TempPath::try_from_path(temporary).map_err(failed)?;
    write(&temporary)
        .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
        .and_then(|()| Ok(temporary.persist(&target)?))
        .map_err(failed)
}

/// Writes a device or pipe. `write` writes a temporary file, because it may replace the file at its path.
fn write_device(device: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let private = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("headstart-").permissions(private).tempdir()?;
    let file = folder.path().join("content");
    write(&file)?;
    let mut device = std::fs::File::options().write(true).open(device)?;
    io::copy(&mut std::fs::File::open(&file)?, &mut device)?;
    folder.close()
}

/// The path of the file that a link names, which can be missing; other paths are returned as they are.
fn without_links(path: &Path) -> PathBuf {
    let Ok(named) = std::fs::read_link(path) else { return path.to_owned() };
    path.canonicalize().unwrap_or_else(|_| path.parent().unwrap_or(Path::new("")).join(named))
}

/// Checks that a file can be written at a path, before the work whose result it will hold. Its folders need not exist.
///
/// # Errors
/// [`Error::Io`] if the path is a folder, or no file can be created in its nearest existing folder.
pub(crate) fn check_writable(path: &Path) -> Result<()> {
    let refuse = |path: &Path, kind, problem: &str| Err(Error::io(path)(io::Error::new(kind, problem)));
    if path.is_dir() {
        return refuse(path, io::ErrorKind::IsADirectory, "this is a folder: pass the path of a file");
    }
    let path = &without_links(path);
    // A device or pipe is written directly.
    if path.exists() && !path.is_file() {
        return Ok(());
    }
    let folder = path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return refuse(folder, io::ErrorKind::NotADirectory, "this is a file, not a folder");
    }
    let probe = folder.join(format!(".headstart-{}.part", unique()));
    std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe)).map_err(Error::io(folder))
}

/// Like [`check_writable`], for files in a folder, which may be missing yet.
pub(crate) fn check_writable_folder(folder: &Path) -> Result<()> {
    check_writable(&folder.join(".test"))
}

/// A folder of this user in the system's temporary folder: `headstart-NAME`. Where that one belongs to another user, it
/// is `headstart-NAME-2` and so on. It is created if it is missing, and keeps its content for the next session.
///
/// ```
/// use headstart::prelude::*;
/// let folder = temporary_folder("example")?;
/// std::fs::write(folder.join("numbers.txt"), "1 2 3").unwrap();
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if `name` has other characters than letters, digits, `-` and `_`; [`Error::Io`] if the folder
/// cannot be created or written.
pub fn temporary_folder(name: &str) -> Result<PathBuf> {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
    check("name", format!("{name:?}"), fits, "letters, digits, - and _")?;
    own_folder(&std::env::temp_dir().join(format!("headstart-{name}")))
}

/// The folder at a path, or at the first path with a number after it that this user can have.
fn own_folder(path: &Path) -> Result<PathBuf> {
    for number in 1..=MAX_FOLDERS {
        let mut folder = path.as_os_str().to_owned();
        if number > 1 {
            folder.push(format!("-{number}"));
        }
        let folder = PathBuf::from(folder);
        if is_own(&folder).map_err(Error::io(&folder))? {
            return Ok(folder);
        }
    }
    let problem =
        format!("this and {MAX_FOLDERS} numbered folders belong to other users: remove some of them");
    Err(Error::io(path)(io::Error::new(io::ErrorKind::AlreadyExists, problem)))
}

/// Creates a folder if it is missing. Whether it belongs to this user: then a file in it has the same owner.
fn is_own(folder: &Path) -> io::Result<bool> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let about = folder.symlink_metadata()?;
    if !about.is_dir() {
        return Ok(false);
    }
    let probe = folder.join(format!(".{}", unique()));
    let owner = match std::fs::File::create_new(&probe) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        file => file?.metadata()?.uid(),
    };
    std::fs::remove_file(&probe)?;
    Ok(owner == about.uid())
}

/// Text that no other call returns. Processes of two containers or machines can have the same id and write to the same
/// folder, so part of it is random. A forked process has the same random state, but another id.
fn unique() -> String {
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(()))
}

/// The bytes of values, in the order of safetensors files.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_user_has_a_folder_of_a_name() -> Result<()> {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for _ in 0..2 {
            assert_eq!(own_folder(&path("a"))?, path("a"));
        }
        assert_eq!(std::fs::read_dir(path("a")).unwrap().count(), 0);
        // Not folders.
        std::fs::write(path("b"), "").unwrap();
        std::os::unix::fs::symlink(path("a"), path("b-2")).unwrap();
        assert_eq!(own_folder(&path("b"))?, path("b-3"));
        // A folder of another user, if these tests may make one.
        if std::os::unix::fs::chown(path("a"), Some(12_345), None).is_ok() {
            assert_eq!(own_folder(&path("a"))?, path("a-2"));
        }
        let missing = own_folder(&path("none").join("c")).unwrap_err().to_string();
        assert!(missing.contains("none/c"), "{missing}");
        for name in ["", "a/b", "..", "a b"] {
            let problem = temporary_folder(name).unwrap_err().to_string();
            assert!(problem.contains("letters, digits"), "{problem}");
        }
        Ok(())
    }

    #[test]
    fn temporary_names_do_not_depend_on_the_process_alone() {
        let random = || unique().split_once('-').unwrap().1.to_owned();
        let names: BTreeSet<String> = (0..100).map(|_| random()).collect();
        assert_eq!(names.len(), 100);
        // A counter would repeat in a process with the same id.
        assert!(names.iter().all(|name| name.len() == 16), "{names:?}");
    }
}
