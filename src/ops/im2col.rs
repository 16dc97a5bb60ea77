//! im2col convolution: windows are laid out as columns and multiplied by the kernels (Chellapilla et
//! al. 2006, "High performance convolutional neural networks for document processing").
//!
//! The columns are laid out for a tile of output rows at a time, so that they stay in the cache.

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::Conv;
use super::channels_last::FeatureMaps;
use super::collect::parallel_collect;
use super::conv_geometry::ConvGeometry;
use super::epilogue::EpilogueValues;
use super::matmul::{channel_blocks, matmul};
use super::output_ptr::OutputPtr;
use super::scratch::with_buffers;
use super::thread_pool::{parallel_chunks_mut, parallel_for_each};

/// f32 values in the columns of a tile (131,072: 512 KiB, half of a common L2 cache).
const TILE_VALUES: usize = 1 << 17;
/// Minimum number of output pixels per tile (128: fewer do not fill the registers of a matrix product).
const MIN_TILE_PIXELS: usize = 128;
/// Minimum number of filters per task when filters are split to get more tasks (32: each task lays out the
/// columns again).
const MIN_TASK_FILTERS: usize = 32;
/// Input channels per task of a gradient (64: whole registers of a matrix product).
const TASK_CHANNELS: usize = 64;
/// Minimum number of tasks to aim for (16: enough for the cores of a common machine).
const MIN_TASKS: usize = 16;
/// Maximum number of f32 values in all partial sums of a kernel gradient (8,388,608: 32 MiB).
const MAX_PARTIAL_SUMS: usize = 1 << 23;

/// Values per task when partial sums are added (4,096: 16 KiB, half of an L1 cache).
const SUM_CHUNK: usize = 1 << 12;

/// Strided 1x1 convolutions: a 1x1 convolution with stride 1 of the subsampled input.
impl ConvGeometry {
    /// The convolution of the subsampled input, if this is a strided 1x1 convolution.
    fn as_pointwise(&self) -> Option<ConvGeometry> {
        let is_strided = self.window == [1, 1] && self.conv.stride > 1 && self.conv.before == [0, 0];
        let inside =
            (0..2).all(|side| self.conv.output[side].saturating_sub(1) * self.conv.stride < self.input[side]);
        let conv = Conv { stride: 1, ..self.conv };
        (is_strided && inside).then_some(ConvGeometry { conv, input: self.conv.output, ..*self })
    }

    /// The input pixels that the windows read.
    fn subsample(&self, x: &[f32]) -> Vec<f32> {
        let (width, stride) = (self.conv.output[1], self.conv.stride);
        let count = self.images * self.conv.groups * self.in_channels * self.output_pixels();
        parallel_collect(count, self.output_pixels(), |map, _| {
            let x = &x[map * self.input_pixels()..][..self.input_pixels()];
            (0..self.output_pixels())
                .map(move |index| x[index / width * stride * self.input[1] + index % width * stride])
        })
    }

    /// The input gradient: the gradients of the subsampled pixels, and zeros between them.
    fn scatter_strided(&self, gradient: &[f32]) -> Vec<f32> {
        let [_, width] = self.conv.output;
        let mut result = zeroed(gradient.len() / self.output_pixels().max(1) * self.input_pixels());
        parallel_chunks_mut(&mut result, self.input_pixels(), |index, map| {
            let gradient = &gradient[index * self.output_pixels()..][..self.output_pixels()];
            let rows = map.chunks_mut(self.input[1]).step_by(self.conv.stride);
            for (row, gradient) in rows.zip(gradient.chunks(width)) {
                row.iter_mut().step_by(self.conv.stride).zip(gradient).for_each(|(to, value)| *to = *value);
            }
        });
        result
    }
}

