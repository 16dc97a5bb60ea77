//! Convolution of maps so small that a picture alone would not fill the registers of a matrix
//! product: the columns of all pictures stand side by side in one matrix.

use std::ops::Range;

use super::after::Epilogue;
use super::by_columns::product_at;
use super::channels_last::Maps;
use super::crew::{each, each_of, each_piece};
use super::scratch::with_buffers;
use super::slices::Shared;
use super::windows::Windows;

/// Fewer output pixels than these are small.
const SMALL: usize = 128;
/// Those of one picture alone, where each task would lay out the same columns.
const SMALL_ALONE: usize = 256;
/// Filters or channels of a task, at least.
const BLOCK: usize = 128;
/// Tasks that keep the cores of a common machine busy.
const ENOUGH: usize = 8;
/// Fewer pixels, or numbers of a window, are not worth a task.
const NARROWEST: usize = 128;
/// Outside the picture.
const OUTSIDE: u32 = u32::MAX;

/// Blocks of channels, and beside each, where these make too few tasks, so many parts of what the
/// product is as wide as: `width` numbers in `pieces` that stay whole.
fn tasks(channels: usize, pieces: usize, width: usize) -> Vec<(Range<usize>, Range<usize>)> {
    // Each block lays out the other matrix anew.
    let blocks = channels.div_ceil(BLOCK).clamp(1, 2 * rayon::current_num_threads());
    let parts = ENOUGH.div_ceil(blocks).min(width / NARROWEST).clamp(1, pieces.max(1));
    let part = move |at: usize| at * pieces / parts..(at + 1) * pieces / parts;
    (0..blocks)
        .map(|at| at * channels / blocks..(at + 1) * channels / blocks)
        .flat_map(|block| (0..parts).map(move |at| (block.clone(), part(at))))
        .collect()
}

impl Windows {
    /// Whether a batch is better taken together.
    pub(super) fn are_small(&self) -> bool {
        let small = match self.pictures {
            1 if self.is_pointwise() => 0,
            1 => SMALL_ALONE,
            _ => SMALL,
        };
        self.conv.groups == 1 && self.output_pixels() < small
    }

    /// Pixels of the whole batch's outputs.
    fn all_pixels(&self) -> usize {
        self.pictures * self.output_pixels()
    }

    /// From `[N, channels, pixels]` to `[channels, N, pixels]`.
    fn side_by_side(&self, values: &[f32], channels: usize) -> Vec<f32> {
        let pixels = self.output_pixels();
        let mut together = vec![0.0; values.len()];
        each_piece(&mut together, self.pictures * pixels, |channel, maps| {
            for (picture, map) in maps.chunks_mut(pixels).enumerate() {
                map.copy_from_slice(&values[(picture * channels + channel) * pixels..][..pixels]);
            }
        });
        together
    }

    /// For each pixel of a window, and each output, the pixel of the picture that it sees.
    fn places(&self) -> Vec<u32> {
        let mut places = vec![OUTSIDE; self.window_pixels() * self.output_pixels()];
        self.each_row(1, &(0..self.conv.output[0]), |_, row, at, span| {
            let Some((row, from)) = row.zip(span.from) else { return };
            let first = row * self.input[1] + from;
            for (step, place) in places[at..][span.inside.clone()].iter_mut().enumerate() {
                *place = (first + step * self.conv.stride) as u32;
            }
        });
        places
    }

    /// The windows of all pictures: a row for each pixel of a window, `[C · window, N, pixels]`.
    fn all_columns(&self, x: &[f32]) -> Vec<f32> {
        if self.is_pointwise() {
            return self.side_by_side(x, self.inputs);
        }
        let (pixels, all, window) = (self.output_pixels(), self.all_pixels(), self.window_pixels());
        let places = self.places();
        let mut columns: Vec<f32> = Vec::with_capacity(self.column() * all);
        let target = Shared(columns.as_mut_ptr());
        each(self.inputs, |channel| {
            for picture in 0..self.pictures {
                let x = &x[(picture * self.inputs + channel) * self.input_pixels()..][..self.input_pixels()];
                for (at, places) in places.chunks(pixels).enumerate() {
                    let first = (channel * window + at) * all + picture * pixels;
                    for (pixel, place) in places.iter().enumerate() {
                        let value = x.get(*place as usize).copied().unwrap_or(0.0);
                        // SAFETY: each task has a channel of its own.
                        unsafe { target.at(first + pixel).write(value) };
                    }
                }
            }
        });
        // SAFETY: every pixel of every window was written.
        unsafe { columns.set_len(self.column() * all) };
        columns
    }

