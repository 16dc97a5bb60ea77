//! Storage of the inputs of samples.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::decode::{Decoding, decode_all};
use crate::{Error, Result};

/// The storage of the inputs.
#[derive(Clone, Debug)]
pub(super) enum Inputs {
    Memory(Tensor),
    /// A file of `f32` values, row by row, the offset of the first one, and the shape of one row.
    File(Arc<File>, u64, Vec<usize>),
    /// Image files, and how they are decoded.
    Images(Arc<Vec<PathBuf>>, Decoding),
}

impl Inputs {
    /// Returns a range of rows.
    pub(super) fn narrow(&self, start: usize, length: usize) -> Result<Inputs> {
        Ok(match self {
            Inputs::Memory(x) => Inputs::Memory(x.narrow(0, start, length)?),
            Inputs::Images(paths, decoding) => {
                Inputs::Images(Arc::new(paths[start..start + length].to_vec()), *decoding)
            }
            Inputs::File(..) => unreachable!("features are not split"),
        })
    }

    /// Returns the rows with these indices, as `f32`.
    pub(super) fn pick(&self, numbers: &[u32]) -> Result<Tensor> {
        match self {
            Inputs::Memory(x) => {
                let numbers = Tensor::new(numbers, x.device())?;
                Ok(x.contiguous()?.index_select(&numbers, 0)?.to_dtype(DType::F32)?)
            }
            Inputs::Images(paths, decoding) => {
                let paths: Vec<PathBuf> = numbers.iter().map(|at| paths[*at as usize].clone()).collect();
                let values = decode_all(&paths, *decoding)?.concat();
                Ok(Tensor::from_vec(
                    values,
                    (paths.len(), 3, decoding.size.0, decoding.size.1),
                    &crate::device(),
                )?)
            }
            Inputs::File(file, begin, shape) => {
                let row = shape.iter().product::<usize>() * size_of::<f32>();
                let mut bytes = vec![0; row * numbers.len()];
                for (number, bytes) in numbers.iter().zip(bytes.chunks_mut(row)) {
                    let read = file.read_exact_at(bytes, begin + u64::from(*number) * row as u64);
                    read.map_err(Error::io("the file of features"))?;
                }
                let shape = [&[numbers.len()], shape.as_slice()].concat();
                Ok(Tensor::from_raw_buffer(&bytes, DType::F32, &shape, &crate::device())?)
            }
        }
    }
}
