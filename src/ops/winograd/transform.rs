//! The transforms of Winograd's algorithm: of kernels, of what is seen and of what is made, and back
//! for their gradients.
//!
//! The points of interpolation are 0, ±3/4, ±3/2 and infinity: with them the error in single
//! precision is two to three times that of the plain sum, less than with Lavin's own, 0, ±1, ±2
//! (Barabasz et al. 2018, "Error analysis and improving the accuracy of Winograd convolution").

use std::ops::Range;

use pulp::NullaryFnOnce;

use crate::ops::Conv;
use crate::ops::after::Epilogue;
use crate::ops::products::LANES;
use crate::ops::slices::Shared;

/// Outputs of a square in each direction.
const OUT: usize = 4;
/// Inputs that they see.
const IN: usize = 6;
pub(super) const PLACES: usize = IN * IN;

/// The points of interpolation beside 0 and infinity, each with both signs.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;

type Lanes = [f32; LANES];

/// How far two places of so many squares, or filters, are apart: not by a power of two, for which
/// caches have few lines.
pub(super) fn apart(squares: usize, channels: usize) -> usize {
    squares * channels + LANES
}

/// `G`, in double precision.
fn of_kernels() -> [[f64; 3]; IN] {
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let (s, t) = (near * near, far * far);
    let line = |point: f64, product: f64| [1.0, point, point * point].map(|power| power / product);
    let (of_near, of_far) = (2.0 * s * (s - t), 2.0 * t * (t - s));
    [
        line(0.0, s * t),
        line(near, of_near),
        line(-near, of_near),
        line(far, of_far),
        line(-far, of_far),
        [0.0, 0.0, 1.0],
    ]
}

/// Writes `G g G'` of the kernels of one panel of filters, for some channels.
pub(super) struct KernelsSeen<'a> {
    /// Filter, channel, pixel; if they are turned, channel, filter, pixel from the last to the first.
    pub(super) kernels: &'a [f32],
    pub(super) turned: bool,
    pub(super) filters: usize,
    pub(super) channels: usize,
    /// The panel's first filter.
    pub(super) first: usize,
    pub(super) part: Range<usize>,
    /// Place, panel of [`LANES`] filters, channel, filter of the panel; nobody else writes these channels
    /// of the panel.
    pub(super) target: &'a Shared,
}

impl NullaryFnOnce for KernelsSeen<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let KernelsSeen { kernels, turned, filters, channels, first, part, target } = self;
        let g = of_kernels();
        for channel in part {
            let mut kernel = [[0f64; LANES]; 9];
            for lane in 0..LANES {
                let filter = first + lane;
                let at = if turned { channel * filters + filter } else { filter * channels + channel };
                for (pixel, value) in kernels[at * 9..][..9].iter().enumerate() {
                    kernel[if turned { 8 - pixel } else { pixel }][lane] = f64::from(*value);
                }
            }
            let mut rows = [[[0f64; LANES]; 3]; IN];
            for (row, g) in rows.iter_mut().zip(g) {
                for x in 0..3 {
                    for lane in 0..LANES {
                        row[x][lane] =
                            g[0] * kernel[x][lane] + g[1] * kernel[3 + x][lane] + g[2] * kernel[6 + x][lane];
                    }
                }
            }
            for place in 0..PLACES {
                let (row, g) = (&rows[place / IN], g[place % IN]);
                let mut whole = [0f32; LANES];
                for lane in 0..LANES {
                    whole[lane] = (g[0] * row[0][lane] + g[1] * row[1][lane] + g[2] * row[2][lane]) as f32;
                }
                // SAFETY: the task's own places.
                let to = unsafe { target.at((place * filters + first) * channels + channel * LANES) };
                // SAFETY: so many filters are left, for they are a multiple of these.
                unsafe { std::ptr::copy_nonoverlapping(whole.as_ptr(), to, LANES) };
            }
        }
    }
}

/// Writes `G' m G` of one filter's sums, the gradients of its kernels.
pub(super) struct KernelsMade<'a> {
    /// Place, filter, channel; places are [`apart`].
    pub(super) sums: &'a [f32],
    pub(super) filters: usize,
    pub(super) channels: usize,
    pub(super) filter: usize,
    /// Channel, pixel.
    pub(super) to: &'a mut [f32],
}

