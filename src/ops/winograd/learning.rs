//! A convolution that learns, and its gradients, each of fewer products.

use std::ops::Range;

use super::transform::{KernelsMade, PLACES, Seen, Sizes, Spread, apart};
use super::{SQUARES, Transformed, suits};
use crate::ops::Conv;
use crate::ops::after::Epilogue;
use crate::ops::by_columns::product;
use crate::ops::crew::each_piece;
use crate::ops::products::part;
use crate::ops::scratch::with_buffers;
use crate::ops::transpose::turned;
use crate::ops::windows::Windows;

/// Fewer squares are not worth a transform of the kernels.
const LEAST: usize = 64;
/// Numbers that the transforms for the kernels' gradients take at a time, unless threads would be idle:
/// the products find them in a near cache.
const AT_ONCE: usize = 1 << 20;

impl Windows {
    /// Whether it gains by this, with the kernels transformed for one batch.
    pub(in crate::ops) fn are_quick(&self) -> bool {
        let enough = self.pictures * Sizes::of(&self.conv, self.input).each() >= LEAST;
        suits(&self.conv, self.window, [self.filters, self.inputs]) && enough
    }

    /// Of maps that lie one after the other, as the outputs do: the bits of a convolution at rest.
    pub(in crate::ops) fn quick_forward(&self, x: &[f32], w: &[f32], epilogue: Epilogue) -> Vec<f32> {
        let [height, width] = self.input;
        let pixels = turned(x, [self.pictures, self.inputs, self.input_pixels()]);
        let kernels = Transformed::of(w, [self.filters, self.inputs], false);
        let outputs = kernels.convolve(&self.conv, &pixels, [self.pictures, height, width], epilogue);
        drop(pixels);
        turned(&outputs, [self.pictures, self.output_pixels(), self.filters])
    }

    /// The convolution of the output's gradient that gives the input's, if it is one.
    pub(in crate::ops) fn turned(&self) -> Option<Windows> {
        let [Some(top), Some(left)] = self.conv.before.map(|before| 2usize.checked_sub(before)) else {
            return None;
        };
        let conv = Conv { before: [top, left], output: self.input, relu: false, ..self.conv };
        let turned =
            Windows { conv, inputs: self.filters, filters: self.inputs, input: self.conv.output, ..*self };
        turned.are_quick().then_some(turned)
    }

    /// Of a [`turned`](Self::turned) one, channels last both.
    pub(in crate::ops) fn quick_input_gradient(&self, w: &[f32], gradient: &[f32]) -> Vec<f32> {
        let [height, width] = self.input;
        let kernels = Transformed::of(w, [self.filters, self.inputs], true);
        let sizes = [self.pictures, height, width];
        kernels.convolve(&self.conv, gradient, sizes, Epilogue::default())
    }

