//! Winograd convolution with 3x3 kernels, F(4x4, 3x3): a quarter of the multiplications (Lavin and Gray
//! 2015, "Fast algorithms for convolutional neural networks").
//!
//! 1. Each tile of 4x4 outputs reads 6x6 inputs, which are transformed to 36 tile positions.
//! 2. At each tile position, the transformed inputs `[tile, channel]` are multiplied by the transformed
//!    kernels `[channel, filter]`.
//! 3. The 36 sums of each tile are transformed to its 4x4 outputs.
//!
//! Frozen kernels are transformed once and cached; trainable ones are transformed for each batch. The input
//! gradient is a Winograd convolution of the output gradient with transposed kernels. The kernel gradient is
//! one matrix product per tile position. Its operands are the transformed inputs, and the output gradient
//! under the adjoint of the output transform.

mod kernel_transform;
mod tile_transform;
mod training;
mod transform;

use super::Conv;
use super::epilogue::EpilogueValues;
use super::output_ptr::OutputPtr;
use super::packed_gemm::{LANES, PackedGemm};
use super::partition::{block_count, filter_part_count, filter_subrange, subrange};
use super::scratch::with_buffers;
use super::thread_pool::parallel_for;
use kernel_transform::KernelTransform;
use tile_transform::{InputTransform, OutputTransform, TileGrid};
use transform::{POSITIONS, position_stride};

/// Maximum number of tiles per task (72: whole register tiles of six rows, and the transformed values fit
/// an L2 cache).
const MAX_TILES: usize = 72;
/// Sum of channels and filters up to which a task takes half as many tiles (256: small kernels leave
/// room for the tiles in a faster cache).
const FEW_CHANNELS: usize = 256;
/// Minimum number of filters per task (64: each task transforms the inputs again).
const MIN_FILTERS: usize = 64;
/// Channels per task of the kernel transform (64: enough work for one task).
const TASK_CHANNELS: usize = 64;
/// Shortest side of an output, in pixels (7: in shorter ones most of a tile lies outside).
const MIN_OUTPUT_SIDE: usize = 7;

/// Kernels `[filters, channels, 3, 3]`, transformed.
#[derive(Debug)]
pub(super) struct WinogradKernels {
    filters: usize,
    channels: usize,
    /// Order: tile position, panel of [`LANES`] filters, channel, filter of the panel.
    values: Vec<f32>,
}

impl WinogradKernels {
    /// Transforms kernels `[filters, channels, 3, 3]`, or, if `transposed`, kernels
    /// `[channels, filters, 3, 3]` rotated by 180 degrees.
    pub(super) fn pack(
        kernels: &[f32],
        [filters, channels]: [usize; 2],
        transposed: bool,
    ) -> WinogradKernels {
        let mut values = Vec::with_capacity(POSITIONS * channels * filters);
        let target = OutputPtr(values.as_mut_ptr());
        let arch = pulp::Arch::new();
        let parts = channels.div_ceil(TASK_CHANNELS);
        parallel_for(filters / LANES * parts, |task| {
            let first_filter = task / parts * LANES;
            let channel_range = subrange(channels, parts, task % parts);
            arch.dispatch(KernelTransform {
                kernels,
                transposed,
                filters,
                channels,
                first_filter,
                channel_range,
                target: &target,
            });
        });
        // SAFETY: every channel of every panel was written.
        unsafe { values.set_len(POSITIONS * channels * filters) };
        WinogradKernels { filters, channels, values }
    }

