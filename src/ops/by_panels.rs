//! Convolution of maps whose channels come last, as a matrix product of what each output pixel sees
//! and of kernels that do not learn.
//!
//! A window of one pixel sees that pixel's channels, as they lie. Other windows are laid out, row after
//! row, for some outputs at a time.

use std::iter::StepBy;
use std::ops::{Range, RangeFrom};

use pulp::{Simd, WithSimd};

use super::after::Epilogue;
use super::crew::{each, each_piece};
use super::products::{LANES, Products, blocks, part, part_of_filters, parts};
use super::scratch::with_buffers;
use super::slices::Shared;
use super::windows::Windows;

/// Outputs of a task, at most. With fewer, the kernels of wide layers are read from memory too often.
const OUTPUTS: usize = 192;
/// Fewer filters are not worth a task.
const FILTERS: usize = 64;

/// Kernels `[filters, channels, height, width]` as they are read.
#[derive(Debug)]
pub(super) struct Panels {
    /// Panel of [`LANES`] filters, pixel of the window, channel, filter of the panel.
    values: Vec<f32>,
}

impl Panels {
    /// Of whole panels of filters.
    pub(super) fn of(kernels: &[f32], channels: usize, pixels: usize) -> Panels {
        let column = channels * pixels;
        let mut values = vec![0f32; kernels.len()];
        each_piece(&mut values, LANES * column, |at, panel| {
            let kernels = &kernels[at * LANES * column..][..LANES * column];
            for (at, lanes) in panel.chunks_exact_mut(LANES).enumerate() {
                let from = at % channels * pixels + at / channels;
                lanes
                    .iter_mut()
                    .zip(kernels[from..].iter().step_by(column))
                    .for_each(|(to, from)| *to = *from);
            }
        });
        Panels { values }
    }

    /// Channels last, as a residual lies too.
    pub(super) fn convolve(&self, windows: &Windows, x: &[f32], epilogue: Epilogue) -> Vec<f32> {
        assert!(windows.conv.groups == 1);
        let (column, filters) = (windows.column(), windows.filters);
        let outputs = windows.pictures * windows.output_pixels();
        let blocks = blocks(outputs, OUTPUTS);
        let parts = parts(blocks).min(filters.div_ceil(FILTERS));
        let mut result = Vec::with_capacity(outputs * filters);
        let target = Shared(result.as_mut_ptr());
        let arch = pulp::Arch::new();
        each(blocks * parts, |task| {
            let block = part(outputs, blocks, task / parts);
            let part = part_of_filters(filters, parts, task % parts);
            let laid_out = if windows.is_pointwise() { 0 } else { block.len() * column };
            with_buffers([laid_out, block.len() * part.len()], |[buffer, made]| {
                let seen = match windows.is_pointwise() {
                    true => &x[block.start * column..block.end * column],
                    false => lay_out(windows, x, block.clone(), buffer),
                };
                let kernels = &self.values[part.start * column..part.end * column];
                // The task after this one is likely to begin with the same.
                arch.dispatch(Products { channels: column, kernels, next: kernels, seen, made });
                let places = (block.start * filters + part.start..).step_by(filters);
                let epilogue = epilogue.of_filters(part.clone());
                arch.dispatch(Finish { made, filters: part.len(), places, epilogue, target: &target });
            });
        });
        // SAFETY: every filter of every output was written.
        unsafe { result.set_len(outputs * filters) };
        result
    }
}

/// What some outputs see, window after window.
fn lay_out<'a>(windows: &Windows, x: &[f32], outputs: Range<usize>, to: &'a mut [f32]) -> &'a [f32] {
    let Windows { conv, inputs: channels, input: [height, width], window, .. } = *windows;
    // A row of the window lies in one piece, unless its pixels lie apart.
    let (pieces, pixels) = if conv.dilation == 1 { (1, window[1]) } else { (window[1], 1) };
    let (mut picture, at) =
        (outputs.start / windows.output_pixels(), outputs.start % windows.output_pixels());
    let [mut row, mut column] = [at / conv.output[1], at % conv.output[1]];
    let mut rest = &mut *to;
    for _ in outputs {
        for (y, piece) in (0..window[0]).flat_map(|y| (0..pieces).map(move |piece| (y, piece))) {
            let y = (row * conv.stride + y * conv.dilation).checked_sub(conv.before[0]);
            // Of the padded row: the pixels of the piece, and those that are inside.
            let first = column * conv.stride + piece * conv.dilation;
            let inside = first.max(conv.before[1])..(first + pixels).min(conv.before[1] + width);
            match y.filter(|y| *y < height && !inside.is_empty()) {
                Some(y) => {
                    let from = ((picture * height + y) * width + inside.start - conv.before[1]) * channels;
                    let (start, end) = ((inside.start - first) * channels, (inside.end - first) * channels);
                    rest[..start].fill(0.0);
                    copy(&mut rest[start..], &x[from..], end - start);
                    rest[end..pixels * channels].fill(0.0);
                }
                None => rest[..pixels * channels].fill(0.0),
            }
            rest = &mut rest[pixels * channels..];
        }
        column += 1;
        if column == conv.output[1] {
            (row, column) = (row + 1, 0);
        }
        if row == conv.output[0] {
            (picture, row) = (picture + 1, 0);
        }
    }
    to
}

