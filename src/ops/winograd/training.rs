//! Winograd convolution with trainable kernels: forward pass and both gradients.

use std::ops::Range;

use super::kernel_transform::KernelGradientTransform;
use super::tile_transform::{GradientTransform, InputTransform, TileGrid};
use super::transform::{POSITIONS, position_stride};
use super::{MAX_TILES, WinogradKernels, is_applicable};
use crate::ops::Conv;
use crate::ops::conv_geometry::ConvGeometry;
use crate::ops::epilogue::EpilogueValues;
use crate::ops::matmul::matmul;
use crate::ops::partition::subrange;
use crate::ops::scratch::with_buffers;
use crate::ops::thread_pool::parallel_chunks_mut;
use crate::ops::transpose::transpose;

/// Minimum number of tiles of a batch (64: fewer do not pay for transforming the kernels).
const MIN_TILES: usize = 64;
/// f32 values that the transforms of one pass of the kernel gradient take (1,048,576: 4 MiB, so that the
/// products find them in the cache). More if threads would otherwise be idle.
const MAX_TRANSFORMED_VALUES: usize = 1 << 20;

impl ConvGeometry {
    /// Whether Winograd's algorithm pays off when the kernels are transformed for one batch.
    pub(in crate::ops) fn suits_winograd(&self) -> bool {
        let enough = self.images * TileGrid::new(&self.conv, self.input).tiles_per_image() >= MIN_TILES;
        is_applicable(&self.conv, self.window, [self.filters, self.in_channels]) && enough
    }

    /// Convolves NCHW feature maps; the output is NCHW and bit-identical to the inference convolution.
    pub(in crate::ops) fn winograd_forward(
        &self,
        x: &[f32],
        w: &[f32],
        epilogue: EpilogueValues,
    ) -> Vec<f32> {
        let [height, width] = self.input;
        let nhwc = transpose(x, [self.images, self.in_channels, self.input_pixels()]);
        let kernels = WinogradKernels::pack(w, [self.filters, self.in_channels], false);
        let outputs = kernels.convolve(&self.conv, &nhwc, [self.images, height, width], epilogue);
        drop(nhwc);
        transpose(&outputs, [self.images, self.output_pixels(), self.filters])
    }

    /// The convolution that maps the output gradient to the input gradient, if Winograd's algorithm
    /// applies to it.
    pub(in crate::ops) fn input_gradient_geometry(&self) -> Option<ConvGeometry> {
        let [Some(top), Some(left)] = self.conv.before.map(|before| 2usize.checked_sub(before)) else {
            return None;
        };
        let conv = Conv { before: [top, left], output: self.input, relu: false, ..self.conv };
        let geometry = ConvGeometry {
            conv,
            in_channels: self.filters,
            filters: self.in_channels,
            input: self.conv.output,
            ..*self
        };
        geometry.suits_winograd().then_some(geometry)
    }

    /// The input gradient, for the geometry of [`Self::input_gradient_geometry`]. Both gradients are NHWC.
    pub(in crate::ops) fn winograd_input_gradient(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        let [height, width] = self.input;
        let kernels = WinogradKernels::pack(w, [self.filters, self.in_channels], true);
        kernels.convolve(&self.conv, gradient, [self.images, height, width], EpilogueValues::default())
    }

