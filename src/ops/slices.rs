//! The plain numbers below a tensor on the CPU.

use std::mem::MaybeUninit;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

use super::crew::{all, each_piece};

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

/// Tasks write to places of their own.
pub(super) struct Shared<T = f32>(pub(super) *mut T);

// SAFETY: who uses it promises that no two tasks write to one place.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// Inside the allocation.
    pub(super) unsafe fn at(&self, offset: usize) -> *mut T {
        unsafe { self.0.add(offset) }
    }
}

/// So many numbers, made in parallel, a chunk of some at a time, without writing zeros first.
pub(crate) fn made<I: ExactSizeIterator<Item = f32>>(
    count: usize,
    chunk: usize,
    values: impl Fn(usize, Range<usize>) -> I + Sync,
) -> Vec<f32> {
    let mut made = Vec::with_capacity(count);
    each_piece(&mut made.spare_capacity_mut()[..count], chunk, |at, part| {
        let start = at * chunk;
        let values = values(at, start..start + part.len());
        assert_eq!(values.len(), part.len());
        part.iter_mut().zip(values).for_each(|(place, value)| _ = place.write(value));
    });
    // SAFETY: every chunk was written, value by value.
    unsafe { made.set_len(count) };
    made
}

/// The numbers of `[N, C, …]`, made in parallel, a channel at a time so that it stays in the cache,
/// and what was found of each: `of` a channel gives that, and then the values of a map that lies so.
pub(crate) fn made_by_channel<T: Send, I: ExactSizeIterator<Item = f32>, F: Fn(Range<usize>) -> I>(
    count: usize,
    channels: usize,
    pixels: usize,
    of: impl Fn(usize) -> (T, F) + Sync,
) -> (Vec<f32>, Vec<T>) {
    assert!(count.is_multiple_of((channels * pixels).max(1)), "whole maps of every channel");
    let mut made: Vec<f32> = Vec::with_capacity(count);
    let target = Shared(made.as_mut_ptr());
    let of_channel = |channel| {
        let (found, values) = of(channel);
        for start in (channel * pixels..count).step_by((channels * pixels).max(1)) {
            let values = values(start..start + pixels);
            assert_eq!(values.len(), pixels);
            // SAFETY: the map lies within the vector's capacity, and no other task writes there.
            let map = unsafe { std::slice::from_raw_parts_mut(target.at(start).cast(), pixels) };
            map.iter_mut().zip(values).for_each(|(place, value)| _ = MaybeUninit::write(place, value));
        }
        found
    };
    let found = all(channels, of_channel);
    // SAFETY: every map of every channel was written, value by value.
    unsafe { made.set_len(count) };
    (made, found)
}

/// The sum of `f` over pairs of values, in sixteen lanes: quick, and more exact than one sum.
#[inline(always)]
pub(crate) fn sum_of(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let [sum] = sums_of(a, b, |a, b| [f(a, b)]);
    sum
}

/// Several sums at once.
#[inline(always)]
pub(crate) fn sums_of<const N: usize>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
    const LANES: usize = 16;
    let mut lanes = [[0f32; LANES]; N];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = [0f32; N];
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        let values = f(*a, *b);
        (0..N).for_each(|sum| rest[sum] += values[sum]);
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            let values = f(a[lane], b[lane]);
            (0..N).for_each(|sum| lanes[sum][lane] += values[sum]);
        }
    }
    std::array::from_fn(|sum| lanes[sum].iter().sum::<f32>() + rest[sum])
}

/// The sum of each channel of `[N, C, …]`.
pub(crate) fn channel_sums(x: &Tensor) -> Result<Tensor> {
    let (channels, pixels) = (x.dim(1)?, x.dims()[2..].iter().product::<usize>());
    let values = values(x)?;
    let sums: Vec<f32> = all(channels, |channel| {
        let maps = values.chunks(pixels).skip(channel).step_by(channels);
        maps.map(|map| sum_of(map, map, |value, _| value)).sum()
    });
    Tensor::from_vec(sums, channels, x.device())
}
