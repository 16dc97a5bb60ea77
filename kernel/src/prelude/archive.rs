//! A template as a release contains it: a tar archive compressed with Zstandard.

use std::fs::File;
use std::io;
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

use crate::prelude::inventory;

/// Extension of an archive, after the template's name.
pub const EXTENSION: &str = ".tar.zst";

/// Unpacks a template into an empty folder and checks its contents.
pub fn unpack(archive: &Path, folder: &Path) -> Result<(), String> {
    let complain = |error: &dyn std::fmt::Display| format!("{}: {error}", archive.display());
    let file = io::BufReader::new(File::open(archive).map_err(|error| complain(&error))?);
    let decoder = StreamingDecoder::new(file).map_err(|error| complain(&error))?;
    let mut tar = tar::Archive::new(decoder);
    // rustc does not compare the files' times.
    tar.set_preserve_mtime(false);
    tar.unpack(folder).map_err(|error| complain(&error))?;
    inventory::check_contents(folder).map_err(|problem| complain(&problem))
}

/// Writes a template as a tar archive, which a release compresses afterwards.
pub fn pack(folder: &Path, to: impl io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_dir_all(".", folder)?;
    tar.into_inner()?.flush()
}
