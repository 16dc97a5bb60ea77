//! Reads uncompressed entries of ZIP archives, as PyTorch and Keras write them.
//!
//! The central directory is located by its recorded offset, with ZIP64 records if present
//! (APPNOTE.TXT 4.3.14 to 4.3.16).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use candle_core::{Result, bail};

const END: &[u8] = b"PK\x05\x06";
const END64_LOCATOR: &[u8] = b"PK\x06\x07";
const END64: &[u8] = b"PK\x06\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL_ENTRY: &[u8] = b"PK\x03\x04";
/// Length of the end record without its comment, in bytes.
const END_BYTES: usize = 22;
/// Maximum length of the archive comment, in bytes: it follows the end record.
const MAX_COMMENT: usize = 0xFFFF;
/// Maximum size of a directory (64 MiB: about a million entries).
const MAX_DIRECTORY: u64 = 64 << 20;

#[cfg(test)]
thread_local! {
    /// Number of archives that this thread has opened.
    pub(super) static OPENED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// An open archive.
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Offset of its local header.
    header: u64,
    size: u64,
    is_stored: bool,
}

impl Archive {
    /// Reads the directory of an archive.
    pub(super) fn open(path: &Path) -> Result<Archive> {
        #[cfg(test)]
        OPENED.set(OPENED.get() + 1);
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let reach = length.min((END_BYTES + MAX_COMMENT + 20) as u64);
        let tail = bytes(&file, length - reach, reach)?;
        let at = (0..tail.len().saturating_sub(END_BYTES - 1)).rev().find(|at| tail[*at..].starts_with(END));
        let Some(at) = at else { bail!("the archive is cut off: it has no directory") };
        let end = &tail[at..];
        let (mut size, mut offset) = (u64::from(number32(end, 12)?), u64::from(number32(end, 16)?));
        let locator = at.checked_sub(20).map(|at| &tail[at..]);
        if let Some(locator) = locator.filter(|locator| locator.starts_with(END64_LOCATOR)) {
            let end64 = bytes(&file, number64(locator, 8)?, 56)?;
            if !end64.starts_with(END64) {
                bail!("the archive's ZIP64 record is missing");
            }
            (size, offset) = (number64(&end64, 40)?, number64(&end64, 48)?);
        }
        if size > MAX_DIRECTORY {
            bail!("the archive's directory has {size} bytes");
        }
        let directory = bytes(&file, offset, size)?;
        Ok(Archive { entries: entries(&directory)?, file })
    }

    /// Names of the entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Content of an entry.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let Some(entry) = self.entries.get(name) else { bail!("the archive has no `{name}`") };
        if !entry.is_stored {
            bail!("`{name}` is compressed; write the archive without compression");
        }
        let header = bytes(&self.file, entry.header, 30)?;
        if !header.starts_with(LOCAL_ENTRY) {
            bail!("the offset of `{name}` in the archive is wrong");
        }
        let skipped = 30 + u64::from(number16(&header, 26)?) + u64::from(number16(&header, 28)?);
        bytes(&self.file, entry.header.saturating_add(skipped), entry.size)
    }
}

fn entries(mut directory: &[u8]) -> Result<HashMap<String, Entry>> {
    let mut entries = HashMap::new();
    while directory.starts_with(DIRECTORY_ENTRY) {
        let flags = number16(directory, 8)?;
        let method = number16(directory, 10)?;
        let [name, extra, comment] =
            [28, 30, 32].map(|at| number16(directory, at).map(usize::from).unwrap_or(usize::MAX / 4));
        let whole = 46 + name + extra + comment;
        let Some(record) = directory.get(..whole) else { bail!("the archive's directory is cut off") };
        let mut size = u64::from(number32(record, 24)?);
        let packed = number32(record, 20)?;
        let mut header = u64::from(number32(record, 42)?);
        if let Some(mut large) = zip64(&record[46 + name..46 + name + extra]) {
            // The values are in this order; each is present only if its 32-bit field overflowed.
            let mut next = || {
                let value = number64(large, 0)?;
                large = &large[8..];
                Ok::<u64, candle_core::Error>(value)
            };
            if size == u64::from(u32::MAX) {
                size = next()?;
            }
            if packed == u32::MAX {
                next()?;
            }
            if header == u64::from(u32::MAX) {
                header = next()?;
            }
        }
        let is_stored = method == 0 && flags & 1 == 0;
        let name = String::from_utf8_lossy(&record[46..46 + name]).into_owned();
        entries.insert(name, Entry { header, size, is_stored });
        directory = &directory[whole..];
    }
    Ok(entries)
}

/// The ZIP64 field among an entry's extra fields.
fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    while let (Ok(id), Ok(size)) = (number16(extra, 0), number16(extra, 2)) {
        let field = extra.get(4..4 + usize::from(size))?;
        if id == 1 {
            return Some(field);
        }
        extra = &extra[4 + usize::from(size)..];
    }
    None
}

/// Reads `size` bytes at an offset. An error if the file is shorter.
fn bytes(file: &File, offset: u64, size: u64) -> Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if offset.checked_add(size).is_none_or(|end| end > length) {
        bail!("the archive is cut off: expected {size} bytes from byte {offset}, found {length} in all");
    }
    let mut content = vec![0; size as usize];
    file.read_exact_at(&mut content, offset)?;
    Ok(content)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    match bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()) {
        Some(number) => Ok(number),
        None => bail!("the archive's directory is cut off"),
    }
}

fn number16(bytes: &[u8], at: usize) -> Result<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Result<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn number64(bytes: &[u8], at: usize) -> Result<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}
