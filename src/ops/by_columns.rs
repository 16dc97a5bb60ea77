//! Convolution as a matrix product: windows laid out as columns, a tile of output rows at a time so
//! that the tile stays in the cache (Chellapilla et al. 2006, "High performance convolutional neural
//! networks for document processing").

use std::ops::Range;

use pulp::NullaryFnOnce;

use super::Conv;
use super::after::Epilogue;
use super::channels_last::Maps;
use super::crew::{each_of, each_piece};
use super::scratch::with_buffers;
use super::slices::{Shared, made};
use super::windows::Windows;

/// Columns of a tile take about this many numbers, half of a common second-level cache.
const TILE: usize = 1 << 17;
/// Fewer output pixels than these do not fill the registers of a matrix product.
const NARROWEST: usize = 128;
/// Output channels of a task, where tasks are few.
const FILTERS: usize = 32;
/// Input channels whose gradient is one task: whole registers of a matrix product.
const CHANNELS: usize = 64;
/// Tasks that keep the cores of a common machine busy.
const ENOUGH: usize = 16;
/// Partial sums of a weight's gradient take at most this many numbers.
const PARTIALS: usize = 1 << 23;

/// Windows of one pixel that do not touch: a convolution of those pixels alone.
impl Windows {
    /// That convolution, if this is one.
    fn pointwise(&self) -> Option<Windows> {
        let apart = self.window == [1, 1] && self.conv.stride > 1 && self.conv.before == [0, 0];
        let inside =
            (0..2).all(|side| self.conv.output[side].saturating_sub(1) * self.conv.stride < self.input[side]);
        let conv = Conv { stride: 1, ..self.conv };
        (apart && inside).then_some(Windows { conv, input: self.conv.output, ..*self })
    }

    /// The pixels that are seen.
    fn seen(&self, x: &[f32]) -> Vec<f32> {
        let (width, stride) = (self.conv.output[1], self.conv.stride);
        let count = self.pictures * self.conv.groups * self.inputs * self.output_pixels();
        made(count, self.output_pixels(), |map, _| {
            let x = &x[map * self.input_pixels()..][..self.input_pixels()];
            (0..self.output_pixels())
                .map(move |at| x[at / width * stride * self.input[1] + at % width * stride])
        })
    }

    /// Their gradients, nothing between them.
    fn spread(&self, gradient: &[f32]) -> Vec<f32> {
        let [_, width] = self.conv.output;
        let mut result = zeroed(gradient.len() / self.output_pixels().max(1) * self.input_pixels());
        each_piece(&mut result, self.input_pixels(), |at, map| {
            let gradient = &gradient[at * self.output_pixels()..][..self.output_pixels()];
            let rows = map.chunks_mut(self.input[1]).step_by(self.conv.stride);
            for (row, gradient) in rows.zip(gradient.chunks(width)) {
                row.iter_mut().step_by(self.conv.stride).zip(gradient).for_each(|(to, value)| *to = *value);
            }
        });
        result
    }
}

impl Windows {
    /// Output rows, a tile at a time, for columns of so many numbers.
    fn tiles(&self, column: usize) -> Vec<Range<usize>> {
        let [rows, width] = self.conv.output;
        let pixels = (TILE / column.max(1)).max(NARROWEST);
        let height = if self.is_pointwise() { rows } else { (pixels / width.max(1)).clamp(1, rows.max(1)) };
        (0..rows).step_by(height.max(1)).map(|top| top..(top + height).min(rows)).collect()
    }

    /// Numbers in the largest tile's columns of some channels.
    fn room(&self, channels: usize, tiles: &[Range<usize>]) -> usize {
        let rows = tiles.first().map_or(0, Range::len);
        if self.is_pointwise() { 0 } else { channels * self.window_pixels() * rows * self.conv.output[1] }
    }