impl NullaryFnOnce for KernelsMade<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let KernelsMade { sums, filters, channels, filter, to } = self;
        let g = of_kernels();
        for first in (0..channels).step_by(LANES) {
            let mut rows = [[[0f64; LANES]; 3]; IN];
            for place in 0..PLACES {
                let sums = &sums[place * apart(filters, channels) + filter * channels + first..][..LANES];
                let sums: [f64; LANES] = std::array::from_fn(|lane| f64::from(sums[lane]));
                for (row, g) in rows[place / IN].iter_mut().zip(g[place % IN]) {
                    for lane in 0..LANES {
                        row[lane] += g * sums[lane];
                    }
                }
            }
            let mut kernels = [[0f32; 9]; LANES];
            for pixel in 0..9 {
                let mut whole = [0f64; LANES];
                for (row, g) in rows.iter().zip(g) {
                    for lane in 0..LANES {
                        whole[lane] += g[pixel / 3] * row[pixel % 3][lane];
                    }
                }
                for lane in 0..LANES {
                    kernels[lane][pixel] = whole[lane] as f32;
                }
            }
            to[first * 9..][..LANES * 9].copy_from_slice(kernels.as_flattened());
        }
    }
}

/// What one picture and the squares on it are like.
pub(super) struct Sizes {
    input: [usize; 2],
    output: [usize; 2],
    before: [usize; 2],
    /// Squares in each direction.
    squares: [usize; 2],
}

impl Sizes {
    pub(super) fn of(conv: &Conv, input: [usize; 2]) -> Sizes {
        let Conv { output, before, .. } = *conv;
        Sizes { input, output, before, squares: output.map(|side| side.div_ceil(OUT)) }
    }

    /// Squares of a picture.
    pub(super) fn each(&self) -> usize {
        self.squares[0] * self.squares[1]
    }

    /// Of a square among those of all pictures: its picture, where its outputs begin there, and how
    /// many rows and columns of them are inside.
    fn made(&self, square: usize) -> (usize, [usize; 2], [usize; 2]) {
        let (picture, square) = (square / self.each(), square % self.each());
        let start = [square / self.squares[1] * OUT, square % self.squares[1] * OUT];
        (picture, start, [0, 1].map(|axis| (self.output[axis] - start[axis]).min(OUT)))
    }

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
    /// Channels last.
    pub(super) x: &'a [f32],
    pub(super) squares: Range<usize>,
    pub(super) channels: usize,
    /// Place, square, channel; places are [`apart`].
    pub(super) to: &'a mut [f32],
}

impl NullaryFnOnce for Seen<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Seen { sizes, x, squares, channels, to } = self;
        let [height, width] = sizes.input;
        let (each, apart) = (sizes.each(), apart(squares.len(), channels));
        let mut d = [[0f32; LANES]; PLACES];
        for (at, square) in squares.clone().enumerate() {
            let picture = &x[square / each * channels * height * width..][..channels * height * width];
            let (rows, top) = sizes.seen(0, square % each / sizes.squares[1]);
            let (columns, left) = sizes.seen(1, square % each % sizes.squares[1]);
            if rows.len() < IN || columns.len() < IN {
                d = [[0f32; LANES]; PLACES];
            }
            for first in (0..channels).step_by(LANES) {
                for row in rows.clone() {
                    let line = (top + row - rows.start) * width + left;
                    for column in columns.clone() {
                        let pixel = (line + column - columns.start) * channels + first;
                        d[row * IN + column].copy_from_slice(&picture[pixel..][..LANES]);
                    }
                }
                let whole = both_ways(&d, [IN, IN], back);
                for (place, lanes) in whole.iter().enumerate() {
                    to[place * apart + at * channels + first..][..LANES].copy_from_slice(lanes);
                }
            }
        }
    }
}