/// Copies so many numbers; where they are few, some more, which is quicker. What follows them must not
/// have been written yet.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32], count: usize) {
    const FEW: usize = 24;
    match (to.first_chunk_mut::<FEW>(), from.first_chunk::<FEW>()) {
        (Some(to), Some(from)) if count <= FEW => *to = *from,
        _ => to[..count].copy_from_slice(&from[..count]),
    }
}

/// What follows a convolution, done to some filters of some outputs on the way to their places. It is
/// not done where the sums are made: there the next line would be of another output, far away.
struct Finish<'a> {
    /// Output, filter.
    made: &'a [f32],
    filters: usize,
    /// Where each output's filters begin.
    places: StepBy<RangeFrom<usize>>,
    /// Of these filters, but for a residual of all.
    epilogue: Epilogue<'a>,
    /// All outputs; nobody else writes these.
    target: &'a Shared,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Finish { made, filters, places, epilogue, target } = self;
        for (made, place) in made.chunks_exact(filters).zip(places) {
            let residual = epilogue.residual.map(|residual| &residual[place..place + filters]);
            let epilogue = Epilogue { residual, ..epilogue };
            for (at, sums) in S::as_simd_f32s(made).0.iter().enumerate() {
                let filter = at * S::F32_LANES;
                let value = epilogue.of_vector(simd, *sums, filter);
                // SAFETY: the task's own outputs.
                unsafe { target.at(place + filter).cast::<S::f32s>().write_unaligned(value) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Result;

    use crate::ops::at_rest::Order;
    use crate::ops::channels_last::{channels_last, planes};
    use crate::ops::tests::{flat, values};
    use crate::ops::{After, AtRest, Conv, Kernels};

    /// Against the same convolution of maps that lie plane after plane.
    #[test]
    fn outputs_are_those_of_planes() -> Result<()> {
        for ([pictures, channels, height, width], [filters, window], [stride, dilation, before]) in [
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
            let x = values(1, &[pictures, channels, height, width]);
            let w = values(2, &[filters, channels, window, window]);
            let shape = [pictures, filters, output[0], output[1]];
            let bias = values(3, &[filters]);
            let after = After {
                bias: Some(bias.clone()),
                affine: Some((values(4, &[filters]), values(5, &[filters]))),
                residual: Some(values(6, &shape)),
                relu: true,
            };
            for after in [After::default(), After { bias: Some(bias), relu: true, ..After::default() }, after]
            {
                let turned = channels_last(&x)?;
                assert_eq!(Order::of(&conv, &w, &turned), Some(Order::Panels));
                let kernels = Kernels::of(&w, None, Order::Panels, None)?;
                let at_rest = |x: &candle_core::Tensor, after: After| {
                    planes(&AtRest { conv, kernels: kernels.clone(), after }.apply(x)?)
                };
                let found = at_rest(&turned, after.clone())?;
                let expected = crate::ops::AtOnce { conv, after: after.clone() }.apply(&x, &w)?;
                assert_eq!(found.dims(), expected.dims());
                let worst = flat(&(&found - &expected)?.abs()?).into_iter().fold(0f32, f32::max);
                assert!(worst < 2e-6 * (channels * window * window) as f32, "{worst}");
                // A picture is the same in any company.
                if after.residual.is_none() && pictures > 1 {
                    let last = channels_last(&x.narrow(0, pictures - 1, 1)?.contiguous()?)?;
                    let alone = flat(&at_rest(&last, after)?);
                    let all = flat(&found);
                    assert_eq!(alone, all[all.len() - alone.len()..]);
                }
            }
        }
        Ok(())
    }
}
