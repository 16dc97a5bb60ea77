//! Atomic writing of files.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Writes a file under a temporary name beside it, and renames it when it is complete.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    write_whole_with(path, |temporary| std::fs::write(temporary, content))
}

/// Like [`write_whole`], for a function that writes the file itself.
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
    // Unique in the process too: two threads may write the same file.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{name}.{}-{number}.part", std::process::id()));
    write(&temporary)
        .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            failed(source)
        })
}

/// The bytes of values, in the order of safetensors files.
pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
