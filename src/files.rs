//! Atomic writing of files.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempPath;

use crate::{Error, Result};

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
    let name = path.file_name().ok_or_else(|| missing("this names no file".into()))?.to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(missing(format!("there is no folder {}: make it first", folder.display())));
    }
    let target = without_links(path);
    if target.metadata().is_ok_and(|about| !about.is_file() && !about.is_dir()) {
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
        return refuse(path, io::ErrorKind::IsADirectory, "this is a folder: give the path of a file");
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

/// A number that no other call in a living process on this machine returns.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The bytes of values, in the order of safetensors files.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
