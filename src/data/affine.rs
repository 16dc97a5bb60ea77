//! Affine transforms of images, with bilinear interpolation.
//!
//! Equivalent to `scipy.ndimage.affine_transform(order=1)` with the matrices of Keras's
//! `apply_affine_transform` (`keras/src/legacy/preprocessing/image.py`).

/// The parameters of an affine transform. As in Keras, rows come first: `ty` shifts along the width.
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
    /// Zoom along the height (`zx`) and the width (`zy`). Values below 1 enlarge.
    pub zx: f64,
    pub zy: f64,
}

/// How points outside the image are filled. In the examples, `abcd` is a row of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum FillMode {
    /// Repeats the edge pixel: `aaaa|abcd|dddd`.
    #[default]
    Nearest,
    /// Uses this value: `kkkk|abcd|kkkk`. Keras calls it `cval`.
    Constant(f32),
    /// Mirrors the image: `dcba|abcd|dcba`.
    Reflect,
    /// Repeats the image. The first and the last pixel coincide, as in SciPy.
    Wrap,
}

impl FillMode {
    /// Maps a position that may be outside a row of `length` pixels to one inside. `None` if the fill
    /// value applies.
    #[inline]
    fn inside(self, at: f64, length: usize) -> Option<f64> {
        let last = (length - 1) as f64;
        match self {
            FillMode::Nearest => Some(at.clamp(0.0, last)),
            FillMode::Constant(_) => (0.0..=last).contains(&at).then_some(at),
            FillMode::Wrap if last == 0.0 => Some(0.0),
            FillMode::Wrap if (0.0..=last).contains(&at) => Some(at),
            FillMode::Wrap => Some(at.rem_euclid(last)),
            FillMode::Reflect => {
                // The period runs from the outer edge of the first pixel to the outer edge of the last,
                // and back.
                let whole = length as f64;
                let turn = (at + 0.5).rem_euclid(2.0 * whole);
                let turn = if turn < whole { turn } else { 2.0 * whole - turn };
                Some((turn - 0.5).clamp(0.0, last))
            }
        }
    }
}

/// Number of output columns computed together. The input pixels of a rotated image for these columns
/// stay in the L1 cache from row to row.
const BLOCK: usize = 64;

/// The source positions of some pixels of an output row. `top_left` is the index of the upper left of
/// four input pixels. `weight_down` and `weight_right` are the interpolation weights towards the lower and the right
/// pixels.
struct SourcePixels {
    top_left: [usize; BLOCK],
    weight_down: [f32; BLOCK],
    weight_right: [f32; BLOCK],
    /// Width of the image in pixels.
    width: usize,
}

/// Marks a source position outside the image.
const OUTSIDE: usize = usize::MAX;

impl Affine {
    pub(crate) const IDENTITY: Affine = Affine { theta: 0.0, tx: 0.0, ty: 0.0, shear: 0.0, zx: 1.0, zy: 1.0 };

    /// Returns the source row and the source column of output pixel `(row, column)`. Each is given as
    /// the coefficients `[a, b, c]` of `a·row + b·column + c`.
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

    /// Applies the transform to an image `[channels, height, width]`.
    pub(crate) fn apply(
        &self,
        image: &[f32],
        output: &mut [f32],
        height: usize,
        width: usize,
        fill: FillMode,
    ) {
        // Bilinear interpolation needs at least two rows and two columns.
        if *self == Affine::IDENTITY || height < 2 || width < 2 {
            return output.copy_from_slice(image);
        }
        let [by_row, by_column] = self.rows(height, width);
        let outside = if let FillMode::Constant(value) = fill { value } else { 0.0 };
        let mut source = SourcePixels {
            top_left: [OUTSIDE; BLOCK],
            weight_down: [0.0; BLOCK],
            weight_right: [0.0; BLOCK],
            width,
        };
        let pixels = height * width;
        for (block, row) in
            (0..width).step_by(BLOCK).flat_map(|block| (0..height).map(move |row| (block, row)))
        {
            let columns = BLOCK.min(width - block);
            let [y, x] = [by_row, by_column].map(|[a, b, c]| a * row as f64 + b * block as f64 + c);
            for column in 0..columns {
                let y = fill.inside(y + by_row[1] * column as f64, height);
                let x = fill.inside(x + by_column[1] * column as f64, width);
                let (Some(y), Some(x)) = (y, x) else {
                    source.top_left[column] = OUTSIDE;
                    continue;
                };
                // At the last row or column, the last pixel is the second of its pair.
                let (top, left) = ((y as u32).min(height as u32 - 2), (x as u32).min(width as u32 - 2));
                source.top_left[column] = top as usize * width + left as usize;
                source.weight_down[column] = (y - f64::from(top)) as f32;
                source.weight_right[column] = (x - f64::from(left)) as f32;
            }
            let start = row * width + block;
            for (input, output) in image.chunks(pixels).zip(output.chunks_mut(pixels)) {
                let mixed = source.mix(input, outside);
                output[start..start + columns].copy_from_slice(&mixed[..columns]);
            }
        }
    }
}

