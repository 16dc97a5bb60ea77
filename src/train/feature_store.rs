//! Storage for cached features: in memory up to a limit, then in a file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use candle_core::{DType, Tensor};

use crate::files::little_endian;
use crate::{Error, Result};

/// Creates a temporary file that no other process can open. Its random name is removed at once; the system frees the file
/// when the last handle is closed.
pub(super) fn scratch_file() -> Result<File> {
    // Unlike `tempfile::tempfile`, readable by its owner only.
    let file = tempfile::NamedTempFile::new().map_err(Error::io(std::env::temp_dir()))?;
    Ok(file.into_file())
}

/// A store of `f32` tensors. The first ones are held in memory, the rest in a file.
pub(super) struct FeatureStore {
    /// Bytes still free in memory.
    free: usize,
    file: Option<File>,
    /// Length of the file in bytes.
    length: u64,
}

/// A tensor in a [`FeatureStore`].
pub(super) enum Stored {
    Memory(Tensor),
    File { begin: u64, shape: Vec<usize> },
}

impl FeatureStore {
    pub(super) fn new(memory: usize) -> FeatureStore {
        FeatureStore { free: memory, file: None, length: 0 }
    }

    pub(super) fn put(&mut self, tensor: Tensor) -> Result<Stored> {
        let bytes = tensor.elem_count() * size_of::<f32>();
        if bytes <= self.free {
            self.free -= bytes;
            return Ok(Stored::Memory(tensor));
        }
        // Tensors vary in size. Once one does not fit, all later ones go to the file, even if they would
        // fit.
        self.free = 0;
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(scratch_file()?),
        };
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let content = little_endian(&values);
        let begin = self.length;
        file.write_all_at(&content, begin).map_err(Error::io(std::env::temp_dir()))?;
        self.length += content.len() as u64;
        Ok(Stored::File { begin, shape: tensor.dims().to_vec() })
    }

    pub(super) fn get(&self, stored: &Stored) -> Result<Tensor> {
        match (stored, &self.file) {
            (Stored::Memory(tensor), _) => Ok(tensor.clone()),
            (Stored::File { begin, shape }, Some(file)) => {
                let mut content = vec![0; shape.iter().product::<usize>() * size_of::<f32>()];
                file.read_exact_at(&mut content, *begin).map_err(Error::io("the file of features"))?;
                Ok(Tensor::from_raw_buffer(&content, DType::F32, shape, &crate::device())?)
            }
            (Stored::File { .. }, None) => unreachable!("what is in a file was put there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_beyond_the_memory_limit_are_read_from_the_file() -> Result<()> {
        let tensors: Vec<Tensor> = [3, 2, 4, 1]
            .iter()
            .map(|rows| crate::random_uniform((*rows, 5), -1.0, 1.0))
            .collect::<Result<_>>()?;
        for (memory, in_memory) in [(0, 0), (80, 1), (1 << 20, 4)] {
            let mut store = FeatureStore::new(memory);
            let stored: Vec<Stored> =
                tensors.iter().map(|tensor| store.put(tensor.clone())).collect::<Result<_>>()?;
            assert_eq!(stored.iter().filter(|stored| matches!(stored, Stored::Memory(_))).count(), in_memory);
            for (stored, tensor) in stored.iter().zip(&tensors) {
                assert_eq!(store.get(stored)?.to_vec2::<f32>()?, tensor.to_vec2::<f32>()?);
            }
        }
        Ok(())
    }

    #[test]
    fn scratch_file_leaves_no_name() -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let metadata = scratch_file()?.metadata().unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (0, 0o600));
        Ok(())
    }
}
