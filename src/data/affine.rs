//! Moving the pixels of a picture: one affine map, bilinear.
//!
//! The same as `scipy.ndimage.affine_transform(order=1)` with the matrices of Keras's
//! `apply_affine_transform` (`keras/src/legacy/preprocessing/image.py`).

/// What to do to one picture. Rows come first, as in Keras: `ty` there moves along the width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    /// Rotation in degrees.
    pub theta: f64,
    /// Shift along the height, in pixels.
    pub tx: f64,
    /// Shift along the width, in pixels.
    pub ty: f64,
    /// Shear in degrees.
    pub shear: f64,
    /// Zoom along the height and the width: below 1 enlarges.
    pub zx: f64,
    pub zy: f64,
}

/// What is seen beyond the edge of a picture, of which `abcd` is a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum FillMode {
    /// The edge: `aaaa|abcd|dddd`.
    #[default]
    Nearest,
    /// This value: `kkkk|abcd|kkkk`. Keras calls it `cval`.
    Constant(f32),
    /// The picture in a mirror: `dcba|abcd|dcba`.
    Reflect,
    /// The picture again; the first and the last pixel fall together, as SciPy has it.
    Wrap,
}

impl FillMode {
    /// The two pixels of a row of `length` between which a place is, and how near it is to the second;
    /// `None` where there is none.
    #[inline]
    fn place(self, at: f64, length: usize) -> Option<(usize, usize, f32)> {
        let last = (length - 1) as f64;
        let at = match self {
            FillMode::Nearest => at.clamp(0.0, last),
            FillMode::Constant(_) if at < 0.0 || at > last => return None,
            FillMode::Constant(_) => at,
            FillMode::Wrap if last == 0.0 => 0.0,
            FillMode::Wrap => {
                if (0.0..=last).contains(&at) {
                    at
                } else {
                    at.rem_euclid(last)
                }
            }
            FillMode::Reflect => {
                let low = at.floor();
                let mirrored = |at: f64| {
                    let at = at.rem_euclid(2.0 * length as f64) as usize;
                    if at < length { at } else { 2 * length - 1 - at }
                };
                return Some((mirrored(low), mirrored(low + 1.0), (at - low) as f32));
            }
        };
        let low = at as usize;
        Some((low, (low + 1).min(length - 1), (at - low as f64) as f32))
    }
}

impl Affine {
    pub(crate) const IDENTITY: Affine = Affine { theta: 0.0, tx: 0.0, ty: 0.0, shear: 0.0, zx: 1.0, zy: 1.0 };

    /// Where an output pixel `(row, column)` comes from: `[a, b, c]` for `a·row + b·column + c`.
    fn rows(&self, height: usize, width: usize) -> [[f64; 3]; 2] {
        let (sin, cos) = self.theta.to_radians().sin_cos();
        let (slant, upright) = self.shear.to_radians().sin_cos();
        // rotation · shift · shear · zoom
        let linear = [
            [cos * self.zx, (-cos * slant - sin * upright) * self.zy],
            [sin * self.zx, (-sin * slant + cos * upright) * self.zy],
        ];
        let shift = [cos * self.tx - sin * self.ty, sin * self.tx + cos * self.ty];
        // about the centre
        let (oy, ox) = (height as f64 / 2.0 - 0.5, width as f64 / 2.0 - 0.5);
        let row = |i: usize, centre: f64| {
            [linear[i][0], linear[i][1], shift[i] + centre - linear[i][0] * oy - linear[i][1] * ox]
        };
        [row(0, oy), row(1, ox)]
    }

    /// Moves the pixels of `[channels, height, width]`.
    pub(crate) fn apply(&self, picture: &[f32], height: usize, width: usize, fill: FillMode) -> Vec<f32> {
        if *self == Affine::IDENTITY {
            return picture.to_vec();
        }
        let [by_row, by_column] = self.rows(height, width);
        let pixels = height * width;
        let outside = if let FillMode::Constant(value) = fill { value } else { 0.0 };
        let mut output = vec![0f32; picture.len()];
        let mut places = vec![([0usize; 4], [0f32; 4]); width];
        for row in 0..height {
            let start = [by_row, by_column].map(|[a, _, c]| a * row as f64 + c);
            for (column, place) in places.iter_mut().enumerate() {
                let y = fill.place(start[0] + by_row[1] * column as f64, height);
                let x = fill.place(start[1] + by_column[1] * column as f64, width);
                *place = match (y, x) {
                    (Some((y0, y1, fy)), Some((x0, x1, fx))) => (
                        [y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1],
                        [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx],
                    ),
                    // No weight: beside the picture.
                    _ => ([0; 4], [f32::NAN; 4]),
                };
            }
            for (input, output) in picture.chunks(pixels).zip(output.chunks_mut(pixels)) {
                for (output, (from, weights)) in output[row * width..].iter_mut().zip(&places) {
                    *output = match weights[0].is_nan() {
                        true => outside,
                        false => {
                            input[from[0]] * weights[0]
                                + input[from[1]] * weights[1]
                                + input[from[2]] * weights[2]
                                + input[from[3]] * weights[3]
                        }
                    };
                }
            }
        }
        output
    }
}

/// Mirrors each row.
pub(crate) fn flip_horizontally(picture: &mut [f32], width: usize) {
    picture.chunks_mut(width).for_each(<[f32]>::reverse);
}

/// Turns each channel upside down.
pub(crate) fn flip_vertically(picture: &mut [f32], height: usize, width: usize) {
    for channel in picture.chunks_mut(height * width) {
        for row in 0..height / 2 {
            let (above, below) = channel.split_at_mut((height - 1 - row) * width);
            above[row * width..(row + 1) * width].swap_with_slice(&mut below[..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/affine.py` wrote these with SciPy and Keras's matrices.
    #[test]
    fn pixels_move_as_scipy_moves_them() {
        let fixture = include_bytes!("../../tests/fixtures/affine.safetensors");
        let tensors = candle_core::safetensors::load_buffer(fixture, &candle_core::Device::Cpu).unwrap();
        let picture = tensors["picture"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (_, height, width) = tensors["picture"].dims3().unwrap();
        let parameters = tensors["parameters"].to_vec2::<f64>().unwrap();
        let modes = [FillMode::Nearest, FillMode::Constant(77.0), FillMode::Reflect, FillMode::Wrap];
        for (mode, name) in modes.iter().zip(["nearest", "constant", "reflect", "wrap"]) {
            let expected = tensors[name].flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!((parameters.len(), expected.len()), (10, 10));
            for (p, expected) in parameters.iter().zip(expected) {
                let affine = Affine { theta: p[0], tx: p[1], ty: p[2], shear: p[3], zx: p[4], zy: p[5] };
                let moved = affine.apply(&picture, height, width, *mode);
                let worst = moved.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(worst < 1e-3, "{name}, {affine:?}: {worst}");
            }
        }
    }

    #[test]
    fn flips_are_their_own_opposites() {
        let picture: Vec<f32> = (0..2 * 3 * 4).map(|v| v as f32).collect();
        let mut flipped = picture.clone();
        flip_horizontally(&mut flipped, 4);
        assert_eq!(flipped[..4], [3.0, 2.0, 1.0, 0.0]);
        flip_horizontally(&mut flipped, 4);
        flip_vertically(&mut flipped, 3, 4);
        assert_eq!(flipped[..4], [8.0, 9.0, 10.0, 11.0]);
        flip_vertically(&mut flipped, 3, 4);
        assert_eq!(flipped, picture);
    }
}
