//! Convolution with windows of 3 by 3 by a quarter of the products (Lavin and Gray 2015, "Fast
//! algorithms for convolutional neural networks", F(4x4, 3x3)).
//!
//! Squares of 4 by 4 outputs, with the 6 by 6 inputs that they see, are transformed, multiplied by
//! the transformed kernels, channels by filters, at each of the 36 places, and transformed back.
//! The kernels are transformed once and kept, so this is for kernels that do not learn; it has no
//! gradient.
//!
//! The points of interpolation are 0, ±3/4, ±3/2 and infinity: with them the error in single
//! precision is two to three times that of the plain sum, less than with Lavin's own, 0, ±1, ±2
//! (Barabasz et al. 2018, "Error analysis and improving the accuracy of Winograd convolution").

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pulp::NullaryFnOnce;
use rayon::prelude::*;

use super::Conv;
use super::after::{After, Epilogue};
use super::by_columns::{Shared, product_at};
use super::scratch::with_buffers;
use super::slices::{contiguous, values};

/// Outputs of a square in each direction.
const OUT: usize = 4;
/// Inputs that they see.
const IN: usize = 6;
const PLACES: usize = IN * IN;
/// Channels that are transformed together.
const LANES: usize = 16;
/// Squares of a task, at most.
const SQUARES: usize = 128;
/// Tasks that keep the cores of a common machine busy.
const ENOUGH: usize = 8;
/// Fewer filters are not worth a task.
const FEWEST: usize = 64;

/// The points of interpolation beside 0 and infinity, each with both signs.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;

type Lanes = [f32; LANES];

/// Kernels `[filters, channels, 3, 3]`, transformed.
#[derive(Debug)]
pub(crate) struct Kernels {
    filters: usize,
    channels: usize,
    /// Place, channel, filter.
    values: Vec<f32>,
    /// Of the kernels that these were made of.
    fingerprint: u64,
}

impl Kernels {
    /// Whether a convolution gains by this.
    pub(crate) fn suit(conv: &Conv, kernels: &Tensor) -> bool {
        let &[filters, channels, 3, 3] = kernels.dims() else { return false };
        let whole = |count: usize| count >= 2 * LANES && count.is_multiple_of(LANES);
        let large = conv.output.iter().all(|side| *side >= 2 * OUT);
        (conv.stride, conv.dilation, conv.groups) == (1, 1, 1) && whole(filters) && whole(channels) && large
    }

    /// Transforms kernels, unless these are the ones that were transformed before.
    pub(crate) fn of(kernels: &Tensor, known: Option<&Arc<Kernels>>) -> Result<Arc<Kernels>> {
        let (filters, channels, _, _) = kernels.dims4()?;
        let values = values(kernels)?;
        let fingerprint = fingerprint(&values);
        if let Some(known) = known.filter(|known| known.fingerprint == fingerprint) {
            return Ok(known.clone());
        }
        let mut transformed = vec![0.0; PLACES * channels * filters];
        let target = Shared(transformed.as_mut_ptr());
        (0..channels).into_par_iter().for_each(|channel| {
            for filter in 0..filters {
                let kernel = &values[(filter * channels + channel) * 9..][..9];
                for (place, value) in kernel_transform(kernel).into_iter().enumerate() {
                    // SAFETY: each channel has places of its own.
                    unsafe { *target.at((place * channels + channel) * filters + filter) = value };
                }
            }
        });
        Ok(Arc::new(Kernels { filters, channels, values: transformed, fingerprint }))
    }
}

/// A number that another set of kernels has not.
fn fingerprint(values: &[f32]) -> u64 {
    let of = |(at, part): (usize, &[f32])| {
        part.iter().fold(at as u64, |hash, value| {
            (hash.rotate_left(5) ^ u64::from(value.to_bits())).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        })
    };
    values.par_chunks(1 << 14).enumerate().map(of).reduce(|| 0, u64::wrapping_add)
}