impl ConvGeometry {
    /// Splits the output rows into tiles whose columns fit the cache.
    fn tiles(&self, patch_len: usize) -> Vec<Range<usize>> {
        let [rows, width] = self.conv.output;
        let pixels = (TILE_VALUES / patch_len.max(1)).max(MIN_TILE_PIXELS);
        let height = if self.is_pointwise() { rows } else { (pixels / width.max(1)).clamp(1, rows.max(1)) };
        (0..rows).step_by(height.max(1)).map(|top| top..(top + height).min(rows)).collect()
    }

    /// Length of the buffer for the columns of some channels in the largest tile.
    fn buffer_len(&self, channels: usize, tiles: &[Range<usize>]) -> usize {
        let rows = tiles.first().map_or(0, Range::len);
        if self.is_pointwise() { 0 } else { channels * self.window_pixels() * rows * self.conv.output[1] }
    }

    /// Convolves feature maps. Only 1x1 convolutions with stride 1 accept channels-last input.
    pub(super) fn forward(&self, x: FeatureMaps, w: &[f32], epilogue: &EpilogueValues) -> Vec<f32> {
        assert!(!x.channels_last || self.is_pointwise() && self.conv.groups == 1);
        if let Some(pointwise) = self.as_pointwise() {
            return pointwise.forward(FeatureMaps::nchw(&self.subsample(x.values)), w, epilogue);
        }
        if self.has_small_maps() {
            return self.forward_batched(x, w, epilogue);
        }
        let (pixels, patch_len, filters) = (self.output_pixels(), self.patch_len(), self.filters);
        let mut output = Vec::with_capacity(self.images * self.conv.groups * filters * pixels);
        let tiles = self.tiles(patch_len);
        // With too few images and tiles for all cores, the filters are split too.
        let tasks = self.images * self.conv.groups * tiles.len();
        let filter_blocks =
            channel_blocks(filters, filters.div_ceil(MIN_TASKS.div_ceil(tasks.max(1))).max(MIN_TASK_FILTERS));
        let target = OutputPtr(output.as_mut_ptr());
        let tasks: Vec<(usize, &Range<usize>, &Range<usize>)> = (0..self.images * self.conv.groups)
            .flat_map(|image_group| tiles.iter().map(move |tile| (image_group, tile)))
            .flat_map(|(image_group, tile)| {
                filter_blocks.iter().map(move |filter_block| (image_group, tile, filter_block))
            })
            .collect();
        parallel_for_each(&tasks, |&(image_group, tile, filter_block)| {
            with_buffers([self.buffer_len(self.in_channels, &tiles), 0], |[buffer, _]| {
                let (image, group) = (image_group / self.conv.groups, image_group % self.conv.groups);
                let columns = self.columns(x, image, group, 0..self.in_channels, tile, buffer);
                let (start, width) = (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                let kernels = &w[(group * filters + filter_block.start) * patch_len..];
                let first = image_group * filters + filter_block.start;
                // SAFETY: no two tasks write the same filters of the same pixels.
                unsafe {
                    matmul(
                        [filter_block.len(), width, patch_len],
                        (target.at(first * pixels + start), pixels, false),
                        (kernels, patch_len, 1),
                        (columns.values, columns.strides[0], columns.strides[1]),
                    );
                }
                if epilogue.is_identity() {
                    return;
                }
                for filter in 0..filter_block.len() {
                    let offset = (first + filter) * pixels + start;
                    // SAFETY: the task's own pixels of this filter.
                    let row = unsafe { std::slice::from_raw_parts_mut(target.at(offset), width) };
                    epilogue.apply_to_row(row, group * filters + filter_block.start + filter, offset);
                }
            })
        });
        // SAFETY: every tile of every filter was written.
        unsafe { output.set_len(self.images * self.conv.groups * filters * pixels) };
        output
    }

    /// The gradient of the input, from the kernels and the output's gradient.
    pub(super) fn input_gradient(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        if let Some(pointwise) = self.as_pointwise() {
            return self.scatter_strided(&pointwise.input_gradient(w, gradient));
        }
        if self.has_small_maps() {
            return self.input_gradient_batched(w, gradient);
        }
        let (pixels, patch_len, filters) = (self.output_pixels(), self.patch_len(), self.filters);
        let mut result = zeroed(self.images * self.conv.groups * self.in_channels * self.input_pixels());
        let target = OutputPtr(result.as_mut_ptr());
        let blocks = channel_blocks(self.in_channels, TASK_CHANNELS);
        let tasks: Vec<(usize, &Range<usize>)> = (0..self.images * self.conv.groups)
            .flat_map(|image_group| blocks.iter().map(move |block| (image_group, block)))
            .collect();
        parallel_for_each(&tasks, |&(image_group, block)| {
            let tiles = self.tiles(block.len() * self.window_pixels());
            with_buffers([self.buffer_len(block.len(), &tiles), 0], |[buffer, _]| {
                let group = image_group % self.conv.groups;
                let height = block.len() * self.window_pixels();
                let kernels = &w[group * filters * patch_len + block.start * self.window_pixels()..];
                // SAFETY: no two tasks write the same channels.
                let target = unsafe {
                    let first = (image_group * self.in_channels + block.start) * self.input_pixels();
                    std::slice::from_raw_parts_mut(target.at(first), block.len() * self.input_pixels())
                };
                for tile in tiles {
                    let (start, width) = (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                    let gradient = &gradient[image_group * filters * pixels + start..];
                    let from = ((kernels, 1, patch_len), (gradient, pixels, 1));
                    if self.is_pointwise() {
                        // SAFETY: the product is this tile of the block's channels.
                        unsafe {
                            matmul(
                                [height, width, filters],
                                (target[start..].as_mut_ptr(), pixels, false),
                                from.0,
                                from.1,
                            )
                        };
                        continue;
                    }
                    let buffer = &mut buffer[..height * width];
                    // SAFETY: the buffer has the size of the product.
                    unsafe {
                        matmul([height, width, filters], (buffer.as_mut_ptr(), width, false), from.0, from.1)
                    };
                    self.col2im(buffer, target, block.len(), &tile);
                }
            })
        });
        result
    }

    /// The gradient of the kernels, from the input and the output's gradient.
    pub(super) fn kernel_gradient(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        if let Some(pointwise) = self.as_pointwise() {
            return pointwise.kernel_gradient(&self.subsample(x), gradient);
        }
        if self.has_small_maps() {
            return self.kernel_gradient_batched(x, gradient);
        }
        let (pixels, patch_len, filters) = (self.output_pixels(), self.patch_len(), self.filters);
        let kernel_len = self.conv.groups * filters * patch_len;
        // Gradients of small kernels are summed per image first, which gives more tasks.
        let per_image = kernel_len * self.images <= MAX_PARTIAL_SUMS;
        let mut partials = zeroed(if per_image { kernel_len * self.images } else { kernel_len });
        let target = OutputPtr(partials.as_mut_ptr());
        let blocks = channel_blocks(self.in_channels, TASK_CHANNELS);
        let tasks: Vec<(Range<usize>, usize, &Range<usize>)> = (0..if per_image { self.images } else { 1 })
            .map(|image| if per_image { image..image + 1 } else { 0..self.images })
            .flat_map(|images| (0..self.conv.groups).map(move |group| (images.clone(), group)))
            .flat_map(|(images, group)| blocks.iter().map(move |block| (images.clone(), group, block)))
            .collect();
        parallel_for_each(&tasks, |&(ref images, group, block)| {
            let tiles = self.tiles(block.len() * self.window_pixels());
            with_buffers([self.buffer_len(block.len(), &tiles), 0], |[buffer, _]| {
                let height = block.len() * self.window_pixels();
                let first = if per_image { images.start * kernel_len } else { 0 };
                let first = first + group * filters * patch_len + block.start * self.window_pixels();
                for image in images.clone() {
                    for tile in &tiles {
                        let x = FeatureMaps::nchw(x);
                        let columns = self.columns(x, image, group, block.clone(), tile, &mut *buffer);
                        let (start, width) =
                            (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                        let gradient =
                            &gradient[(image * self.conv.groups + group) * filters * pixels + start..];
                        // SAFETY: no two tasks add to the same channels of the same partial sum.
                        unsafe {
                            matmul(
                                [filters, height, width],
                                (target.at(first), patch_len, true),
                                (gradient, pixels, 1),
                                (columns.values, columns.strides[1], columns.strides[0]),
                            );
                        }
                    }
                }
            })
        });
        if per_image && self.images > 1 {
            let (sum, rest) = partials.split_at_mut(kernel_len);
            parallel_chunks_mut(sum, SUM_CHUNK, |index, sum| {
                for partial in rest.chunks(kernel_len) {
                    let partial = &partial[index * SUM_CHUNK..];
                    sum.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
                }
            });
            partials.truncate(kernel_len);
        }
        partials
    }

    /// The im2col matrix of some channels and output rows.
    fn columns<'a>(
        &self,
        x: FeatureMaps<'a>,
        image: usize,
        group: usize,
        channels: Range<usize>,
        rows: &Range<usize>,
        buffer: &'a mut [f32],
    ) -> Columns<'a> {
        if x.channels_last {
            let first = image * self.input_pixels() + rows.start * self.conv.output[1];
            let values = &x.values[first * self.in_channels + channels.start..];
            return Columns { values, strides: [1, self.in_channels] };
        }
        let first = (image * self.conv.groups + group) * self.in_channels + channels.start;
        let x = &x.values[first * self.input_pixels()..(first + channels.len()) * self.input_pixels()];
        if self.is_pointwise() {
            let values = &x[rows.start * self.conv.output[1]..];
            return Columns { values, strides: [self.input_pixels(), 1] };
        }
        let width = rows.len() * self.conv.output[1];
        let buffer = &mut buffer[..channels.len() * self.window_pixels() * width];
        let arch = pulp::Arch::new();
        self.for_each_column_row(channels.len(), rows, |channel, row, offset, span| {
            let target = &mut buffer[offset..offset + self.conv.output[1]];
            let Some((row, from)) = row.zip(span.first_input) else { return target.fill(0.0) };
            let source = &x[channel * self.input_pixels() + row * self.input[1]..][from..];
            target[..span.outputs.start].fill(0.0);
            target[span.outputs.end..].fill(0.0);
            let target = &mut target[span.outputs.clone()];
            match self.conv.stride {
                1 => target.copy_from_slice(&source[..target.len()]),
                2 => arch.dispatch(CopyEverySecond { target, source }),
                stride => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t = *s),
            }
        });
        Columns { values: buffer, strides: [width, 1] }
    }

    /// Inverse of im2col for gradients: adds the columns to the pixels that the windows read.
    fn col2im(&self, columns: &[f32], x: &mut [f32], channels: usize, rows: &Range<usize>) {
        self.for_each_column_row(channels, rows, |channel, row, offset, span| {
            let Some((row, from)) = row.zip(span.first_input) else { return };
            let source = &columns[offset..offset + self.conv.output[1]][span.outputs.clone()];
            let target = &mut x[channel * self.input_pixels() + row * self.input[1]..][from..];
            match self.conv.stride {
                1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += s),
                stride => target.iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += s),
            }
        });
    }
}

/// Copies every second pixel, vectorised.
struct CopyEverySecond<'a> {
    target: &'a mut [f32],
    source: &'a [f32],
}

impl NullaryFnOnce for CopyEverySecond<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let source = &self.source[..2 * self.target.len() - 1];
        for index in 0..self.target.len() {
            self.target[index] = source[2 * index];
        }
    }
}

/// An im2col matrix.
struct Columns<'a> {
    values: &'a [f32],
    /// Row stride and column stride.
    strides: [usize; 2],
}

fn zeroed(count: usize) -> Vec<f32> {
    vec![0.0; count]
}
