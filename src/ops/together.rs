//! Convolution of maps so small that a picture alone would not fill the registers of a matrix
//! product: the columns of all pictures stand side by side in one matrix.

use std::ops::Range;

use rayon::prelude::*;

use super::after::Epilogue;
use super::by_columns::product_at;
use super::scratch::with_buffers;
use super::slices::Shared;
use super::windows::Windows;

/// Fewer output pixels than these are small.
const SMALL: usize = 128;
/// Filters or channels of a task.
const BLOCK: usize = 128;

fn blocks(count: usize) -> Vec<Range<usize>> {
    (0..count).step_by(BLOCK).map(|first| first..(first + BLOCK).min(count)).collect()
}

impl Windows {
    /// Whether a batch is better taken together.
    pub(super) fn are_small(&self) -> bool {
        self.conv.groups == 1 && self.pictures > 1 && self.output_pixels() < SMALL
    }

    /// Pixels of the whole batch's outputs.
    fn all_pixels(&self) -> usize {
        self.pictures * self.output_pixels()
    }

    /// From `[N, channels, pixels]` to `[channels, N, pixels]`.
    fn side_by_side(&self, values: &[f32], channels: usize) -> Vec<f32> {
        let pixels = self.output_pixels();
        let mut together = vec![0.0; values.len()];
        together.par_chunks_mut(self.pictures * pixels).enumerate().for_each(|(channel, maps)| {
            for (picture, map) in maps.chunks_mut(pixels).enumerate() {
                map.copy_from_slice(&values[(picture * channels + channel) * pixels..][..pixels]);
            }
        });
        together
    }

    /// The windows of all pictures: a row for each pixel of a window, `[C · window, N, pixels]`.
    fn all_columns(&self, x: &[f32]) -> Vec<f32> {
        if self.is_pointwise() {
            return self.side_by_side(x, self.inputs);
        }
        let (pixels, all, width) = (self.output_pixels(), self.all_pixels(), self.conv.output[1]);
        let mut columns = vec![0.0; self.column() * all];
        let rows = self.window_pixels() * all;
        columns.par_chunks_mut(rows).enumerate().for_each(|(channel, columns)| {
            for picture in 0..self.pictures {
                let x = &x[(picture * self.inputs + channel) * self.input_pixels()..][..self.input_pixels()];
                self.each_row(1, &(0..self.conv.output[0]), |_, row, at, span| {
                    // What lies outside stays zero.
                    let Some((row, from)) = row.zip(span.from) else { return };
                    let first = at / pixels * all + picture * pixels + at % pixels;
                    let target = &mut columns[first..first + width][span.inside.clone()];
                    let source = &x[row * self.input[1] + from..];
                    target
                        .iter_mut()
                        .zip(source.iter().step_by(self.conv.stride))
                        .for_each(|(to, value)| *to = *value);
                });
            }
        });
        columns
    }

    pub(super) fn forward_together(&self, x: &[f32], w: &[f32], epilogue: &Epilogue) -> Vec<f32> {
        let (pixels, all, column) = (self.output_pixels(), self.all_pixels(), self.column());
        let columns = self.all_columns(x);
        let mut output = Vec::with_capacity(self.filters * all);
        let target = Shared(output.as_mut_ptr());
        blocks(self.filters).into_par_iter().for_each(|block| {
            with_buffers([block.len() * all, 0], |[made, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    product_at(
                        [block.len(), all, column],
                        (made.as_mut_ptr(), all, 1),
                        (&w[block.start * column..], column, 1),
                        (&columns, all, 1),
                    );
                }
                for (filter, maps) in block.zip(made.chunks_mut(all)) {
                    for (picture, map) in maps.chunks_mut(pixels).enumerate() {
                        let at = (picture * self.filters + filter) * pixels;
                        epilogue.apply(map, filter, at);
                        // SAFETY: each task has filters of its own.
                        unsafe { target.at(at).copy_from_nonoverlapping(map.as_ptr(), pixels) };
                    }
                }
            });
        });
        // SAFETY: every filter of every picture was written.
        unsafe { output.set_len(self.filters * all) };
        output
    }

    pub(super) fn input_gradient_together(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (pixels, all, column) = (self.output_pixels(), self.all_pixels(), self.column());
        let (window, width) = (self.window_pixels(), self.conv.output[1]);
        let gradient = self.side_by_side(gradient, self.filters);
        let mut result = vec![0.0; self.pictures * self.inputs * self.input_pixels()];
        let target = Shared(result.as_mut_ptr());
        blocks(self.inputs).into_par_iter().for_each(|block| {
            let height = block.len() * window;
            with_buffers([height * all, 0], |[made, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    product_at(
                        [height, all, self.filters],
                        (made.as_mut_ptr(), all, 1),
                        (&w[block.start * window..], 1, column),
                        (&gradient, all, 1),
                    );
                }
                for (picture, channel) in
                    (0..self.pictures).flat_map(|at| block.clone().map(move |c| (at, c)))
                {
                    let first = (picture * self.inputs + channel) * self.input_pixels();
                    // SAFETY: each task has channels of its own.
                    let x = unsafe { std::slice::from_raw_parts_mut(target.at(first), self.input_pixels()) };
                    let made = &made[(channel - block.start) * window * all..];
                    self.each_row(1, &(0..self.conv.output[0]), |_, row, at, span| {
                        let Some((row, from)) = row.zip(span.from) else { return };
                        let source = &made[at / pixels * all + picture * pixels + at % pixels..][..width];
                        x[row * self.input[1] + from..]
                            .iter_mut()
                            .step_by(self.conv.stride)
                            .zip(&source[span.inside.clone()])
                            .for_each(|(to, value)| *to += value);
                    });
                }
            });
        });
        result
    }

    pub(super) fn kernel_gradient_together(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (all, column) = (self.all_pixels(), self.column());
        let (columns, gradient) = (self.all_columns(x), self.side_by_side(gradient, self.filters));
        let mut result = Vec::with_capacity(self.filters * column);
        let target = Shared(result.as_mut_ptr());
        blocks(self.filters).into_par_iter().for_each(|block| {
            // SAFETY: each task has filters of its own.
            unsafe {
                product_at(
                    [block.len(), column, all],
                    (target.at(block.start * column), column, 1),
                    (&gradient[block.start * all..], all, 1),
                    (&columns, 1, all),
                );
            }
        });
        // SAFETY: every filter's gradient was written.
        unsafe { result.set_len(self.filters * column) };
        result
    }
}