    /// The kernel gradient, from NHWC inputs and output gradients.
    pub(in crate::ops) fn winograd_kernel_gradient(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (filters, channels) = (self.filters, self.in_channels);
        let grid = TileGrid::new(&self.conv, self.input);
        let total_tiles = self.images * grid.tiles_per_image();
        // Independent of the number of threads, because sums are rounded block by block.
        let block_count = total_tiles.div_ceil(MAX_TILES);
        let (input_len, gradient_len) = (
            POSITIONS * position_stride(MAX_TILES, channels),
            POSITIONS * position_stride(MAX_TILES, filters),
        );
        let blocks_per_pass = (MAX_TRANSFORMED_VALUES / (input_len + gradient_len))
            .max(rayon::current_num_threads())
            .min(block_count);
        let kernel_sums_len = position_stride(filters, channels);
        let arch = pulp::Arch::new();
        with_buffers(
            [blocks_per_pass * (input_len + gradient_len), POSITIONS * kernel_sums_len],
            |[transformed, sums]| {
                let (inputs, gradients) = transformed.split_at_mut(blocks_per_pass * input_len);
                for first in (0..block_count).step_by(blocks_per_pass) {
                    let blocks: Vec<Range<usize>> = (first..(first + blocks_per_pass).min(block_count))
                        .map(|index| subrange(total_tiles, block_count, index))
                        .collect();
                    parallel_chunks_mut(
                        &mut inputs[..blocks.len() * input_len],
                        input_len,
                        |index, target| {
                            let (grid, tiles) = (&grid, blocks[index].clone());
                            arch.dispatch(InputTransform { grid, x, tiles, channels, target });
                        },
                    );
                    parallel_chunks_mut(
                        &mut gradients[..blocks.len() * gradient_len],
                        gradient_len,
                        |index, target| {
                            let (grid, tiles) = (&grid, blocks[index].clone());
                            arch.dispatch(GradientTransform { grid, gradient, tiles, filters, target });
                        },
                    );
                    let transformed_blocks =
                        || inputs.chunks(input_len).zip(gradients.chunks(gradient_len)).zip(&blocks);
                    parallel_chunks_mut(sums, kernel_sums_len, |position, sums| {
                        for (index, ((inputs, gradients), tiles)) in (first..).zip(transformed_blocks()) {
                            let count = tiles.len();
                            // SAFETY: no two tasks write the sums of one tile position.
                            unsafe {
                                matmul(
                                    [filters, channels, count],
                                    (sums.as_mut_ptr(), channels, index > 0),
                                    (&gradients[position * position_stride(count, filters)..], 1, filters),
                                    (&inputs[position * position_stride(count, channels)..], channels, 1),
                                );
                            }
                        }
                    });
                }
                let mut result = vec![0f32; filters * channels * 9];
                parallel_chunks_mut(&mut result, channels * 9, |filter, target| {
                    arch.dispatch(KernelGradientTransform { sums, filters, channels, filter, target });
                });
                result
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::channels_last::{nchw_view, to_nhwc};
    use crate::ops::tests::{flat, random_tensor};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn gradients_match_the_direct_sums() -> Result<()> {
        for ([images, channels, height, width], filters, before) in
            [([2, 32, 19, 26], 48, [1, 1]), ([11, 48, 10, 13], 32, [0, 0]), ([3, 32, 17, 18], 32, [2, 1])]
        {
            let output = [height + 2 * before[0] - 2, width + 2 * before[1] - 2];
            let conv = Conv { stride: 1, dilation: 1, groups: 1, before, output, relu: false };
            let (x, w) = (
                random_tensor(4, &[images, channels, height, width]),
                random_tensor(5, &[filters, channels, 3, 3]),
            );
            let gradient = random_tensor(6, &[images, filters, output[0], output[1]]);
            let (nhwc_x, nhwc_gradient) = (flat(&to_nhwc(&x)?), flat(&to_nhwc(&gradient)?));
            let gradient = flat(&gradient);
            let geometry = conv.geometry(x.shape(), w.shape())?;
            let transposed = geometry
                .input_gradient_geometry()
                .filter(|_| geometry.suits_winograd())
                .expect("the sizes suit");
            let (x, w) = (flat(&x), flat(&w));
            let found = transposed.winograd_input_gradient(&w, &nhwc_gradient);
            let found = Tensor::from_vec(found, (images, height, width, channels), &Device::Cpu)?;
            let (mut of_x, mut of_w) = (vec![0f64; x.len()], vec![0f64; w.len()]);
            for (index, gradient) in gradient.iter().enumerate() {
                let (column, row) = (index % output[1], index / output[1] % output[0]);
                let (filter, image) =
                    (index / output[0] / output[1] % filters, index / output[0] / output[1] / filters);
                for (k, pixel) in (0..channels * 9).map(|k| (filter * channels * 9 + k, k % 9)) {
                    let y = (row + pixel / 3).wrapping_sub(before[0]);
                    let x_at = (column + pixel % 3).wrapping_sub(before[1]);
                    if y < height && x_at < width {
                        let channel = k / 9 % channels;
                        let from = ((image * channels + channel) * height + y) * width + x_at;
                        of_x[from] += f64::from(*gradient) * f64::from(w[k]);
                        of_w[k] += f64::from(*gradient) * f64::from(x[from]);
                    }
                }
            }
            let error = |found: &[f32], exact: &[f64]| {
                let length =
                    |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                length(&mut found.iter().zip(exact).map(|(a, b)| f64::from(*a) - b))
                    / length(&mut exact.iter().copied())
            };
            for (name, winograd, plain, exact) in [
                ("input", flat(&nchw_view(&found)?), geometry.input_gradient(&w, &gradient), &of_x),
                (
                    "kernels",
                    geometry.winograd_kernel_gradient(&nhwc_x, &nhwc_gradient),
                    geometry.kernel_gradient(&x, &gradient),
                    &of_w,
                ),
            ] {
                let (winograd, plain) = (error(&winograd, exact), error(&plain, exact));
                println!(
                    "gradient of the {name}: off by {winograd:.1e} of its length, the plain sum by {plain:.1e}"
                );
                assert!(winograd < 6.0 * plain && winograd < 1e-6, "{name}: {winograd} beside {plain}");
            }
        }
        Ok(())
    }
}
