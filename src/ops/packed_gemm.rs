//! Matrix product with prepacked kernels: the micro-kernel of inference convolutions.
//!
//! A general matrix product packs both operands on every call (Goto and van de Geijn 2008, "Anatomy of
//! high-performance matrix multiplication"). Here the kernels are packed once for all batches, and the
//! inputs are already laid out in reading order. A row of the inputs is an im2col window
//! (`packed_conv.rs`), or a transformed tile at one tile position (`winograd`).

use std::ops::Range;

use pulp::{Simd, WithSimd};

pub(super) use super::partition::LANES;
use super::partition::subrange;

/// Channels of a block (128: the kernels of a register tile, 32 KiB at most, stay in the L1 cache while
/// all rows pass).
const CHANNEL_BLOCK: usize = 128;
/// Unrolled channels of the inner loop (8: one loop test for eight multiply-adds per sum).
const UNROLL: usize = 8;

/// Whether the processor has 32 vector registers (AVX-512), enough for channel blocks and prefetching.
/// With the 16 registers of AVX2 the compiler would spill a sum to memory, and the loop takes 1.5 times
/// as long.
const fn has_32_registers<S: Simd>() -> bool {
    S::F32_LANES == 16
}

/// Computes `outputs[row][filter]`, the sum over the channels of `inputs[row][channel]` times the
/// kernel.
pub(super) struct PackedGemm<'a> {
    pub(super) channels: usize,
    /// Order: panel of [`LANES`] filters, channel, filter of the panel.
    pub(super) kernels: &'a [f32],
    /// The kernels of the next product, prefetched at the end of this one.
    pub(super) next_kernels: &'a [f32],
    /// Order: row, channel.
    pub(super) inputs: &'a [f32],
    /// Order: row, filter.
    pub(super) outputs: &'a mut [f32],
}

impl WithSimd for PackedGemm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A register tile of sums: vectors of filters times rows, as many as the registers hold.
        match S::F32_LANES {
            16 => self.compute_filters::<S, 4, 6>(simd),
            8 => self.compute_filters::<S, 2, 6>(simd),
            4 => self.compute_filters::<S, 4, 6>(simd),
            _ => self.compute_filters::<S, LANES, 1>(simd),
        }
    }
}

/// A block of channels for the filters of one register tile.
struct ChannelBlock {
    filter: usize,
    channels: Range<usize>,
    /// The first kernels of the next block, to prefetch.
    next_kernels: *const f32,
}

