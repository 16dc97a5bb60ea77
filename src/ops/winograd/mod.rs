//! Convolution with windows of 3 by 3 by a quarter of the products (Lavin and Gray 2015, "Fast
//! algorithms for convolutional neural networks", F(4x4, 3x3)).
//!
//! Squares of 4 by 4 outputs, with the 6 by 6 inputs that they see, are transformed, multiplied by
//! the transformed kernels, channels by filters, at each of the 36 places, and transformed back.
//! Kernels that do not learn are transformed once and kept, others for each batch. The input's gradient
//! is such a convolution too, with the kernels turned; the kernels' is a sum of products at each place,
//! of the inputs as transformed and the gradients as transformed by the adjoint of the way back.

mod learning;
mod transform;

use super::Conv;
use super::after::Epilogue;
use super::crew::each;
use super::products::{LANES, Products, blocks, part, part_of_filters, parts};
use super::scratch::with_buffers;
use super::slices::Shared;
use transform::{KernelsSeen, Made, PLACES, Seen, Sizes, apart};

/// Squares of a task, at most: whole tiles of the products, and not too many for a cache.
const SQUARES: usize = 72;
/// Of so few channels and filters the kernels are soon read again: half as many squares stay nearer.
const FEW: usize = 256;
/// Fewer filters are not worth a task.
const FEWEST: usize = 64;
/// Channels of a task that transforms kernels.
const CHANNELS: usize = 64;
/// Shorter sides of an output are mostly outside their squares.
const SMALLEST: usize = 7;

/// Kernels `[filters, channels, 3, 3]`, transformed.
#[derive(Debug)]
pub(super) struct Transformed {
    filters: usize,
    channels: usize,
    /// Place, panel of [`LANES`] filters, channel, filter of the panel.
    values: Vec<f32>,
}

impl Transformed {
    /// Of `[filters, channels, 3, 3]`; if they are turned, of `[channels, filters, 3, 3]` from the last
    /// pixel to the first.
    pub(super) fn of(kernels: &[f32], [filters, channels]: [usize; 2], turned: bool) -> Transformed {
        let mut values = Vec::with_capacity(PLACES * channels * filters);
        let target = Shared(values.as_mut_ptr());
        let arch = pulp::Arch::new();
        let parts = channels.div_ceil(CHANNELS);
        each(filters / LANES * parts, |task| {
            let (first, part) = (task / parts * LANES, part(channels, parts, task % parts));
            arch.dispatch(KernelsSeen { kernels, turned, filters, channels, first, part, target: &target });
        });
        // SAFETY: every channel of every panel was written.
        unsafe { values.set_len(PLACES * channels * filters) };
        Transformed { filters, channels, values }
    }

    /// Channels last, as a residual lies too.
    pub(super) fn convolve(&self, conv: &Conv, x: &[f32], sizes: [usize; 3], epilogue: Epilogue) -> Vec<f32> {
        let Transformed { filters, channels, .. } = *self;
        let [pictures, height, width] = sizes;
        let sizes = Sizes::of(conv, [height, width]);
        let outside = conv.output[0] * conv.output[1];
        let all = pictures * sizes.each();
        let blocks = blocks(all, if channels + filters <= FEW { SQUARES / 2 } else { SQUARES });
        let parts = parts(blocks).min(filters.div_ceil(FEWEST));
        let mut result = Vec::with_capacity(pictures * filters * outside);
        let target = Shared(result.as_mut_ptr());
        let arch = pulp::Arch::new();
        each(blocks * parts, |task| {
            let squares = part(all, blocks, task / parts);
            let part = part_of_filters(filters, parts, task % parts);
            let (count, width) = (squares.len(), part.len());
            let (of_seen, of_made) = (apart(count, channels), apart(count, width));
            with_buffers([PLACES * of_seen, PLACES * of_made], |[seen, made]| {
                arch.dispatch(Seen { sizes: &sizes, x, squares: squares.clone(), channels, to: seen });
                let seen = seen.chunks_exact(of_seen).map(|seen| &seen[..count * channels]);
                for (place, (seen, made)) in seen.zip(made.chunks_exact_mut(of_made)).enumerate() {
                    let kernels = |place| &self.values[(place * filters + part.start) * channels..];
                    // The task after this one begins anew.
                    let next = kernels((place + 1) % PLACES);
                    let kernels = &kernels(place)[..width * channels];
                    arch.dispatch(Products { channels, kernels, next, seen, made });
                }
                let (sizes, target) = (&sizes, &target);
                arch.dispatch(Made {
                    sizes,
                    from: made,
                    squares,
                    filters: part,
                    of: filters,
                    epilogue,
                    target,
                });
            });
        });
        // SAFETY: every square of every map was written.
        unsafe { result.set_len(pictures * filters * outside) };
        result
    }
}

/// What the sizes must be like, but for how many squares there are.
pub(super) fn suits(conv: &Conv, window: [usize; 2], counts: [usize; 2]) -> bool {
    let whole = |count: usize| count >= 2 * LANES && count.is_multiple_of(LANES);
    let large = conv.output.iter().all(|side| *side >= SMALLEST);
    let plain = (conv.stride, conv.dilation, conv.groups) == (1, 1, 1) && window == [3, 3];
    plain && counts.into_iter().all(whole) && large
}

#[cfg(test)]
mod tests {
    use candle_core::{Result, Tensor};

    use super::*;
    use crate::ops::channels_last::{Maps, channels_last};
    use crate::ops::tests::{flat, values};
    use crate::ops::{After, AtRest, Kernels, Order, planes};

