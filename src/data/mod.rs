//! From picture files to batches.

mod affine;
mod augment;
mod dataset;
mod drawn;
mod images;

use std::io::Write;
use std::path::Path;

pub use augment::{Flow, ImageDataGenerator};
pub use dataset::{Dataset, IntoDataset, Samples};
pub use drawn::draw_pictures;
pub use images::Images;

use crate::{Error, Result};

/// Writes a file under a temporary name beside it and renames it when it is whole.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        Error::Io { path: path.to_owned(), source }
    })
}