impl PackedGemm<'_> {
    #[inline(always)]
    fn compute_filters<S: Simd, const VECTORS: usize, const MAX_ROWS: usize>(mut self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let whole = self.filters() / width * width;
        for filter in (0..whole).step_by(width) {
            self.compute_channel_blocks::<S, VECTORS, MAX_ROWS>(simd, filter);
        }
        // The remaining filters, one vector at a time; no vector is longer than a panel.
        for filter in (whole..self.filters()).step_by(S::F32_LANES) {
            self.compute_channel_blocks::<S, 1, MAX_ROWS>(simd, filter);
        }
    }

    fn filters(&self) -> usize {
        self.kernels.len() / self.channels
    }

    #[inline(always)]
    fn compute_channel_blocks<S: Simd, const VECTORS: usize, const MAX_ROWS: usize>(
        &mut self,
        simd: S,
        filter: usize,
    ) {
        if !has_32_registers::<S>() {
            let block = ChannelBlock { filter, channels: 0..self.channels, next_kernels: std::ptr::null() };
            return self.compute_row_tiles::<S, VECTORS, MAX_ROWS>(simd, &block);
        }
        let next_filter = filter + VECTORS * S::F32_LANES;
        for start in (0..self.channels).step_by(CHANNEL_BLOCK) {
            let end = self.channels.min(start + CHANNEL_BLOCK);
            let next_kernels = if end < self.channels {
                self.kernels_at(filter, end)
            } else if next_filter < self.filters() {
                self.kernels_at(next_filter, 0)
            } else {
                self.next_kernels.as_ptr()
            };
            self.compute_row_tiles::<S, VECTORS, MAX_ROWS>(
                simd,
                &ChannelBlock { filter, channels: start..end, next_kernels },
            );
        }
    }

    /// The packed kernels from one filter and channel on.
    #[inline(always)]
    fn kernels_at(&self, filter: usize, channel: usize) -> *const f32 {
        let panel = filter / LANES * LANES;
        self.kernels[panel * self.channels + channel * LANES + filter % LANES..].as_ptr()
    }

    #[inline(always)]
    fn compute_row_tiles<S: Simd, const VECTORS: usize, const MAX_ROWS: usize>(
        &mut self,
        simd: S,
        block: &ChannelBlock,
    ) {
        let rows = self.inputs.len() / self.channels;
        let tiles = rows.div_ceil(MAX_ROWS);
        for tile in 0..tiles {
            let rows = subrange(rows, tiles, tile);
            let prefetched = subrange(block.channels.len(), tiles, tile);
            match rows.len() {
                1 => self.compute_tile::<S, VECTORS, 1>(simd, block, rows.start, prefetched),
                2 => self.compute_tile::<S, VECTORS, 2>(simd, block, rows.start, prefetched),
                3 => self.compute_tile::<S, VECTORS, 3>(simd, block, rows.start, prefetched),
                4 => self.compute_tile::<S, VECTORS, 4>(simd, block, rows.start, prefetched),
                5 => self.compute_tile::<S, VECTORS, 5>(simd, block, rows.start, prefetched),
                _ => self.compute_tile::<S, VECTORS, MAX_ROWS>(simd, block, rows.start, prefetched),
            }
        }
    }

    /// Computes one register tile, and prefetches kernels of the next block and the inputs of the next
    /// rows.
    #[inline(always)]
    fn compute_tile<S: Simd, const VECTORS: usize, const ROWS: usize>(
        &mut self,
        simd: S,
        ChannelBlock { filter, channels: block_channels, next_kernels }: &ChannelBlock,
        row: usize,
        prefetched: Range<usize>,
    ) {
        let channels = self.channels;
        let kernels: [_; VECTORS] = std::array::from_fn(|vector| {
            self.kernels_at(filter + vector * S::F32_LANES, block_channels.start)
        });
        let inputs = self.inputs[row * channels..][..ROWS * channels][block_channels.start..].as_ptr();
        // SAFETY: the slice holds `ROWS` rows of `channels` values.
        let row_inputs: [_; ROWS] = std::array::from_fn(|index| unsafe { inputs.add(index * channels) });
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        let mut add = |channel: usize| {
            // SAFETY: each panel holds `channels` rows of `LANES` values, and the vector lies within one.
            let kernels = kernels
                .map(|kernels| unsafe { kernels.add(channel * LANES).cast::<S::f32s>().read_unaligned() });
            for (row_sums, input) in sums.iter_mut().zip(row_inputs) {
                // SAFETY: each row has `channels` values.
                let input = simd.splat_f32s(unsafe { *input.add(channel) });
                for (sum, kernel) in row_sums.iter_mut().zip(kernels) {
                    *sum = simd.mul_add_e_f32s(kernel, input, *sum);
                }
            }
        };
        let unrolled = block_channels.len() / UNROLL * UNROLL;
        let lines_per_step = prefetched.len().div_ceil(block_channels.len().div_ceil(LANES));
        let panels = (VECTORS * S::F32_LANES).div_ceil(LANES);
        let mut next_kernels = next_kernels.wrapping_add(prefetched.start * LANES);
        for channel in (0..unrolled).step_by(UNROLL) {
            if has_32_registers::<S>() && channel.is_multiple_of(LANES) {
                for _ in 0..lines_per_step {
                    (0..panels)
                        .for_each(|panel| prefetch(next_kernels.wrapping_add(panel * channels * LANES)));
                    next_kernels = next_kernels.wrapping_add(LANES);
                }
                row_inputs.iter().for_each(|input| prefetch(input.wrapping_add(ROWS * channels + channel)));
            }
            (0..UNROLL).for_each(|step| add(channel + step));
        }
        (unrolled..block_channels.len()).for_each(add);
        let filters = self.filters();
        let outputs = &mut self.outputs[row * filters..][..ROWS * filters];
        for (row_outputs, row_sums) in outputs.chunks_exact_mut(filters).zip(sums) {
            let (row_outputs, _) = S::as_mut_simd_f32s(&mut row_outputs[*filter..][..VECTORS * S::F32_LANES]);
            match block_channels.start {
                0 => row_outputs.copy_from_slice(&row_sums),
                _ => row_outputs
                    .iter_mut()
                    .zip(row_sums)
                    .for_each(|(output, sum)| *output = simd.add_f32s(*output, sum)),
            }
        }
    }
}

/// Prefetches a cache line. The address may be invalid.
#[inline(always)]
fn prefetch(address: *const f32) {
    // SAFETY: SSE is part of x86-64, and a prefetch of an invalid address has no effect.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, Scalar128b, Scalar256b, Scalar512b};

    use super::*;
    use crate::ops::tests::{flat, random_tensor};

    /// Vectors of every length, also those that this processor emulates.
    #[test]
    fn sums_agree_for_every_vector_length() {
        for [channels, filters, rows] in [[40, 80, 13], [3, 16, 6], [300, 112, 2], [9, 32, 1], [17, 16, 3]] {
            let inputs = flat(&random_tensor(1, &[rows, channels]));
            let kernels = flat(&random_tensor(2, &[filters / LANES, channels, LANES]));
            let sum = |index: usize| {
                let (row, filter) = (index / filters, index % filters);
                (0..channels).fold(0f64, |sum, channel| {
                    let kernel = kernels[(filter / LANES * channels + channel) * LANES + filter % LANES];
                    sum + f64::from(kernel) * f64::from(inputs[row * channels + channel])
                })
            };
            let expected: Vec<f64> = (0..rows * filters).map(sum).collect();
            let dispatches: [fn(PackedGemm); 5] = [
                |products| Scalar.vectorize(products),
                |products| Scalar128b.vectorize(products),
                |products| Scalar256b.vectorize(products),
                |products| Scalar512b.vectorize(products),
                |products| pulp::Arch::new().dispatch(products),
            ];
            for (index, dispatch) in dispatches.iter().enumerate() {
                let mut outputs = vec![f32::NAN; rows * filters];
                dispatch(PackedGemm {
                    channels,
                    kernels: &kernels,
                    next_kernels: &[],
                    inputs: &inputs,
                    outputs: &mut outputs,
                });
                let is_close = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() < 1e-5;
                assert!(outputs.iter().zip(&expected).all(is_close), "vector type {index}: {outputs:?}");
            }
        }
    }
}
