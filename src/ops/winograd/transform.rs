//! The transforms of Winograd's algorithm, of kernels, of what is seen and of what is made.
//!
//! The points of interpolation are 0, ±3/4, ±3/2 and infinity: with them the error in single
//! precision is two to three times that of the plain sum, less than with Lavin's own, 0, ±1, ±2
//! (Barabasz et al. 2018, "Error analysis and improving the accuracy of Winograd convolution").

use std::ops::Range;

use pulp::NullaryFnOnce;

use crate::ops::after::Epilogue;
use crate::ops::by_columns::Shared;

/// Outputs of a square in each direction.
pub(super) const OUT: usize = 4;
/// Inputs that they see.
const IN: usize = 6;
pub(super) const PLACES: usize = IN * IN;
/// Channels that are transformed together.
pub(super) const LANES: usize = 16;

/// The points of interpolation beside 0 and infinity, each with both signs.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;

type Lanes = [f32; LANES];

/// `G g G'`, in double precision.
pub(super) fn kernel_transform(kernel: &[f32]) -> [f32; PLACES] {
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

/// What one picture and the squares on it are like.
pub(super) struct Sizes {
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) before: [usize; 2],
    /// Squares in each direction.
    pub(super) squares: [usize; 2],
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
pub(super) struct Seen<'a> {
    pub(super) sizes: &'a Sizes,
    pub(super) x: &'a [f32],
    pub(super) squares: Range<usize>,
    pub(super) channels: usize,
    /// Place, square, channel.
    pub(super) to: &'a mut [f32],
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
pub(super) struct Made<'a> {
    pub(super) sizes: &'a Sizes,
    /// Place, square, filter.
    pub(super) from: &'a [f32],
    pub(super) squares: Range<usize>,
    pub(super) filters: Range<usize>,
    /// So many filters there are in all.
    pub(super) of: usize,
    pub(super) epilogue: Epilogue<'a>,
    /// All maps; nobody else writes these squares of these filters.
    pub(super) target: &'a Shared,
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
