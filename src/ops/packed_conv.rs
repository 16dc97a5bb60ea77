//! Packed convolution: NHWC feature maps times packed kernels, as a matrix product.
//!
//! For a 1x1 convolution the input already is the matrix of patches. For other windows the patches of a
//! block of outputs are laid out as rows first (im2row).

use std::iter::StepBy;
use std::ops::{Range, RangeFrom};

use pulp::{Simd, WithSimd};

use super::conv_geometry::ConvGeometry;
use super::epilogue::EpilogueValues;
use super::output_ptr::OutputPtr;
use super::packed_gemm::{LANES, PackedGemm};
use super::partition::{block_count, filter_part_count, filter_subrange, subrange};
use super::scratch::with_buffers;
use super::thread_pool::{parallel_chunks_mut, parallel_for};

/// Maximum number of output pixels per task (192: with fewer, the kernels of wide layers are read from
/// memory too often).
const MAX_TASK_OUTPUTS: usize = 192;
/// Minimum number of filters per task (64: smaller products do not pay for laying out the patches again).
const MIN_FILTERS: usize = 64;

/// Kernels `[filters, channels, height, width]`, packed as panels of filters.
#[derive(Debug)]
pub(super) struct KernelPanels {
    /// Order: panel of [`LANES`] filters, pixel of the window, channel, filter of the panel.
    values: Vec<f32>,
}

impl KernelPanels {
    /// Packs kernels whose number of filters is a multiple of [`LANES`].
    pub(super) fn pack(kernels: &[f32], channels: usize, window_pixels: usize) -> KernelPanels {
        let patch_len = channels * window_pixels;
        let mut values = vec![0f32; kernels.len()];
        parallel_chunks_mut(&mut values, LANES * patch_len, |index, panel| {
            let kernels = &kernels[index * LANES * patch_len..][..LANES * patch_len];
            for (index, lanes) in panel.chunks_exact_mut(LANES).enumerate() {
                let from = index % channels * window_pixels + index / channels;
                lanes
                    .iter_mut()
                    .zip(kernels[from..].iter().step_by(patch_len))
                    .for_each(|(to, from)| *to = *from);
            }
        });
        KernelPanels { values }
    }

    /// Convolves NHWC feature maps. The output and the epilogue's residual are NHWC too.
    pub(super) fn convolve(&self, geometry: &ConvGeometry, x: &[f32], epilogue: EpilogueValues) -> Vec<f32> {
        assert!(geometry.conv.groups == 1);
        let (patch_len, filters) = (geometry.patch_len(), geometry.filters);
        let outputs = geometry.images * geometry.output_pixels();
        let blocks = block_count(outputs, MAX_TASK_OUTPUTS);
        let parts = filter_part_count(blocks).min(filters.div_ceil(MIN_FILTERS));
        let mut result = Vec::with_capacity(outputs * filters);
        let target = OutputPtr(result.as_mut_ptr());
        let arch = pulp::Arch::new();
        parallel_for(blocks * parts, |task| {
            let block = subrange(outputs, blocks, task / parts);
            let filter_range = filter_subrange(filters, parts, task % parts);
            let patch_values = if geometry.is_pointwise() { 0 } else { block.len() * patch_len };
            with_buffers([patch_values, block.len() * filter_range.len()], |[buffer, sums]| {
                let patches = match geometry.is_pointwise() {
                    true => &x[block.start * patch_len..block.end * patch_len],
                    false => im2row(geometry, x, block.clone(), buffer),
                };
                let kernels = &self.values[filter_range.start * patch_len..filter_range.end * patch_len];
                // The next task most likely starts with the same kernels.
                arch.dispatch(PackedGemm {
                    channels: patch_len,
                    kernels,
                    next_kernels: kernels,
                    inputs: patches,
                    outputs: sums,
                });
                let offsets = (block.start * filters + filter_range.start..).step_by(filters);
                let epilogue = epilogue.of_filters(filter_range.clone());
                arch.dispatch(WriteOutputs {
                    sums,
                    filters: filter_range.len(),
                    offsets,
                    epilogue,
                    target: &target,
                });
            });
        });
        // SAFETY: every filter of every output was written.
        unsafe { result.set_len(outputs * filters) };
        result
    }
}

