//! Transform matrices of Winograd's algorithm F(4x4, 3x3), applied to lines of a tile.
//!
//! In Lavin and Gray's notation: inputs `B' d B`, kernels `G g G'`, outputs `A' m A`. The interpolation
//! points are 0, ±3/4, ±3/2 and infinity. With them the error in single precision is two to three times
//! that of the direct sum. With Lavin and Gray's own points 0, ±1, ±2 it is larger (Barabasz et al.
//! 2018, "Error analysis and improving the accuracy of Winograd convolution").

use crate::ops::packed_gemm::LANES;

/// Side of a tile's outputs, in pixels.
pub(super) const OUT: usize = 4;
/// Side of the inputs that a tile reads, in pixels: its outputs, and one pixel of the window around them.
pub(super) const IN: usize = 6;
/// Tile positions: values of a transformed tile.
pub(super) const POSITIONS: usize = IN * IN;

/// The interpolation points besides 0 and infinity; each is used with both signs.
const SMALL_POINT: f32 = 0.75;
const LARGE_POINT: f32 = 1.5;

/// The values of [`LANES`] channels or filters, transformed together.
pub(super) type Lanes = [f32; LANES];

/// Distance between two tile positions in a buffer, in values. One vector is added to avoid powers of two,
/// which would use only a few cache sets.
#[inline]
pub(super) fn position_stride(tiles: usize, channels: usize) -> usize {
    tiles * channels + LANES
}

/// The kernel transform `G`, in double precision.
pub(super) fn kernel_matrix() -> [[f64; 3]; IN] {
    let (p, q) = (f64::from(SMALL_POINT), f64::from(LARGE_POINT));
    let (s, t) = (p * p, q * q);
    let line = |point: f64, divisor: f64| [1.0, point, point * point].map(|power| power / divisor);
    let (small, large) = (2.0 * s * (s - t), 2.0 * t * (t - s));
    [line(0.0, s * t), line(p, small), line(-p, small), line(q, large), line(-q, large), [0.0, 0.0, 1.0]]
}

/// Applies a line transform to the first `columns` columns of a tile, then to the first `rows` rows of
/// the result.
#[inline(always)]
pub(super) fn transform_2d(
    d: &[Lanes; POSITIONS],
    [columns, rows]: [usize; 2],
    line: impl Fn(&[Lanes; POSITIONS], &mut [Lanes; POSITIONS], usize, usize),
) -> [Lanes; POSITIONS] {
    let mut half = [[0f32; LANES]; POSITIONS];
    for column in 0..columns {
        line(d, &mut half, column, IN);
    }
    let mut transformed = [[0f32; LANES]; POSITIONS];
    for row in 0..rows {
        line(&half, &mut transformed, row * IN, 1);
    }
    transformed
}

/// Input transform `B' d` of one line: six values from index `first` on, at distance `stride`.
#[inline(always)]
pub(super) fn input_transform_line(
    d: &[Lanes; POSITIONS],
    to: &mut [Lanes; POSITIONS],
    first: usize,
    stride: usize,
) {
    for l in 0..LANES {
        let (a, b, c) = (d[first][l], d[first + stride][l], d[first + 2 * stride][l]);
        let (d, e, f) = (d[first + 3 * stride][l], d[first + 4 * stride][l], d[first + 5 * stride][l]);
        let (s, t) = (SMALL_POINT * SMALL_POINT, LARGE_POINT * LARGE_POINT);
        let (even, odd) = (e - t * c, SMALL_POINT * (d - t * b));
        let (even_large, odd_large) = (e - s * c, LARGE_POINT * (d - s * b));
        to[first][l] = s * t * a - (s + t) * c + e;
        to[first + stride][l] = even + odd;
        to[first + 2 * stride][l] = even - odd;
        to[first + 3 * stride][l] = even_large + odd_large;
        to[first + 4 * stride][l] = even_large - odd_large;
        to[first + 5 * stride][l] = s * t * b - (s + t) * d + f;
    }
}

/// Output transform `A' m` of one line.
#[inline(always)]
pub(super) fn output_transform_line(
    m: &[Lanes; POSITIONS],
    to: &mut [Lanes; POSITIONS],
    first: usize,
    stride: usize,
) {
    for l in 0..LANES {
        let (a, b, c) = (m[first][l], m[first + stride][l], m[first + 2 * stride][l]);
        let (d, e, f) = (m[first + 3 * stride][l], m[first + 4 * stride][l], m[first + 5 * stride][l]);
        let (s, t) = (SMALL_POINT * SMALL_POINT, LARGE_POINT * LARGE_POINT);
        let (even, even_large) = (b + c, d + e);
        let (odd, odd_large) = (SMALL_POINT * (b - c), LARGE_POINT * (d - e));
        to[first][l] = a + even + even_large;
        to[first + stride][l] = odd + odd_large;
        to[first + 2 * stride][l] = s * even + t * even_large;
        to[first + 3 * stride][l] = s * odd + t * odd_large + f;
    }
}

/// Gradient transform `A d` of one line, the adjoint of the output transform.
#[inline(always)]
pub(super) fn gradient_transform_line(
    d: &[Lanes; POSITIONS],
    to: &mut [Lanes; POSITIONS],
    first: usize,
    stride: usize,
) {
    for l in 0..LANES {
        let (a, b, c, d) =
            (d[first][l], d[first + stride][l], d[first + 2 * stride][l], d[first + 3 * stride][l]);
        let (s, t) = (SMALL_POINT * SMALL_POINT, LARGE_POINT * LARGE_POINT);
        let (even, odd) = (a + s * c, SMALL_POINT * (b + s * d));
        let (even_large, odd_large) = (a + t * c, LARGE_POINT * (b + t * d));
        to[first][l] = a;
        to[first + stride][l] = even + odd;
        to[first + 2 * stride][l] = even - odd;
        to[first + 3 * stride][l] = even_large + odd_large;
        to[first + 4 * stride][l] = even_large - odd_large;
        to[first + 5 * stride][l] = d;
    }
}