    /// Convolves NHWC feature maps. The output and the epilogue's residual are NHWC too.
    pub(super) fn convolve(
        &self,
        conv: &Conv,
        x: &[f32],
        [images, height, width]: [usize; 3],
        epilogue: EpilogueValues,
    ) -> Vec<f32> {
        let WinogradKernels { filters, channels, .. } = *self;
        let grid = TileGrid::new(conv, [height, width]);
        let output_pixels = conv.output[0] * conv.output[1];
        let total_tiles = images * grid.tiles_per_image();
        let blocks = block_count(
            total_tiles,
            if channels + filters <= FEW_CHANNELS { MAX_TILES / 2 } else { MAX_TILES },
        );
        let parts = filter_part_count(blocks).min(filters.div_ceil(MIN_FILTERS));
        let mut result = Vec::with_capacity(images * filters * output_pixels);
        let target = OutputPtr(result.as_mut_ptr());
        let arch = pulp::Arch::new();
        parallel_for(blocks * parts, |task| {
            let tiles = subrange(total_tiles, blocks, task / parts);
            let filter_range = filter_subrange(filters, parts, task % parts);
            let (count, width) = (tiles.len(), filter_range.len());
            let (input_len, sums_len) = (position_stride(count, channels), position_stride(count, width));
            with_buffers([POSITIONS * input_len, POSITIONS * sums_len], |[inputs, sums]| {
                arch.dispatch(InputTransform {
                    grid: &grid,
                    x,
                    tiles: tiles.clone(),
                    channels,
                    target: inputs,
                });
                let inputs = inputs.chunks_exact(input_len).map(|inputs| &inputs[..count * channels]);
                for (position, (inputs, sums)) in inputs.zip(sums.chunks_exact_mut(sums_len)).enumerate() {
                    let kernels =
                        |position| &self.values[(position * filters + filter_range.start) * channels..];
                    // After the last position the next task starts with the first.
                    let next_kernels = kernels((position + 1) % POSITIONS);
                    let kernels = &kernels(position)[..width * channels];
                    arch.dispatch(PackedGemm { channels, kernels, next_kernels, inputs, outputs: sums });
                }
                let (grid, target) = (&grid, &target);
                arch.dispatch(OutputTransform {
                    grid,
                    sums,
                    tiles,
                    filters: filter_range,
                    total_filters: filters,
                    epilogue,
                    target,
                });
            });
        });
        // SAFETY: every tile of every feature map was written.
        unsafe { result.set_len(images * filters * output_pixels) };
        result
    }
}

/// Whether Winograd's algorithm applies to a convolution of these sizes. The number of tiles is not
/// checked.
pub(super) fn is_applicable(conv: &Conv, window: [usize; 2], counts: [usize; 2]) -> bool {
    let whole_panels = |count: usize| count >= 2 * LANES && count.is_multiple_of(LANES);
    let is_large = conv.output.iter().all(|side| *side >= MIN_OUTPUT_SIDE);
    let is_plain_3x3 = (conv.stride, conv.dilation, conv.groups) == (1, 1, 1) && window == [3, 3];
    is_plain_3x3 && counts.into_iter().all(whole_panels) && is_large
}

#[cfg(test)]
mod tests {
    use candle_core::{Result, Tensor};

    use super::*;
    use crate::ops::channels_last::{FeatureMaps, to_channels_last};
    use crate::ops::tests::{flat, random_tensor};
    use crate::ops::{Epilogue, InferenceConv, KernelLayout, PackedKernels, to_nchw};

    /// The convolution with ReLU as a direct sum in double precision.
    fn exact(conv: &Conv, x: &Tensor, w: &Tensor, b: &Tensor) -> Vec<f64> {
        let ([images, channels, height, width], [filters, ..]) = (dims(x), dims(w));
        let (x, w, b) = (flat(x), flat(w), flat(b));
        let mut sums = Vec::new();
        let output = |image, filter: usize, row: usize, column: usize| {
            let mut sum = f64::from(b[filter]);
            for channel in 0..channels {
                for (index, kernel) in w[(filter * channels + channel) * 9..][..9].iter().enumerate() {
                    let y = (row + index / 3).wrapping_sub(conv.before[0]);
                    let x_at = (column + index % 3).wrapping_sub(conv.before[1]);
                    if y < height && x_at < width {
                        let pixel = x[((image * channels + channel) * height + y) * width + x_at];
                        sum += f64::from(pixel) * f64::from(*kernel);
                    }
                }
            }
            sum.max(0.0)
        };
        for image in 0..images {
            for filter in 0..filters {
                for row in 0..conv.output[0] {
                    sums.extend((0..conv.output[1]).map(|column| output(image, filter, row, column)));
                }
            }
        }
        sums
    }

    fn dims(t: &Tensor) -> [usize; 4] {
        t.dims4().unwrap().into()
    }