/// Lays out the patches of some outputs as rows, window after window.
fn im2row<'a>(geometry: &ConvGeometry, x: &[f32], outputs: Range<usize>, to: &'a mut [f32]) -> &'a [f32] {
    let ConvGeometry { conv, in_channels: channels, input: [height, width], window, .. } = *geometry;
    // A row of the window is contiguous, unless the window is dilated.
    let (pieces, piece_pixels) = if conv.dilation == 1 { (1, window[1]) } else { (window[1], 1) };
    let (mut image, pixel) =
        (outputs.start / geometry.output_pixels(), outputs.start % geometry.output_pixels());
    let [mut row, mut column] = [pixel / conv.output[1], pixel % conv.output[1]];
    let mut rest = &mut *to;
    for _ in outputs {
        for (y, piece) in (0..window[0]).flat_map(|y| (0..pieces).map(move |piece| (y, piece))) {
            let y = (row * conv.stride + y * conv.dilation).checked_sub(conv.before[0]);
            // Columns of the padded row: the first pixel of the piece, and its pixels inside the image.
            let first = column * conv.stride + piece * conv.dilation;
            let inside = first.max(conv.before[1])..(first + piece_pixels).min(conv.before[1] + width);
            match y.filter(|y| *y < height && !inside.is_empty()) {
                Some(y) => {
                    let from = ((image * height + y) * width + inside.start - conv.before[1]) * channels;
                    let (start, end) = ((inside.start - first) * channels, (inside.end - first) * channels);
                    rest[..start].fill(0.0);
                    copy_short(&mut rest[start..], &x[from..], end - start);
                    rest[end..piece_pixels * channels].fill(0.0);
                }
                None => rest[..piece_pixels * channels].fill(0.0),
            }
            rest = &mut rest[piece_pixels * channels..];
        }
        column += 1;
        if column == conv.output[1] {
            (row, column) = (row + 1, 0);
        }
        if row == conv.output[0] {
            (image, row) = (image + 1, 0);
        }
    }
    to
}

/// Values that a short copy always moves (24: a row of ResNet50's 7x7 window over RGB has 21).
const SHORT: usize = 24;

/// Copies `count` values. A short copy always moves [`SHORT`] values, which is faster than a copy of
/// variable length; so the values after `count` must not have been written yet.
#[inline(always)]
fn copy_short(to: &mut [f32], from: &[f32], count: usize) {
    match (to.first_chunk_mut::<SHORT>(), from.first_chunk::<SHORT>()) {
        (Some(to), Some(from)) if count <= SHORT => *to = *from,
        _ => to[..count].copy_from_slice(&from[..count]),
    }
}

/// Applies the epilogue to a block of sums and writes them to the output.
///
/// A separate pass over the block: the matrix product visits many outputs per filter vector, whose
/// memory is far apart in the output.
struct WriteOutputs<'a> {
    /// Order: output, filter.
    sums: &'a [f32],
    filters: usize,
    /// The offset of each output's first filter in `target`.
    offsets: StepBy<RangeFrom<usize>>,
    /// The epilogue of these filters; its residual is that of all filters.
    epilogue: EpilogueValues<'a>,
    /// The whole output; no other task writes these filters of these outputs.
    target: &'a OutputPtr,
}

