//! The plain numbers below a tensor on the CPU.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// The values of a contiguous tensor of `f32`, in a forward pass.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("expected contiguous f32 values, found {layout:?} of another type"),
    }
}

/// The values of a contiguous tensor of `f32`, in a backward pass.
pub(crate) fn values(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + Sync + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Values { storage, range: start..end }),
        _ => bail!("expected contiguous f32 values on the CPU, found {layout:?} of {:?}", tensor.dtype()),
    }
}

/// A tensor's storage, read-locked, and the part of it that is the tensor's.
struct Values<S> {
    storage: S,
    range: Range<usize>,
}

impl<S: Deref<Target = Storage>> Deref for Values<S> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("looked at when it was made"),
        }
    }
}

/// So many numbers, made in parallel, a chunk of some at a time, without writing zeros first.
pub(crate) fn made<I: ExactSizeIterator<Item = f32>>(
    count: usize,
    chunk: usize,
    values: impl Fn(usize, Range<usize>) -> I + Sync,
) -> Vec<f32> {
    let mut made = Vec::with_capacity(count);
    let parts = made.spare_capacity_mut()[..count].par_chunks_mut(chunk.max(1));
    parts.enumerate().for_each(|(at, part)| {
        let start = at * chunk;
        let values = values(at, start..start + part.len());
        assert_eq!(values.len(), part.len());
        part.iter_mut().zip(values).for_each(|(place, value)| _ = place.write(value));
    });
    // SAFETY: every chunk was written, value by value.
    unsafe { made.set_len(count) };
    made
}

/// The sum of `f` over pairs of values, in sixteen lanes: quick, and more exact than one sum.
#[inline(always)]
pub(crate) fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| f(*a, *b)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The sum of each channel of `[N, C, …]`.
pub(crate) fn channel_sums(x: &Tensor) -> Result<Tensor> {
    let (channels, pixels) = (x.dim(1)?, x.dims()[2..].iter().product::<usize>());
    let values = values(x)?;
    let sums: Vec<f32> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let maps = values.chunks(pixels).skip(channel).step_by(channels);
            maps.map(|map| sum_of(map, map, |value, _| value)).sum()
        })
        .collect();
    Tensor::from_vec(sums, channels, x.device())
}