    #[test]
    fn outputs_match_the_direct_sum() -> Result<()> {
        let mut trainable_cases = 0;
        for ([images, channels, height, width], filters, before) in [
            ([2, 32, 9, 14], 48, [1, 1]),
            ([1, 64, 10, 10], 32, [0, 0]),
            ([3, 128, 19, 18], 192, [1, 1]),
            ([1, 32, 11, 40], 64, [2, 0]),
            ([5, 96, 7, 7], 32, [1, 1]),
        ] {
            let side = |axis: usize, side: usize| if before[axis] > 0 { side } else { side - 2 };
            let output = [side(0, height), side(1, width)];
            let conv = Conv { stride: 1, dilation: 1, groups: 1, before, output, relu: true };
            let x = random_tensor(1, &[images, channels, height, width]);
            let (w, b) = (random_tensor(2, &[filters, channels, 3, 3]), random_tensor(3, &[filters]));
            assert_eq!(KernelLayout::choose(&conv, &w, &x), Some(KernelLayout::Winograd));
            let epilogue = Epilogue { bias: Some(b.clone()), relu: true, ..Epilogue::default() };
            let kernels = PackedKernels::get_or_pack(&w, None, KernelLayout::Winograd, None)?;
            let winograd = |x: &Tensor| {
                let winograd = InferenceConv { conv, kernels: kernels.clone(), epilogue: epilogue.clone() };
                to_nchw(&winograd.apply(x)?)
            };
            let exact = exact(&conv, &x, &w, &b);
            // Root mean square error, and the largest.
            let error = |found: &Tensor| {
                let errors = flat(found).into_iter().zip(&exact).map(|(a, b)| (f64::from(a) - b).abs());
                let (squares, worst) =
                    errors.fold((0.0, 0f64), |(sum, worst), error| (sum + error * error, worst.max(error)));
                ((squares / exact.len() as f64).sqrt(), worst)
            };
            let found = winograd(&x)?;
            // NCHW and channels-last inputs give bit-identical outputs.
            assert_eq!(flat(&winograd(&to_channels_last(&x)?)?), flat(&found));
            let geometry = conv.geometry(x.shape(), w.shape())?;
            if geometry.suits_winograd() {
                // The trainable convolution is bit-identical to the inference convolution.
                assert_eq!(flat(&x.apply_op3(&w, &b, conv)?), flat(&found));
                trainable_cases += 1;
            }
            let (mean, worst) = error(&found);
            let epilogue = EpilogueValues { bias: Some(&flat(&b)), relu: true, ..EpilogueValues::default() };
            let plain = geometry.forward(FeatureMaps::nchw(&flat(&x)), &flat(&w), &epilogue);
            let plain = Tensor::from_vec(plain, found.shape(), found.device())?;
            let (mean_of_plain, worst_of_plain) = error(&plain);
            // Standard deviation of a sum of 9 * channels products of values uniform in [-1, 1].
            let typical = (9.0 * channels as f64).sqrt() / 3.0;
            println!(
                "{channels} channels: off by {:.1e} of a typical output, at worst {:.1e}; the plain sum {:.1e} and {:.1e}",
                mean / typical,
                worst / typical,
                mean_of_plain / typical,
                worst_of_plain / typical
            );
            assert!(mean < 4.0 * mean_of_plain && worst < 2e-5 * typical, "{mean}, {worst}");
            // The output of an image does not depend on the other images of the batch.
            let alone = winograd(&x.narrow(0, 0, 1)?.contiguous()?)?;
            assert_eq!(flat(&alone), flat(&found)[..alone.elem_count()]);
        }
        assert!(trainable_cases > 0);
        Ok(())
    }

    #[test]
    fn residuals_are_accepted_in_both_layouts() -> Result<()> {
        let conv = Conv { stride: 1, dilation: 1, groups: 1, before: [1, 1], output: [9, 14], relu: false };
        let (x, w) = (random_tensor(1, &[2, 32, 9, 14]), random_tensor(2, &[48, 32, 3, 3]));
        let (affine, other) =
            ((random_tensor(3, &[48]), random_tensor(4, &[48])), random_tensor(5, &[2, 48, 9, 14]));
        let kernels = PackedKernels::get_or_pack(&w, None, KernelLayout::Winograd, None)?;
        let winograd = |residual: Option<Tensor>, relu: bool| {
            let epilogue = Epilogue { affine: Some(affine.clone()), residual, relu, ..Epilogue::default() };
            InferenceConv { conv, kernels: kernels.clone(), epilogue }.apply(&x)
        };
        let expected = flat(&(to_nchw(&winograd(None, false)?)? + &other)?.relu()?);
        assert_eq!(flat(&winograd(Some(other.clone()), true)?), expected);
        assert_eq!(flat(&winograd(Some(to_channels_last(&other)?), true)?), expected);
        Ok(())
    }
}
