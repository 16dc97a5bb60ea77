//! From picture files to batches.

mod affine;
mod augment;
mod dataset;
mod drawn;
mod files;
mod images;

use std::path::Path;

pub use affine::FillMode;
pub use augment::{Flow, ImageDataGenerator, Shift, Zoom};
pub use dataset::{Batch, Dataset, IntoDataset, Samples};
pub use drawn::{CATS_AND_DOGS, SOURCES, Subject, draw_pictures};
pub use files::PictureFiles;
pub use images::Images;

use crate::{Error, Result};

/// Writes a file under a temporary name beside it and renames it when it is whole.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    write_whole_with(path, |temporary| std::fs::write(temporary, content))
}

/// The same for what writes a file of its own.
pub(crate) fn write_whole_with(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    write(&temporary)
        .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            Error::Io { path: path.to_owned(), source }
        })
}