/// `G g G'`, in double precision.
fn kernel_transform(kernel: &[f32]) -> [f32; PLACES] {
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let (s, t) = (near * near, far * far);
    let line = |point: f64, product: f64| [1.0, point, point * point].map(|power| power / product);
    let (of_near, of_far) = (2.0 * s * (s - t), 2.0 * t * (t - s));
    let g = [
        line(0.0, s * t),
        line(near, of_near),
        line(-near, of_near),
        line(far, of_far),
        line(-far, of_far),
        [0.0, 0.0, 1.0],
    ];
    let rows: [[f64; 3]; IN] =
        g.map(|g| std::array::from_fn(|x| (0..3).map(|y| g[y] * f64::from(kernel[3 * y + x])).sum()));
    std::array::from_fn(|at| {
        let (row, g) = (rows[at / IN], g[at % IN]);
        (0..3).map(|x| row[x] * g[x]).sum::<f64>() as f32
    })
}

/// The convolution of `[N, C, H, W]` with transformed kernels, for [`Tensor::apply_op1_no_bwd`].
pub(crate) struct Winograd {
    pub(crate) conv: Conv,
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) after: After,
}

/// What one picture and the squares on it are like.
struct Sizes {
    input: [usize; 2],
    output: [usize; 2],
    before: [usize; 2],
    /// Squares in each direction.
    squares: [usize; 2],
}

