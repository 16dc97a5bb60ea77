//! im2col convolution of batched small feature maps. The columns of all images form one matrix: those
//! of one image would not fill the registers of a matrix product.

use std::ops::Range;

use super::channels_last::FeatureMaps;
use super::conv_geometry::ConvGeometry;
use super::epilogue::EpilogueValues;
use super::matmul::matmul_strided;
use super::output_ptr::OutputPtr;
use super::scratch::with_buffers;
use super::thread_pool::{parallel_chunks_mut, parallel_for, parallel_for_each};

/// Number of output pixels per image from which images are convolved one by one (128: enough to fill the
/// registers).
const MAX_PIXELS: usize = 128;
/// The same limit for a batch of one image (256: there each task would lay out the same columns again).
const MAX_PIXELS_SINGLE: usize = 256;
/// Minimum number of filters or channels per task (128: each task reads the other matrix again).
const MIN_CHANNELS: usize = 128;
/// Minimum number of tasks to aim for (8: enough for the cores of a common machine).
const MIN_TASKS: usize = 8;
/// Minimum number of columns of a task's product (128: narrower products do not fill the registers).
const MIN_WIDTH: usize = 128;
/// Pixel index of the padding: outside every image.
const PADDING: u32 = u32::MAX;

/// Splits a product into tasks: blocks of channels and, if that gives too few tasks, also parts of its
/// columns. The `width` columns consist of `pieces` that are not split.
fn tasks(channels: usize, pieces: usize, width: usize) -> Vec<(Range<usize>, Range<usize>)> {
    // At most twice as many blocks as threads, because each block reads the other matrix again.
    let blocks = channels.div_ceil(MIN_CHANNELS).clamp(1, 2 * rayon::current_num_threads());
    let parts = MIN_TASKS.div_ceil(blocks).min(width / MIN_WIDTH).clamp(1, pieces.max(1));
    let part = move |index: usize| index * pieces / parts..(index + 1) * pieces / parts;
    (0..blocks)
        .map(|index| index * channels / blocks..(index + 1) * channels / blocks)
        .flat_map(|block| (0..parts).map(move |index| (block.clone(), part(index))))
        .collect()
}

impl ConvGeometry {
    /// Whether the feature maps are so small that the batch is convolved as one matrix product.
    pub(super) fn has_small_maps(&self) -> bool {
        let small = match self.images {
            1 if self.is_pointwise() => 0,
            1 => MAX_PIXELS_SINGLE,
            _ => MAX_PIXELS,
        };
        self.conv.groups == 1 && self.output_pixels() < small
    }

    /// Output pixels of the whole batch.
    fn batch_pixels(&self) -> usize {
        self.images * self.output_pixels()
    }

    /// Reorders `[N, channels, pixels]` to `[channels, N, pixels]`.
    fn channel_major(&self, values: &[f32], channels: usize) -> Vec<f32> {
        let pixels = self.output_pixels();
        let mut reordered = vec![0.0; values.len()];
        parallel_chunks_mut(&mut reordered, self.images * pixels, |channel, maps| {
            for (image, map) in maps.chunks_mut(pixels).enumerate() {
                map.copy_from_slice(&values[(image * channels + channel) * pixels..][..pixels]);
            }
        });
        reordered
    }

    /// For each pixel of the window and each output, the index of the input pixel that it reads.
    fn pixel_indices(&self) -> Vec<u32> {
        let mut pixel_indices = vec![PADDING; self.window_pixels() * self.output_pixels()];
        self.for_each_column_row(1, &(0..self.conv.output[0]), |_, row, offset, span| {
            let Some((row, from)) = row.zip(span.first_input) else { return };
            let first = row * self.input[1] + from;
            for (step, pixel_index) in pixel_indices[offset..][span.outputs.clone()].iter_mut().enumerate() {
                *pixel_index = (first + step * self.conv.stride) as u32;
            }
        });
        pixel_indices
    }

    /// The im2col matrix of all images, `[C · window, N, pixels]`.
    fn batch_columns(&self, x: &[f32]) -> Vec<f32> {
        if self.is_pointwise() {
            return self.channel_major(x, self.in_channels);
        }
        let (pixels, batch_pixels, window) =
            (self.output_pixels(), self.batch_pixels(), self.window_pixels());
        let pixel_indices = self.pixel_indices();
        let mut columns: Vec<f32> = Vec::with_capacity(self.patch_len() * batch_pixels);
        let target = OutputPtr(columns.as_mut_ptr());
        parallel_for(self.in_channels, |channel| {
            for image in 0..self.images {
                let x =
                    &x[(image * self.in_channels + channel) * self.input_pixels()..][..self.input_pixels()];
                for (index, pixel_indices) in pixel_indices.chunks(pixels).enumerate() {
                    let first = (channel * window + index) * batch_pixels + image * pixels;
                    for (pixel, pixel_index) in pixel_indices.iter().enumerate() {
                        let value = x.get(*pixel_index as usize).copied().unwrap_or(0.0);
                        // SAFETY: no two tasks write the same channel.
                        unsafe { target.at(first + pixel).write(value) };
                    }
                }
            }
        });
        // SAFETY: every pixel of every window was written.
        unsafe { columns.set_len(self.patch_len() * batch_pixels) };
        columns
    }