impl SourcePixels {
    /// Interpolates a part of a row of one channel.
    fn mix(&self, input: &[f32], outside: f32) -> [f32; BLOCK] {
        std::array::from_fn(|at| {
            match input.get(self.top_left[at]..self.top_left[at].saturating_add(self.width + 2)) {
                Some(four) => {
                    let (weight_down, weight_right) = (self.weight_down[at], self.weight_right[at]);
                    let upper = four[0] + weight_right * (four[1] - four[0]);
                    let lower = four[self.width] + weight_right * (four[self.width + 1] - four[self.width]);
                    upper + weight_down * (lower - upper)
                }
                None => outside,
            }
        })
    }
}

/// Flips each row left to right.
pub(crate) fn flip_horizontally(image: &mut [f32], width: usize) {
    image.chunks_mut(width).for_each(<[f32]>::reverse);
}

/// Flips each channel upside down.
pub(crate) fn flip_vertically(image: &mut [f32], height: usize, width: usize) {
    for channel in image.chunks_mut(height * width) {
        for row in 0..height / 2 {
            let (above, below) = channel.split_at_mut((height - 1 - row) * width);
            above[row * width..(row + 1) * width].swap_with_slice(&mut below[..width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/affine.py` computed the expected values with SciPy and Keras's matrices.
    #[test]
    fn affine_matches_scipy() {
        let fixture = include_bytes!("../../tests/fixtures/affine.safetensors");
        let tensors = candle_core::safetensors::load_buffer(fixture, &candle_core::Device::Cpu).unwrap();
        let image = tensors["image"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (_, height, width) = tensors["image"].dims3().unwrap();
        let parameters = tensors["parameters"].to_vec2::<f64>().unwrap();
        let modes = [FillMode::Nearest, FillMode::Constant(77.0), FillMode::Reflect, FillMode::Wrap];
        for (mode, name) in modes.iter().zip(["nearest", "constant", "reflect", "wrap"]) {
            let expected = tensors[name].flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!((parameters.len(), expected.len()), (10, 10));
            for (p, expected) in parameters.iter().zip(expected) {
                let affine = Affine { theta: p[0], tx: p[1], ty: p[2], shear: p[3], zx: p[4], zy: p[5] };
                let mut moved = vec![0f32; image.len()];
                affine.apply(&image, &mut moved, height, width, *mode);
                let worst = moved.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(worst < 1e-3, "{name}, {affine:?}: {worst}");
            }
        }
    }

    #[test]
    fn flips_are_their_own_inverse() {
        let image: Vec<f32> = (0..2 * 3 * 4).map(|v| v as f32).collect();
        let mut flipped = image.clone();
        flip_horizontally(&mut flipped, 4);
        assert_eq!(flipped[..4], [3.0, 2.0, 1.0, 0.0]);
        flip_horizontally(&mut flipped, 4);
        flip_vertically(&mut flipped, 3, 4);
        assert_eq!(flipped[..4], [8.0, 9.0, 10.0, 11.0]);
        flip_vertically(&mut flipped, 3, 4);
        assert_eq!(flipped, image);
    }
}
