//! Features in a `.safetensors` file with a checksum, written row by row.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::{Error, Result, check_interrupt};

/// Size of the blocks in which a file is read (1 MiB).
const PIECE: usize = 1 << 20;
/// Largest length of a header (1 MiB). A header of these files has less than 1 kB.
const MAX_HEADER: u64 = 1 << 20;
/// Name of the tensor, as in the file.
const FEATURES: &str = "features";

/// Writes the rows of one tensor. The checksum is part of the header, so it is written last.
pub(super) struct FeatureWriter {
    file: BufWriter<File>,
    shape: Vec<usize>,
    checksum: u32,
    written: usize,
}

impl FeatureWriter {
    /// Writes the header of a file for features of this shape, `[N, …]`.
    pub(super) fn new(file: File, shape: Vec<usize>) -> std::io::Result<FeatureWriter> {
        let mut file = BufWriter::new(file);
        file.write_all(&header(&shape, 0))?;
        Ok(FeatureWriter { file, shape, checksum: 0, written: 0 })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.written += bytes.len();
        self.file.write_all(bytes)
    }

    /// Writes the checksum.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        let expected = self.shape.iter().product::<usize>() * size_of::<f32>();
        if self.written != expected {
            let found = self.written;
            return Err(std::io::Error::other(format!(
                "expected {expected} bytes of features, found {found}"
            )));
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(&self.shape, self.checksum))?;
        self.file.flush()
    }
}

/// The header, preceded by its length. The length does not depend on the checksum.
fn header(shape: &[usize], checksum: u32) -> Vec<u8> {
    let bytes = shape.iter().product::<usize>() * size_of::<f32>();
    let mut text = json!({
        "__metadata__": {"crc32c": format!("{checksum:08x}")},
        FEATURES: {"dtype": "F32", "shape": shape, "data_offsets": [0, bytes]},
    })
    .to_string();
    // Aligns the values.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Metadata,
    features: Features,
}

#[derive(Deserialize)]
struct Metadata {
    crc32c: String,
}

#[derive(Deserialize)]
struct Features {
    shape: Vec<usize>,
}

/// A file of features whose checksum was verified.
pub(super) struct FeatureFile {
    pub(super) file: File,
    /// Offset of the first value, in bytes.
    pub(super) begin: u64,
    /// Shape, `[N, …]`.
    pub(super) shape: Vec<usize>,
}

impl FeatureFile {
    /// Reads the header and verifies size and checksum.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; [`Error::Io`] if the file cannot be read or is damaged.
    pub(super) fn open(path: &Path) -> Result<FeatureFile> {
        let io = |error| Error::io(path)(error);
        let refuse = |found: &str| {
            let text = format!("expected cached features, found {found}");
            Error::io(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
        };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length + 8 > size {
            return Err(refuse("no header"));
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).map_err(io)?;
        let header: Header = serde_json::from_slice(&text).map_err(|error| refuse(&error.to_string()))?;
        let begin = length + 8;
        let values = header.features.shape.iter().try_fold(1u64, |all, side| all.checked_mul(*side as u64));
        if values.and_then(|values| values.checked_mul(4)?.checked_add(begin)) != Some(size) {
            return Err(refuse("a file of another size"));
        }
        let (mut checksum, mut piece) = (0, vec![0; PIECE]);
        loop {
            check_interrupt()?;
            match file.read(&mut piece).map_err(io)? {
                0 => break,
                length => checksum = crc32c::crc32c_append(checksum, &piece[..length]),
            }
        }
        if u32::from_str_radix(&header.metadata.crc32c, 16) != Ok(checksum) {
            return Err(refuse("a wrong checksum"));
        }
        Ok(FeatureFile { file, begin, shape: header.features.shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_safetensors_and_damage_is_found() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let values: Vec<f32> = (0..6).map(|at| at as f32 / 7.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut writer = FeatureWriter::new(File::create(&path).unwrap(), vec![3, 2]).unwrap();
        bytes.chunks(8).for_each(|row| writer.write(row).unwrap());
        writer.finish().unwrap();
        let read = candle_core::safetensors::load(&path, &candle_core::Device::Cpu)?;
        assert_eq!(read[FEATURES].dims(), [3, 2]);
        assert_eq!(read[FEATURES].flatten_all()?.to_vec1::<f32>()?, values);
        assert_eq!(FeatureFile::open(&path)?.shape, [3, 2]);
        let content = std::fs::read(&path).unwrap();
        let mut changed = content.clone();
        *changed.last_mut().unwrap() ^= 1;
        for (content, problem) in [
            (&changed[..], "checksum"),
            (&content[..content.len() - 4], "another size"),
            (&content[..20], "no header"),
            (&content[..4], "fill"),
        ] {
            std::fs::write(&path, content).unwrap();
            let found = FeatureFile::open(&path).err().expect("damaged").to_string();
            assert!(found.contains(problem), "{found}");
        }
        let mut short = FeatureWriter::new(File::create(&path).unwrap(), vec![3, 2]).unwrap();
        short.write(&bytes[..8]).unwrap();
        assert!(short.finish().is_err());
        Ok(())
    }
}