    /// Maps whose channels come last may be taken by windows of one pixel alone.
    pub(super) fn forward(&self, x: Maps, w: &[f32], epilogue: &Epilogue) -> Vec<f32> {
        assert!(!x.channels_last || self.is_pointwise() && self.conv.groups == 1);
        if let Some(pointwise) = self.pointwise() {
            return pointwise.forward(Maps::planes(&self.seen(x.values)), w, epilogue);
        }
        if self.are_small() {
            return self.forward_together(x, w, epilogue);
        }
        let (pixels, column, filters) = (self.output_pixels(), self.column(), self.filters);
        let mut output = Vec::with_capacity(self.pictures * self.conv.groups * filters * pixels);
        let tiles = self.tiles(column);
        // Where one picture makes too few tasks, the filters are parted too.
        let tasks = self.pictures * self.conv.groups * tiles.len();
        let parts = blocks(filters, filters.div_ceil(ENOUGH.div_ceil(tasks.max(1))).max(FILTERS));
        let target = Shared(output.as_mut_ptr());
        let tasks: Vec<(usize, &Range<usize>, &Range<usize>)> = (0..self.pictures * self.conv.groups)
            .flat_map(|at| tiles.iter().map(move |tile| (at, tile)))
            .flat_map(|(at, tile)| parts.iter().map(move |part| (at, tile, part)))
            .collect();
        each_of(&tasks, |&(at, tile, part)| {
            with_buffers([self.room(self.inputs, &tiles), 0], |[buffer, _]| {
                let (picture, group) = (at / self.conv.groups, at % self.conv.groups);
                let columns = self.columns(x, picture, group, 0..self.inputs, tile, buffer);
                let (start, width) = (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                let kernels = &w[(group * filters + part.start) * column..];
                let first = at * filters + part.start;
                // SAFETY: each task writes filters and pixels of its own.
                unsafe {
                    product(
                        [part.len(), width, column],
                        (target.at(first * pixels + start), pixels, false),
                        (kernels, column, 1),
                        (columns.values, columns.strides[0], columns.strides[1]),
                    );
                }
                if epilogue.is_nothing() {
                    return;
                }
                for filter in 0..part.len() {
                    let at = (first + filter) * pixels + start;
                    // SAFETY: the task's own pixels of this filter, while they are in the cache.
                    let row = unsafe { std::slice::from_raw_parts_mut(target.at(at), width) };
                    epilogue.apply(row, group * filters + part.start + filter, at);
                }
            })
        });
        // SAFETY: every tile of every filter was written.
        unsafe { output.set_len(self.pictures * self.conv.groups * filters * pixels) };
        output
    }

    /// The gradient of the input, from the kernels and the output's gradient.
    pub(super) fn input_gradient(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        if let Some(pointwise) = self.pointwise() {
            return self.spread(&pointwise.input_gradient(w, gradient));
        }
        if self.are_small() {
            return self.input_gradient_together(w, gradient);
        }
        let (pixels, column, filters) = (self.output_pixels(), self.column(), self.filters);
        let mut result = zeroed(self.pictures * self.conv.groups * self.inputs * self.input_pixels());
        let target = Shared(result.as_mut_ptr());
        let blocks = blocks(self.inputs, CHANNELS);
        let tasks: Vec<(usize, &Range<usize>)> = (0..self.pictures * self.conv.groups)
            .flat_map(|at| blocks.iter().map(move |block| (at, block)))
            .collect();
        each_of(&tasks, |&(at, block)| {
            let tiles = self.tiles(block.len() * self.window_pixels());
            with_buffers([self.room(block.len(), &tiles), 0], |[buffer, _]| {
                let group = at % self.conv.groups;
                let height = block.len() * self.window_pixels();
                let kernels = &w[group * filters * column + block.start * self.window_pixels()..];
                // SAFETY: each task writes the gradient of channels of its own.
                let target = unsafe {
                    let first = (at * self.inputs + block.start) * self.input_pixels();
                    std::slice::from_raw_parts_mut(target.at(first), block.len() * self.input_pixels())
                };
                for tile in tiles {
                    let (start, width) = (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                    let gradient = &gradient[at * filters * pixels + start..];
                    let from = ((kernels, 1, column), (gradient, pixels, 1));
                    if self.is_pointwise() {
                        // SAFETY: the block's channels, tile by tile.
                        unsafe {
                            product(
                                [height, width, filters],
                                (target[start..].as_mut_ptr(), pixels, false),
                                from.0,
                                from.1,
                            )
                        };
                        continue;
                    }
                    let buffer = &mut buffer[..height * width];
                    // SAFETY: the buffer is as large as the product.
                    unsafe {
                        product([height, width, filters], (buffer.as_mut_ptr(), width, false), from.0, from.1)
                    };
                    self.scatter(buffer, target, block.len(), &tile);
                }
            })
        });
        result
    }

    /// The gradient of the kernels, from the input and the output's gradient.
    pub(super) fn kernel_gradient(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        if let Some(pointwise) = self.pointwise() {
            return pointwise.kernel_gradient(&self.seen(x), gradient);
        }
        if self.are_small() {
            return self.kernel_gradient_together(x, gradient);
        }
        let (pixels, column, filters) = (self.output_pixels(), self.column(), self.filters);
        let whole = self.conv.groups * filters * column;
        // Small kernels are summed picture by picture, which makes more tasks.
        let apart = whole * self.pictures <= PARTIALS;
        let mut partials = zeroed(if apart { whole * self.pictures } else { whole });
        let target = Shared(partials.as_mut_ptr());
        let blocks = blocks(self.inputs, CHANNELS);
        let tasks: Vec<(Range<usize>, usize, &Range<usize>)> = (0..if apart { self.pictures } else { 1 })
            .map(|at| if apart { at..at + 1 } else { 0..self.pictures })
            .flat_map(|pictures| (0..self.conv.groups).map(move |group| (pictures.clone(), group)))
            .flat_map(|(pictures, group)| blocks.iter().map(move |block| (pictures.clone(), group, block)))
            .collect();
        each_of(&tasks, |&(ref pictures, group, block)| {
            let tiles = self.tiles(block.len() * self.window_pixels());
            with_buffers([self.room(block.len(), &tiles), 0], |[buffer, _]| {
                let height = block.len() * self.window_pixels();
                let first = if apart { pictures.start * whole } else { 0 };
                let first = first + group * filters * column + block.start * self.window_pixels();
                for picture in pictures.clone() {
                    for tile in &tiles {
                        let x = Maps::planes(x);
                        let columns = self.columns(x, picture, group, block.clone(), tile, &mut *buffer);
                        let (start, width) =
                            (tile.start * self.conv.output[1], tile.len() * self.conv.output[1]);
                        let gradient =
                            &gradient[(picture * self.conv.groups + group) * filters * pixels + start..];
                        // SAFETY: each task adds to the gradients of channels of its own.
                        unsafe {
                            product(
                                [filters, height, width],
                                (target.at(first), column, true),
                                (gradient, pixels, 1),
                                (columns.values, columns.strides[1], columns.strides[0]),
                            );
                        }
                    }
                }
            })
        });
        if apart && self.pictures > 1 {
            let (sum, rest) = partials.split_at_mut(whole);
            each_piece(sum, 1 << 12, |at, sum| {
                for part in rest.chunks(whole) {
                    let part = &part[at << 12..];
                    sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
                }
            });
            partials.truncate(whole);
        }
        partials
    }

    /// The windows of some channels and output rows as columns.
    fn columns<'a>(
        &self,
        x: Maps<'a>,
        picture: usize,
        group: usize,
        channels: Range<usize>,
        rows: &Range<usize>,
        buffer: &'a mut [f32],
    ) -> Columns<'a> {
        if x.channels_last {
            let first = picture * self.input_pixels() + rows.start * self.conv.output[1];
            let values = &x.values[first * self.inputs + channels.start..];
            return Columns { values, strides: [1, self.inputs] };
        }
        let first = (picture * self.conv.groups + group) * self.inputs + channels.start;
        let x = &x.values[first * self.input_pixels()..(first + channels.len()) * self.input_pixels()];
        if self.is_pointwise() {
            let values = &x[rows.start * self.conv.output[1]..];
            return Columns { values, strides: [self.input_pixels(), 1] };
        }
        let width = rows.len() * self.conv.output[1];
        let buffer = &mut buffer[..channels.len() * self.window_pixels() * width];
        let arch = pulp::Arch::new();
        self.each_row(channels.len(), rows, |channel, row, at, span| {
            let target = &mut buffer[at..at + self.conv.output[1]];
            let Some((row, from)) = row.zip(span.from) else { return target.fill(0.0) };
            let source = &x[channel * self.input_pixels() + row * self.input[1]..][from..];
            target[..span.inside.start].fill(0.0);
            target[span.inside.end..].fill(0.0);
            let target = &mut target[span.inside.clone()];
            match self.conv.stride {
                1 => target.copy_from_slice(&source[..target.len()]),
                2 => arch.dispatch(EverySecond { target, source }),
                stride => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t = *s),
            }
        });
        Columns { values: buffer, strides: [width, 1] }
    }

    /// Adds columns of gradients to the pixels from which the windows came.
    fn scatter(&self, columns: &[f32], x: &mut [f32], channels: usize, rows: &Range<usize>) {
        self.each_row(channels, rows, |channel, row, at, span| {
            let Some((row, from)) = row.zip(span.from) else { return };
            let source = &columns[at..at + self.conv.output[1]][span.inside.clone()];
            let target = &mut x[channel * self.input_pixels() + row * self.input[1]..][from..];
            match self.conv.stride {
                1 => target.iter_mut().zip(source).for_each(|(t, s)| *t += s),
                stride => target.iter_mut().step_by(stride).zip(source).for_each(|(t, s)| *t += s),
            }
        });
    }
}