/// A transform of lines, of so many columns and then of so many rows of what they became.
#[inline(always)]
fn both_ways(
    d: &[Lanes; PLACES],
    [columns, rows]: [usize; 2],
    line: impl Fn(&[Lanes; PLACES], &mut [Lanes; PLACES], usize, usize),
) -> [Lanes; PLACES] {
    let mut half = [[0f32; LANES]; PLACES];
    for column in 0..columns {
        line(d, &mut half, column, IN);
    }
    let mut whole = [[0f32; LANES]; PLACES];
    for row in 0..rows {
        line(&half, &mut whole, row * IN, 1);
    }
    whole
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
    /// Place, square, filter; places are [`apart`].
    pub(super) from: &'a [f32],
    pub(super) squares: Range<usize>,
    pub(super) filters: Range<usize>,
    /// So many filters there are in all.
    pub(super) of: usize,
    /// A residual lies channels last.
    pub(super) epilogue: Epilogue<'a>,
    /// All maps, channels last; nobody else writes these squares of these filters.
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
        let apart = apart(squares.len(), filters.len());
        for (at, square) in squares.clone().enumerate() {
            let (picture, [y, x], [rows, columns]) = sizes.made(square);
            for first in (0..filters.len()).step_by(LANES) {
                let mut m = [[0f32; LANES]; PLACES];
                for (place, lanes) in m.iter_mut().enumerate() {
                    let start = place * apart + at * filters.len() + first;
                    lanes.copy_from_slice(&from[start..][..LANES]);
                }
                let whole = both_ways(&m, [IN, OUT], forth);
                let filter = filters.start + first;
                let lanes = |all: &[f32]| Lanes::try_from(&all[filter..][..LANES]).expect("so many lanes");
                let bias = epilogue.bias.map(lanes);
                let affine = epilogue.affine.map(|(scale, shift)| (lanes(scale), lanes(shift)));
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let mut values = whole[row * IN + column];
                    let pixel = (picture * height + y + row) * width + x + column;
                    if let Some(bias) = bias {
                        for lane in 0..LANES {
                            values[lane] += bias[lane];
                        }
                    }
                    if let Some((scale, shift)) = affine {
                        for lane in 0..LANES {
                            values[lane] = values[lane] * scale[lane] + shift[lane];
                        }
                    }
                    if let Some(residual) = epilogue.residual {
                        let residual = &residual[pixel * of + filter..][..LANES];
                        for lane in 0..LANES {
                            values[lane] += residual[lane];
                        }
                    }
                    if epilogue.relu {
                        for value in &mut values {
                            // So that a NaN stays one.
                            *value = if *value < 0.0 { 0.0 } else { *value };
                        }
                    }
                    // SAFETY: the square's own outputs.
                    unsafe {
                        target.at(pixel * of + filter).copy_from_nonoverlapping(values.as_ptr(), LANES)
                    };
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

/// Writes `A d A'` of some squares' gradients, at each of the 36 places.
pub(super) struct Spread<'a> {
    pub(super) sizes: &'a Sizes,
    /// Channels last.
    pub(super) gradient: &'a [f32],
    pub(super) squares: Range<usize>,
    pub(super) filters: usize,
    /// Place, square, filter; places are [`apart`].
    pub(super) to: &'a mut [f32],
}

impl NullaryFnOnce for Spread<'_> {
    type Output = ();

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn call(self) {
        let Spread { sizes, gradient, squares, filters, to } = self;
        let [height, width] = sizes.output;
        let apart = apart(squares.len(), filters);
        for (at, square) in squares.clone().enumerate() {
            let (picture, [y, x], [rows, columns]) = sizes.made(square);
            let picture = &gradient[picture * filters * height * width..][..filters * height * width];
            for first in (0..filters).step_by(LANES) {
                // What is outside stays zero.
                let mut d = [[0f32; LANES]; PLACES];
                for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                    let pixel = ((y + row) * width + x + column) * filters + first;
                    d[row * IN + column].copy_from_slice(&picture[pixel..][..LANES]);
                }
                let whole = both_ways(&d, [OUT, IN], spread);
                for (place, lanes) in whole.iter().enumerate() {
                    to[place * apart + at * filters + first..][..LANES].copy_from_slice(lanes);
                }
            }
        }
    }
}

/// `A d` of the line that begins at a place.
#[inline(always)]
fn spread(d: &[Lanes; PLACES], to: &mut [Lanes; PLACES], at: usize, step: usize) {
    for l in 0..LANES {
        let (a, b, c, d) = (d[at][l], d[at + step][l], d[at + 2 * step][l], d[at + 3 * step][l]);
        let (s, t) = (NEAR * NEAR, FAR * FAR);
        let (even, odd) = (a + s * c, NEAR * (b + s * d));
        let (even_far, odd_far) = (a + t * c, FAR * (b + t * d));
        to[at][l] = a;
        to[at + step][l] = even + odd;
        to[at + 2 * step][l] = even - odd;
        to[at + 3 * step][l] = even_far + odd_far;
        to[at + 4 * step][l] = even_far - odd_far;
        to[at + 5 * step][l] = d;
    }
}