impl WithSimd for WriteOutputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let WriteOutputs { sums, filters, offsets, epilogue, target } = self;
        for (sums, offset) in sums.chunks_exact(filters).zip(offsets) {
            let residual = epilogue.residual.map(|residual| &residual[offset..offset + filters]);
            let epilogue = EpilogueValues { residual, ..epilogue };
            for (index, sums) in S::as_simd_f32s(sums).0.iter().enumerate() {
                let filter = index * S::F32_LANES;
                let value = epilogue.apply_to_vector(simd, *sums, filter);
                // SAFETY: the task's own outputs.
                unsafe { target.at(offset + filter).cast::<S::f32s>().write_unaligned(value) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    use crate::ops::channels_last::{to_channels_last, to_nchw};
    use crate::ops::inference_conv::KernelLayout;
    use crate::ops::tests::{flat, random_tensor};
    use crate::ops::{Conv, Epilogue, InferenceConv, PackedKernels};

    /// Compares with the fused NCHW convolution.
    #[test]
    fn outputs_match_the_nchw_convolution() -> Result<()> {
        for ([images, channels, height, width], [filters, window], [stride, dilation, before]) in [
            ([2, 24, 9, 7], [48, 1], [1, 1, 0]),
            ([1, 64, 14, 14], [256, 1], [1, 1, 0]),
            ([3, 40, 8, 5], [16, 1], [2, 1, 0]),
            ([2, 32, 6, 5], [64, 3], [1, 1, 1]),
            ([1, 17, 11, 10], [32, 3], [2, 1, 1]),
            ([1, 8, 12, 13], [16, 5], [1, 2, 3]),
            ([2, 3, 19, 18], [64, 7], [2, 1, 3]),
            ([1, 3, 5, 2], [16, 5], [1, 1, 4]),
            ([2, 1, 6, 7], [32, 3], [1, 1, 1]),
            ([2, 3, 1, 1], [16, 1], [1, 1, 0]),
            ([20, 300, 2, 3], [80, 1], [1, 1, 0]),
        ] {
            let reach = dilation * (window - 1) + 1;
            let output = [height, width].map(|side| (side + 2 * before - reach) / stride + 1);
            let conv = Conv { stride, dilation, groups: 1, before: [before; 2], output, relu: false };
            let x = random_tensor(1, &[images, channels, height, width]);
            let w = random_tensor(2, &[filters, channels, window, window]);
            let shape = [images, filters, output[0], output[1]];
            let bias = random_tensor(3, &[filters]);
            let epilogue = Epilogue {
                bias: Some(bias.clone()),
                affine: Some((random_tensor(4, &[filters]), random_tensor(5, &[filters]))),
                residual: Some(random_tensor(6, &shape)),
                relu: true,
            };
            for epilogue in [
                Epilogue::default(),
                Epilogue { bias: Some(bias), relu: true, ..Epilogue::default() },
                epilogue,
            ] {
                let channels_last_x = to_channels_last(&x)?;
                assert_eq!(KernelLayout::choose(&conv, &w, &channels_last_x), Some(KernelLayout::Panels));
                let kernels = PackedKernels::get_or_pack(&w, None, KernelLayout::Panels, None)?;
                let convolve = |x: &candle_core::Tensor, epilogue: Epilogue| {
                    to_nchw(&InferenceConv { conv, kernels: kernels.clone(), epilogue }.apply(x)?)
                };
                let found = convolve(&channels_last_x, epilogue.clone())?;
                let expected = crate::ops::FusedConv { conv, epilogue: epilogue.clone() }.apply(&x, &w)?;
                assert_eq!(found.dims(), expected.dims());
                let worst = flat(&(&found - &expected)?.abs()?).into_iter().fold(0f32, f32::max);
                assert!(worst < 2e-6 * (channels * window * window) as f32, "{worst}");
                // The output of an image does not depend on the other images of the batch.
                if epilogue.residual.is_none() && images > 1 {
                    let last = to_channels_last(&x.narrow(0, images - 1, 1)?.contiguous()?)?;
                    let alone = flat(&convolve(&last, epilogue)?);
                    let all = flat(&found);
                    assert_eq!(alone, all[all.len() - alone.len()..]);
                }
            }
        }
        Ok(())
    }
}