    pub(super) fn forward_together(&self, x: Maps, w: &[f32], epilogue: &Epilogue) -> Vec<f32> {
        let (pixels, all, column) = (self.output_pixels(), self.all_pixels(), self.column());
        let made;
        // Pixels whose channels come last are columns already.
        let (columns, [row, pixel]) = match x.channels_last {
            true => (x.values, [1, column]),
            false => {
                made = self.all_columns(x.values);
                (made.as_slice(), [all, 1])
            }
        };
        let mut output: Vec<f32> = Vec::with_capacity(self.filters * all);
        let target = Shared(output.as_mut_ptr());
        let (whole, each) = epilogue.parted();
        each_of(&tasks(self.filters, self.pictures, all), |(block, pictures)| {
            let (block, pictures) = (block.clone(), pictures.clone());
            let width = pictures.len() * pixels;
            with_buffers([block.len() * width, 0], |[made, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    product_at(
                        [block.len(), width, column],
                        (made.as_mut_ptr(), width, 1),
                        (&w[block.start * column..], column, 1),
                        (&columns[pictures.start * pixels * pixel..], row, pixel),
                    );
                }
                for (filter, maps) in block.zip(made.chunks_mut(width)) {
                    whole.apply(maps, filter, 0);
                    for (picture, map) in pictures.clone().zip(maps.chunks_mut(pixels)) {
                        let at = (picture * self.filters + filter) * pixels;
                        each.apply(map, filter, at);
                        // SAFETY: each task has filters of its own, or pictures.
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
        let (window, places) = (self.window_pixels(), self.places());
        let gradient = self.side_by_side(gradient, self.filters);
        let mut result = vec![0.0; self.pictures * self.inputs * self.input_pixels()];
        let target = Shared(result.as_mut_ptr());
        each_of(&tasks(self.inputs, self.pictures, all), |(block, pictures)| {
            let (block, pictures) = (block.clone(), pictures.clone());
            let (height, width) = (block.len() * window, pictures.len() * pixels);
            with_buffers([height * width, 0], |[made, _]| {
                // SAFETY: the buffer has room for the product.
                unsafe {
                    product_at(
                        [height, width, self.filters],
                        (made.as_mut_ptr(), width, 1),
                        (&w[block.start * window..], 1, column),
                        (&gradient[pictures.start * pixels..], all, 1),
                    );
                }
                for (channel, made) in block.zip(made.chunks(window * width)) {
                    for picture in pictures.clone() {
                        let first = (picture * self.inputs + channel) * self.input_pixels();
                        // SAFETY: each task has channels of its own, or pictures.
                        let x =
                            unsafe { std::slice::from_raw_parts_mut(target.at(first), self.input_pixels()) };
                        let made = made.chunks(width).map(|row| &row[(picture - pictures.start) * pixels..]);
                        for (made, places) in made.zip(places.chunks(pixels)) {
                            for (value, place) in made.iter().zip(places) {
                                if let Some(pixel) = x.get_mut(*place as usize) {
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

    pub(super) fn kernel_gradient_together(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (all, column) = (self.all_pixels(), self.column());
        let (columns, gradient) = (self.all_columns(x), self.side_by_side(gradient, self.filters));
        let mut result = Vec::with_capacity(self.filters * column);
        let target = Shared(result.as_mut_ptr());
        each_of(&tasks(self.filters, column, column), |(block, part)| {
            // SAFETY: each task has filters of its own, or pixels of their windows.
            unsafe {
                product_at(
                    [block.len(), part.len(), all],
                    (target.at(block.start * column + part.start), column, 1),
                    (&gradient[block.start * all..], all, 1),
                    (&columns[part.start * all..], 1, all),
                );
            }
        });
        // SAFETY: every filter's gradient was written.
        unsafe { result.set_len(self.filters * column) };
        result
    }
}
