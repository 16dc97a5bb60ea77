//! Moving the pixels of a picture: one affine map, bilinear, the edge repeated outside.
//!
//! The same as `scipy.ndimage.affine_transform(order=1, mode='nearest')` with the matrices of
//! Keras's `apply_affine_transform` (`keras/src/legacy/preprocessing/image.py`).

/// What to do to one picture. Rows come first, as in Keras: `ty` there moves along the width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    /// Rotation in degrees.
    pub theta: f64,
    /// Shift along the height, in pixels.
    pub tx: f64,
    /// Shift along the width, in pixels.
    pub ty: f64,
    /// Zoom along the height and the width: below 1 enlarges.
    pub zx: f64,
    pub zy: f64,
}

impl Affine {
    pub(crate) const IDENTITY: Affine = Affine { theta: 0.0, tx: 0.0, ty: 0.0, zx: 1.0, zy: 1.0 };

    /// Where an output pixel `(row, column)` comes from: `[a, b, c]` for `a·row + b·column + c`.
    fn rows(&self, height: usize, width: usize) -> [[f64; 3]; 2] {
        let (sin, cos) = self.theta.to_radians().sin_cos();
        // rotation · shift · zoom
        let linear = [[cos * self.zx, -sin * self.zy], [sin * self.zx, cos * self.zy]];
        let shift = [cos * self.tx - sin * self.ty, sin * self.tx + cos * self.ty];
        // about the centre
        let (oy, ox) = (height as f64 / 2.0 - 0.5, width as f64 / 2.0 - 0.5);
        let row = |i: usize, centre: f64| {
            [linear[i][0], linear[i][1], shift[i] + centre - linear[i][0] * oy - linear[i][1] * ox]
        };
        [row(0, oy), row(1, ox)]
    }

    /// Moves the pixels of `[channels, height, width]`.
    pub(crate) fn apply(&self, picture: &[f32], height: usize, width: usize) -> Vec<f32> {
        if *self == Affine::IDENTITY {
            return picture.to_vec();
        }
        let [by_row, by_column] = self.rows(height, width);
        let pixels = height * width;
        let mut output = vec![0f32; picture.len()];
        for row in 0..height {
            for column in 0..width {
                let at = |[a, b, c]: [f64; 3]| a * row as f64 + b * column as f64 + c;
                let y = at(by_row).clamp(0.0, (height - 1) as f64);
                let x = at(by_column).clamp(0.0, (width - 1) as f64);
                let (y0, x0) = (y as usize, x as usize);
                let (y1, x1) = ((y0 + 1).min(height - 1), (x0 + 1).min(width - 1));
                let (fy, fx) = ((y - y0 as f64) as f32, (x - x0 as f64) as f32);
                let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
                let from = [y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1];
                let channels = picture.chunks(pixels).zip(output.chunks_mut(pixels));
                for (input, output) in channels {
                    output[row * width + column] =
                        from.iter().zip(weights).map(|(at, weight)| input[*at] * weight).sum();
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