    /// The convolution of all images as one matrix product.
    pub(super) fn forward_batched(&self, x: FeatureMaps, w: &[f32], epilogue: &EpilogueValues) -> Vec<f32> {
        let (pixels, batch_pixels, patch_len) = (self.output_pixels(), self.batch_pixels(), self.patch_len());
        let laid_out;
        // NHWC pixels already are columns.
        let (columns, [row_stride, column_stride]) = match x.channels_last {
            true => (x.values, [1, patch_len]),
            false => {
                laid_out = self.batch_columns(x.values);
                (laid_out.as_slice(), [batch_pixels, 1])
            }
        };
        let mut output: Vec<f32> = Vec::with_capacity(self.filters * batch_pixels);
        let target = OutputPtr(output.as_mut_ptr());
        let (before_residual, from_residual) = epilogue.split_at_residual();
        parallel_for_each(&tasks(self.filters, self.images, batch_pixels), |(block, images)| {
            let (block, images) = (block.clone(), images.clone());
            let width = images.len() * pixels;
            with_buffers([block.len() * width, 0], |[product, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    matmul_strided(
                        [block.len(), width, patch_len],
                        (product.as_mut_ptr(), width, 1),
                        (&w[block.start * patch_len..], patch_len, 1),
                        (&columns[images.start * pixels * column_stride..], row_stride, column_stride),
                    );
                }
                for (filter, maps) in block.zip(product.chunks_mut(width)) {
                    before_residual.apply_to_row(maps, filter, 0);
                    for (image, map) in images.clone().zip(maps.chunks_mut(pixels)) {
                        let offset = (image * self.filters + filter) * pixels;
                        from_residual.apply_to_row(map, filter, offset);
                        // SAFETY: no two tasks write the same filters of the same images.
                        unsafe { target.at(offset).copy_from_nonoverlapping(map.as_ptr(), pixels) };
                    }
                }
            });
        });
        // SAFETY: every filter of every image was written.
        unsafe { output.set_len(self.filters * batch_pixels) };
        output
    }

    /// The gradient of the inputs of all images.
    pub(super) fn input_gradient_batched(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (pixels, batch_pixels, patch_len) = (self.output_pixels(), self.batch_pixels(), self.patch_len());
        let (window, pixel_indices) = (self.window_pixels(), self.pixel_indices());
        let gradient = self.channel_major(gradient, self.filters);
        let mut result = vec![0.0; self.images * self.in_channels * self.input_pixels()];
        let target = OutputPtr(result.as_mut_ptr());
        parallel_for_each(&tasks(self.in_channels, self.images, batch_pixels), |(block, images)| {
            let (block, images) = (block.clone(), images.clone());
            let (height, width) = (block.len() * window, images.len() * pixels);
            with_buffers([height * width, 0], |[product, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    matmul_strided(
                        [height, width, self.filters],
                        (product.as_mut_ptr(), width, 1),
                        (&w[block.start * window..], 1, patch_len),
                        (&gradient[images.start * pixels..], batch_pixels, 1),
                    );
                }
                for (channel, columns) in block.zip(product.chunks(window * width)) {
                    for image in images.clone() {
                        let first = (image * self.in_channels + channel) * self.input_pixels();
                        // SAFETY: no two tasks write the same channels of the same images.
                        let x =
                            unsafe { std::slice::from_raw_parts_mut(target.at(first), self.input_pixels()) };
                        let rows = columns.chunks(width).map(|row| &row[(image - images.start) * pixels..]);
                        for (row, pixel_indices) in rows.zip(pixel_indices.chunks(pixels)) {
                            for (value, pixel_index) in row.iter().zip(pixel_indices) {
                                if let Some(pixel) = x.get_mut(*pixel_index as usize) {
                                    *pixel += value;
                                }
                            }
                        }
                    }
                }
            });
        });
        result
    }

    /// The gradient of the kernels, summed over all images.
    pub(super) fn kernel_gradient_batched(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (batch_pixels, patch_len) = (self.batch_pixels(), self.patch_len());
        let (columns, gradient) = (self.batch_columns(x), self.channel_major(gradient, self.filters));
        let mut result = Vec::with_capacity(self.filters * patch_len);
        let target = OutputPtr(result.as_mut_ptr());
        parallel_for_each(&tasks(self.filters, patch_len, patch_len), |(block, part)| {
            // SAFETY: no two tasks write the same window pixels of the same filters.
            unsafe {
                matmul_strided(
                    [block.len(), part.len(), batch_pixels],
                    (target.at(block.start * patch_len + part.start), patch_len, 1),
                    (&gradient[block.start * batch_pixels..], batch_pixels, 1),
                    (&columns[part.start * batch_pixels..], 1, batch_pixels),
                );
            }
        });
        // SAFETY: every filter's gradient was written.
        unsafe { result.set_len(self.filters * patch_len) };
        result
    }
}