/// Copies every second pixel.
struct EverySecond<'a> {
    target: &'a mut [f32],
    source: &'a [f32],
}

impl NullaryFnOnce for EverySecond<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let source = &self.source[..2 * self.target.len() - 1];
        for at in 0..self.target.len() {
            self.target[at] = source[2 * at];
        }
    }
}

struct Columns<'a> {
    values: &'a [f32],
    /// From one row of the matrix to the next, and from one column.
    strides: [usize; 2],
}

fn zeroed(count: usize) -> Vec<f32> {
    vec![0.0; count]
}

/// Blocks of channels, each a task of its own.
pub(super) fn blocks(channels: usize, size: usize) -> Vec<Range<usize>> {
    (0..channels).step_by(size.max(1)).map(|first| first..(first + size).min(channels)).collect()
}

/// `target (+)= a · b` for `[rows, columns, inner]`; each matrix with its strides, the target's rows
/// being contiguous.
///
/// # Safety
/// The target has room for the product, and nobody else reads or writes it.
pub(super) unsafe fn product(
    sizes: [usize; 3],
    (target, stride, add): (*mut f32, usize, bool),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe { multiply(sizes, (target, stride, 1), add, a, b) }
}

/// The same, not added, for a target of any strides: from row to row, from column to column.
///
/// # Safety
/// As for [`product`].
pub(super) unsafe fn product_at(
    sizes: [usize; 3],
    target: (*mut f32, usize, usize),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe { multiply(sizes, target, false, a, b) }
}

unsafe fn multiply(
    [rows, columns, inner]: [usize; 3],
    (target, row, column): (*mut f32, usize, usize),
    add: bool,
    (a, a_row, a_column): (&[f32], usize, usize),
    (b, b_row, b_column): (&[f32], usize, usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(inner > 0 && a.len() > (rows - 1) * a_row + (inner - 1) * a_column);
    assert!(b.len() > (inner - 1) * b_row + (columns - 1) * b_column);
    // SAFETY: the operands' ends were looked at, the target's is promised.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            target,
            column as isize,
            row as isize,
            add,
            a.as_ptr(),
            a_column as isize,
            a_row as isize,
            b.as_ptr(),
            b_column as isize,
            b_row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