    /// Of inputs and gradients that lie channels last.
    pub(in crate::ops) fn quick_kernel_gradient(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (filters, channels) = (self.filters, self.inputs);
        let sizes = Sizes::of(&self.conv, self.input);
        let all = self.pictures * sizes.each();
        // However many threads there are: the sums are rounded block by block.
        let blocks = all.div_ceil(SQUARES);
        let (of_seen, of_spread) = (PLACES * apart(SQUARES, channels), PLACES * apart(SQUARES, filters));
        let at_once = (AT_ONCE / (of_seen + of_spread)).max(rayon::current_num_threads()).min(blocks);
        let of_sums = apart(filters, channels);
        let arch = pulp::Arch::new();
        with_buffers([at_once * (of_seen + of_spread), PLACES * of_sums], |[transformed, sums]| {
            let (seen, spread) = transformed.split_at_mut(at_once * of_seen);
            for first in (0..blocks).step_by(at_once) {
                let blocks: Vec<Range<usize>> =
                    (first..(first + at_once).min(blocks)).map(|at| part(all, blocks, at)).collect();
                each_piece(&mut seen[..blocks.len() * of_seen], of_seen, |at, to| {
                    let (sizes, squares) = (&sizes, blocks[at].clone());
                    arch.dispatch(Seen { sizes, x, squares, channels, to });
                });
                each_piece(&mut spread[..blocks.len() * of_spread], of_spread, |at, to| {
                    let (sizes, squares) = (&sizes, blocks[at].clone());
                    arch.dispatch(Spread { sizes, gradient, squares, filters, to });
                });
                let parts = || seen.chunks(of_seen).zip(spread.chunks(of_spread)).zip(&blocks);
                each_piece(sums, of_sums, |place, sums| {
                    for (at, ((seen, spread), squares)) in (first..).zip(parts()) {
                        let count = squares.len();
                        // SAFETY: the place's own sums.
                        unsafe {
                            product(
                                [filters, channels, count],
                                (sums.as_mut_ptr(), channels, at > 0),
                                (&spread[place * apart(count, filters)..], 1, filters),
                                (&seen[place * apart(count, channels)..], channels, 1),
                            );
                        }
                    }
                });
            }
            let mut result = vec![0f32; filters * channels * 9];
            each_piece(&mut result, channels * 9, |filter, to| {
                arch.dispatch(KernelsMade { sums, filters, channels, filter, to });
            });
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::channels_last::{pixels, seen_as_maps};
    use crate::ops::tests::{flat, values};
    use candle_core::{Device, Result, Tensor};

    #[test]
    fn gradients_are_the_sums_to_a_few_roundings() -> Result<()> {
        for ([pictures, channels, height, width], filters, before) in
            [([2, 32, 19, 26], 48, [1, 1]), ([11, 48, 10, 13], 32, [0, 0]), ([3, 32, 17, 18], 32, [2, 1])]
        {
            let output = [height + 2 * before[0] - 2, width + 2 * before[1] - 2];
            let conv = Conv { stride: 1, dilation: 1, groups: 1, before, output, relu: false };
            let (x, w) =
                (values(4, &[pictures, channels, height, width]), values(5, &[filters, channels, 3, 3]));
            let gradient = values(6, &[pictures, filters, output[0], output[1]]);
            let (pixels_of_x, pixels_of_gradient) = (flat(&pixels(&x)?), flat(&pixels(&gradient)?));
            let gradient = flat(&gradient);
            let windows = conv.sizes(x.shape(), w.shape())?;
            let turned = windows.turned().filter(|_| windows.are_quick()).expect("the sizes suit");
            let (x, w) = (flat(&x), flat(&w));
            let of_pixels = turned.quick_input_gradient(&w, &pixels_of_gradient);
            let of_pixels = Tensor::from_vec(of_pixels, (pictures, height, width, channels), &Device::Cpu)?;
            let (mut of_x, mut of_w) = (vec![0f64; x.len()], vec![0f64; w.len()]);
            for (at, gradient) in gradient.iter().enumerate() {
                let (column, row) = (at % output[1], at / output[1] % output[0]);
                let (filter, picture) =
                    (at / output[0] / output[1] % filters, at / output[0] / output[1] / filters);
                for (k, pixel) in (0..channels * 9).map(|k| (filter * channels * 9 + k, k % 9)) {
                    let y = (row + pixel / 3).wrapping_sub(before[0]);
                    let x_at = (column + pixel % 3).wrapping_sub(before[1]);
                    if y < height && x_at < width {
                        let channel = k / 9 % channels;
                        let from = ((picture * channels + channel) * height + y) * width + x_at;
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
            for (name, quick, plain, exact) in [
                ("input", flat(&seen_as_maps(&of_pixels)?), windows.input_gradient(&w, &gradient), &of_x),
                (
                    "kernels",
                    windows.quick_kernel_gradient(&pixels_of_x, &pixels_of_gradient),
                    windows.kernel_gradient(&x, &gradient),
                    &of_w,
                ),
            ] {
                let (quick, plain) = (error(&quick, exact), error(&plain, exact));
                println!(
                    "gradient of the {name}: off by {quick:.1e} of its length, the plain sum by {plain:.1e}"
                );
                assert!(quick < 6.0 * plain && quick < 1e-6, "{name}: {quick} beside {plain}");
            }
        }
        Ok(())
    }
}