    /// The plain sum, in double precision.
    fn exact(conv: &Conv, x: &Tensor, w: &Tensor, b: &Tensor) -> Vec<f64> {
        let ([pictures, channels, height, width], [filters, ..]) = (dims(x), dims(w));
        let (x, w, b) = (flat(x), flat(w), flat(b));
        let mut sums = Vec::new();
        let place = |picture, filter: usize, row: usize, column: usize| {
            let mut sum = f64::from(b[filter]);
            for channel in 0..channels {
                for (at, kernel) in w[(filter * channels + channel) * 9..][..9].iter().enumerate() {
                    let y = (row + at / 3).wrapping_sub(conv.before[0]);
                    let x_at = (column + at % 3).wrapping_sub(conv.before[1]);
                    if y < height && x_at < width {
                        let pixel = x[((picture * channels + channel) * height + y) * width + x_at];
                        sum += f64::from(pixel) * f64::from(*kernel);
                    }
                }
            }
            sum.max(0.0)
        };
        for picture in 0..pictures {
            for filter in 0..filters {
                for row in 0..conv.output[0] {
                    sums.extend((0..conv.output[1]).map(|column| place(picture, filter, row, column)));
                }
            }
        }
        sums
    }

    fn dims(t: &Tensor) -> [usize; 4] {
        t.dims4().unwrap().into()
    }

    #[test]
    fn outputs_are_the_sums_to_a_few_roundings() -> Result<()> {
        let mut learned = 0;
        for ([pictures, channels, height, width], filters, before) in [
            ([2, 32, 9, 14], 48, [1, 1]),
            ([1, 64, 10, 10], 32, [0, 0]),
            ([3, 128, 19, 18], 192, [1, 1]),
            ([1, 32, 11, 40], 64, [2, 0]),
            ([5, 96, 7, 7], 32, [1, 1]),
        ] {
            let side = |axis: usize, side: usize| if before[axis] > 0 { side } else { side - 2 };
            let output = [side(0, height), side(1, width)];
            let conv = Conv { stride: 1, dilation: 1, groups: 1, before, output, relu: true };
            let x = values(1, &[pictures, channels, height, width]);
            let (w, b) = (values(2, &[filters, channels, 3, 3]), values(3, &[filters]));
            assert_eq!(Order::of(&conv, &w, &x), Some(Order::Transformed));
            let after = After { bias: Some(b.clone()), relu: true, ..After::default() };
            let kernels = Kernels::of(&w, None, Order::Transformed, None)?;
            let quick = |x: &Tensor| {
                let quick = AtRest { conv, kernels: kernels.clone(), after: after.clone() };
                planes(&quick.apply(x)?)
            };
            let exact = exact(&conv, &x, &w, &b);
            // Root of the mean square, and the worst.
            let error = |found: &Tensor| {
                let errors = flat(found).into_iter().zip(&exact).map(|(a, b)| (f64::from(a) - b).abs());
                let (squares, worst) =
                    errors.fold((0.0, 0f64), |(sum, worst), error| (sum + error * error, worst.max(error)));
                ((squares / exact.len() as f64).sqrt(), worst)
            };
            let found = quick(&x)?;
            // Either way the input lies, the same bits.
            assert_eq!(flat(&quick(&channels_last(&x)?)?), flat(&found));
            let windows = conv.sizes(x.shape(), w.shape())?;
            if windows.are_quick() {
                // Learning or not, the same bits.
                assert_eq!(flat(&x.apply_op3(&w, &b, conv)?), flat(&found));
                learned += 1;
            }
            let (mean, worst) = error(&found);
            let epilogue = Epilogue { bias: Some(&flat(&b)), relu: true, ..Epilogue::default() };
            let plain = windows.forward(Maps::planes(&flat(&x)), &flat(&w), &epilogue);
            let plain = Tensor::from_vec(plain, found.shape(), found.device())?;
            let (mean_of_plain, worst_of_plain) = error(&plain);
            // So long is a sum of so many products of even values up to 1.
            let typical = (9.0 * channels as f64).sqrt() / 3.0;
            println!(
                "{channels} channels: off by {:.1e} of a typical output, at worst {:.1e}; the plain sum {:.1e} and {:.1e}",
                mean / typical,
                worst / typical,
                mean_of_plain / typical,
                worst_of_plain / typical
            );
            assert!(mean < 4.0 * mean_of_plain && worst < 2e-5 * typical, "{mean}, {worst}");
            // A picture is the same in any company.
            let alone = quick(&x.narrow(0, 0, 1)?.contiguous()?)?;
            assert_eq!(flat(&alone), flat(&found)[..alone.elem_count()]);
        }
        assert!(learned > 0);
        Ok(())
    }

    #[test]
    fn what_is_added_may_lie_either_way() -> Result<()> {
        let conv = Conv { stride: 1, dilation: 1, groups: 1, before: [1, 1], output: [9, 14], relu: false };
        let (x, w) = (values(1, &[2, 32, 9, 14]), values(2, &[48, 32, 3, 3]));
        let (affine, other) = ((values(3, &[48]), values(4, &[48])), values(5, &[2, 48, 9, 14]));
        let kernels = Kernels::of(&w, None, Order::Transformed, None)?;
        let quick = |residual: Option<Tensor>, relu: bool| {
            let after = After { affine: Some(affine.clone()), residual, relu, ..After::default() };
            AtRest { conv, kernels: kernels.clone(), after }.apply(&x)
        };
        let expected = flat(&(planes(&quick(None, false)?)? + &other)?.relu()?);
        assert_eq!(flat(&quick(Some(other.clone()), true)?), expected);
        assert_eq!(flat(&quick(Some(channels_last(&other)?), true)?), expected);
        Ok(())
    }
}