impl Winograd {
    fn forward(&self, x: &[f32], pictures: usize, input: [usize; 2], epilogue: Epilogue) -> Vec<f32> {
        let Kernels { filters, channels, .. } = *self.kernels;
        let Conv { output, before, .. } = self.conv;
        let sizes = Sizes { input, output, before, squares: output.map(|side| side.div_ceil(OUT)) };
        let outside = output[0] * output[1];
        let each = sizes.squares[0] * sizes.squares[1];
        let all = pictures * each;
        let blocks = all.div_ceil(SQUARES);
        // Of nearly the same size, whatever is left over.
        let block = |at: usize| at * all / blocks..(at + 1) * all / blocks;
        let parts = ENOUGH.div_ceil(blocks).min(filters.div_ceil(FEWEST));
        let part = |at: usize| {
            let lanes = filters / LANES;
            at * lanes / parts * LANES..(at + 1) * lanes / parts * LANES
        };
        let mut result = Vec::with_capacity(pictures * filters * outside);
        let target = Shared(result.as_mut_ptr());
        let arch = pulp::Arch::new();
        (0..blocks * parts).into_par_iter().for_each(|task| {
            let (squares, part) = (block(task / parts), part(task % parts));
            let (count, width) = (squares.len(), part.len());
            with_buffers([PLACES * count * channels, PLACES * count * width], |[seen, made]| {
                arch.dispatch(Seen { sizes: &sizes, x, squares: squares.clone(), channels, to: seen });
                for place in 0..PLACES {
                    // SAFETY: the buffer has room for each place's squares and filters.
                    unsafe {
                        product_at(
                            [width, count, channels],
                            (made[place * count * width..].as_mut_ptr(), 1, width),
                            (&self.kernels.values[place * channels * filters + part.start..], 1, filters),
                            (&seen[place * count * channels..], 1, channels),
                        );
                    }
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

impl Sizes {
    /// Of a square's places, in one direction, those that are inside; and the first of them.
    fn seen(&self, axis: usize, square: usize) -> (Range<usize>, usize) {
        let (start, before) = (square * OUT, self.before[axis]);
        let from = before.saturating_sub(start).min(IN);
        let to = (self.input[axis] + before).saturating_sub(start).clamp(from, IN);
        (from..to, (start + from).saturating_sub(before))
    }
}

/// Writes `B' d B` of some squares' inputs, at each of the 36 places.
struct Seen<'a> {
    sizes: &'a Sizes,
    x: &'a [f32],
    squares: Range<usize>,
    channels: usize,
    /// Place, square, channel.
    to: &'a mut [f32],
}

impl NullaryFnOnce for Seen<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Seen { sizes, x, squares, channels, to } = self;
        let [height, width] = sizes.input;
        let each = sizes.squares[0] * sizes.squares[1];
        let mut d = [[0f32; LANES]; PLACES];
        for (at, square) in squares.clone().enumerate() {
            let picture = &x[square / each * channels * height * width..][..channels * height * width];
            let (rows, top) = sizes.seen(0, square % each / sizes.squares[1]);
            let (columns, left) = sizes.seen(1, square % each % sizes.squares[1]);
            if rows.len() < IN || columns.len() < IN {
                d = [[0f32; LANES]; PLACES];
            }
            for first in (0..channels).step_by(LANES) {
                for lane in 0..LANES {
                    let map = &picture[(first + lane) * height * width..][..height * width];
                    for row in rows.clone() {
                        let line = &map[(top + row - rows.start) * width + left..][..columns.len()];
                        if columns.len() == IN {
                            for column in 0..IN {
                                d[row * IN + column][lane] = line[column];
                            }
                        } else {
                            for column in columns.clone() {
                                d[row * IN + column][lane] = line[column - columns.start];
                            }
                        }
                    }
                }
                let mut half = [[0f32; LANES]; PLACES];
                for column in 0..IN {
                    back(&d, &mut half, column, IN);
                }
                let mut whole = [[0f32; LANES]; PLACES];
                for row in 0..IN {
                    back(&half, &mut whole, row * IN, 1);
                }
                for (place, lanes) in whole.iter().enumerate() {
                    to[(place * squares.len() + at) * channels + first..][..LANES].copy_from_slice(lanes);
                }
            }
        }
    }
}

/// `B' d` of the line that begins at a place.
#[inline(always)]
fn back(d: &[Lanes; PLACES], to: &mut [Lanes; PLACES], at: usize, step: usize) {
    for l in 0..LANES {
        let (a, b, c) = (d[at][l], d[at + step][l], d[at + 2 * step][l]);
        let (d, e, f) = (d[at + 3 * step][l], d[at + 4 * step][l], d[at + 5 * step][l]);
        let (s, t) = (NEAR * NEAR, FAR * FAR);
        let (even, odd) = (e - t * c, NEAR * (d - t * b));
        let (even_far, odd_far) = (e - s * c, FAR * (d - s * b));
        to[at][l] = s * t * a - (s + t) * c + e;
        to[at + step][l] = even + odd;
        to[at + 2 * step][l] = even - odd;
        to[at + 3 * step][l] = even_far + odd_far;
        to[at + 4 * step][l] = even_far - odd_far;
        to[at + 5 * step][l] = s * t * b - (s + t) * d + f;
    }
}

/// Writes `A' m A` of some squares, with bias and ReLU, for some filters.
struct Made<'a> {
    sizes: &'a Sizes,
    /// Place, square, filter.
    from: &'a [f32],
    squares: Range<usize>,
    filters: Range<usize>,
    /// So many filters there are in all.
    of: usize,
    epilogue: Epilogue<'a>,
    /// All maps; nobody else writes these squares of these filters.
    target: &'a Shared,
}

impl NullaryFnOnce for Made<'_> {
    type Output = ();

    // Lanes run across arrays here, which no iterator of one of them shows.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let Made { sizes, from, squares, filters, of, epilogue, target } = self;
        let [height, width] = sizes.output;
        let each = sizes.squares[0] * sizes.squares[1];
        for (at, square) in squares.clone().enumerate() {
            let y = square % each / sizes.squares[1] * OUT;
            let x = square % each % sizes.squares[1] * OUT;
            let (rows, columns) = ((height - y).min(OUT), (width - x).min(OUT));
            for first in (0..filters.len()).step_by(LANES) {
                let mut m = [[0f32; LANES]; PLACES];
                for (place, lanes) in m.iter_mut().enumerate() {
                    let start = (place * squares.len() + at) * filters.len() + first;
                    lanes.copy_from_slice(&from[start..][..LANES]);
                }
                let mut half = [[0f32; LANES]; PLACES];
                for column in 0..IN {
                    forth(&m, &mut half, column, IN);
                }
                let mut whole = [[0f32; LANES]; PLACES];
                for row in 0..OUT {
                    forth(&half, &mut whole, row * IN, 1);
                }
                let map = square / each * of + filters.start + first;
                for lane in 0..LANES {
                    let (bias, affine) = epilogue.of(filters.start + first + lane);
                    for row in 0..rows {
                        let start = ((map + lane) * height + y + row) * width + x;
                        for column in 0..columns {
                            let mut value = whole[row * IN + column][lane];
                            if let Some(bias) = bias {
                                value += bias;
                            }
                            if let Some((scale, shift)) = affine {
                                value = value * scale + shift;
                            }
                            if let Some(residual) = epilogue.residual {
                                value += residual[start + column];
                            }
                            // So that a NaN stays one.
                            if epilogue.relu && value < 0.0 {
                                value = 0.0;
                            }
                            // SAFETY: the square's own outputs.
                            unsafe { *target.at(start + column) = value };
                        }
                    }
                }
            }
        }
    }
}

/// `A' m` of the line that begins at a place.
#[inline(always)]
fn forth(m: &[Lanes; PLACES], to: &mut [Lanes; PLACES], at: usize, step: usize) {
    for l in 0..LANES {
        let (a, b, c) = (m[at][l], m[at + step][l], m[at + 2 * step][l]);
        let (d, e, f) = (m[at + 3 * step][l], m[at + 4 * step][l], m[at + 5 * step][l]);
        let (s, t) = (NEAR * NEAR, FAR * FAR);
        let (near, far) = (b + c, d + e);
        let (across, beyond) = (NEAR * (b - c), FAR * (d - e));
        to[at][l] = a + near + far;
        to[at + step][l] = across + beyond;
        to[at + 2 * step][l] = s * near + t * far;
        to[at + 3 * step][l] = s * across + t * beyond + f;
    }
}

impl CustomOp1 for Winograd {
    fn name(&self) -> &'static str {
        "winograd-convolution"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (pictures, channels, height, width) = layout.shape().dims4()?;
        if channels != self.kernels.channels {
            bail!("convolution of {:?} with kernels for {} channels", layout.shape(), self.kernels.channels);
        }
        let [rows, columns] = self.conv.output;
        let shape = [pictures, self.kernels.filters, rows, columns];
        let x = contiguous(x, layout)?;
        let output =
            self.after.with(&shape, |epilogue| self.forward(x, pictures, [height, width], epilogue))?;
        Ok((CpuStorage::F32(output), shape.to_vec().into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn values(seed: u64, shape: &[usize]) -> Tensor {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

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
        for ([pictures, channels, height, width], filters, before) in [
            ([2, 32, 9, 14], 48, [1, 1]),
            ([1, 64, 10, 10], 32, [0, 0]),
            ([3, 128, 19, 18], 192, [1, 1]),
            ([1, 32, 11, 40], 64, [2, 0]),
        ] {
            let side = |axis: usize, side: usize| if before[axis] > 0 { side } else { side - 2 };
            let output = [side(0, height), side(1, width)];
            let conv = Conv { stride: 1, dilation: 1, groups: 1, before, output, relu: true };
            let x = values(1, &[pictures, channels, height, width]);
            let (w, b) = (values(2, &[filters, channels, 3, 3]), values(3, &[filters]));
            assert!(Kernels::suit(&conv, &w));
            let after = After { bias: Some(b.clone()), relu: true, ..After::default() };
            let quick = Winograd { conv, kernels: Kernels::of(&w, None)?, after };
            let exact = exact(&conv, &x, &w, &b);
            // Root of the mean square, and the worst.
            let error = |found: &Tensor| {
                let errors = flat(found).into_iter().zip(&exact).map(|(a, b)| (f64::from(a) - b).abs());
                let (squares, worst) =
                    errors.fold((0.0, 0f64), |(sum, worst), error| (sum + error * error, worst.max(error)));
                ((squares / exact.len() as f64).sqrt(), worst)
            };
            let found = x.apply_op1_no_bwd(&quick)?;
            let (mean, worst) = error(&found);
            let (mean_of_plain, worst_of_plain) = error(&x.apply_op3(&w, &b, conv)?);
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
            let alone = x.narrow(0, 0, 1)?.contiguous()?.apply_op1_no_bwd(&quick)?;
            assert_eq!(flat(&alone), flat(&found)[..alone.elem_count()]);
        }
        Ok(())
    }

    #[test]
    fn kernels_are_transformed_anew_when_they_change() -> Result<()> {
        let (w, other) = (values(1, &[32, 32, 3, 3]), values(2, &[32, 32, 3, 3]));
        let first = Kernels::of(&w, None)?;
        assert!(Arc::ptr_eq(&first, &Kernels::of(&w, Some(&first))?));
        assert!(!Arc::ptr_eq(&first, &Kernels::of(&other, Some(&first))?));
        Ok(())
    }
}
