//! The augmentation of a single image.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::statistics::Statistics;
use super::{ImageDataGenerator, Shift, Zoom};
use crate::data::affine::{Affine, FillMode, flip_horizontally, flip_vertically};

/// Value of a cut-out rectangle, for pixels from 0 to 255.
const GREY: f32 = 127.5;

/// The part of an image that is cropped and resized to the whole size.
#[derive(Clone, Copy, Debug)]
struct Crop {
    top: f64,
    left: f64,
    height: f64,
    width: f64,
}

impl ImageDataGenerator {
    /// Writes a random variant of `image`, `[channels, height, width]`, into `varied`.
    pub(super) fn vary(
        &self,
        image: &[f32],
        varied: &mut [f32],
        (height, width): (usize, usize),
        random: &mut ChaCha8Rng,
        statistics: Option<&Statistics>,
    ) {
        let affine = self.affine(height, width, random);
        affine.apply(image, varied, height, width, self.fill_mode);
        let pixels = height * width;
        if let Some((min, max)) = self.resized_crop {
            let whole = varied.to_vec();
            crop(height, width, (min, max), random).apply(&whole, varied, height, width);
        }
        let range = self.channel_shift_range;
        if range > 0.0 {
            shift_channels(varied, random.random_range(-range..=range) as f32);
        }
        if self.horizontal_flip && random.random_bool(0.5) {
            flip_horizontally(varied, width);
        }
        if self.vertical_flip && random.random_bool(0.5) {
            flip_vertically(varied, height, width);
        }
        if let Some((min, max)) = self.brightness_range {
            brighten(varied, random.random_range(min..=max) as f32);
        }
        if let Some(jitter) = self.color_jitter {
            let factors = jitter.map(|far| random.random_range(1.0 - far..=1.0 + far) as f32);
            change_colours(varied, pixels, factors);
        }
        if self.cutout > 0.0 {
            let side = |whole: usize| (whole as f64 * self.cutout).round() as usize;
            let (rows, columns) = (side(height), side(width));
            let (top, left) = (random.random_range(0..height), random.random_range(0..width));
            // The centre may be anywhere in the image, so the rectangle may extend beyond the edge.
            let span = |middle: usize, size: usize, whole: usize| {
                middle.saturating_sub(size / 2)..(middle + size.div_ceil(2)).min(whole)
            };
            for channel in varied.chunks_mut(pixels) {
                for row in span(top, rows, height) {
                    channel[row * width..][span(left, columns, width)].fill(GREY);
                }
            }
        }
        self.standardize(varied, pixels, statistics);
    }

    fn affine(&self, height: usize, width: usize, random: &mut ChaCha8Rng) -> Affine {
        fn either_way(range: f64, random: &mut ChaCha8Rng) -> f64 {
            if range == 0.0 { 0.0 } else { random.random_range(-range..=range) }
        }
        let shift = |shift: &Shift, side: usize, random: &mut ChaCha8Rng| match shift {
            Shift::Range(range) if *range < 1.0 => either_way(range * side as f64, random),
            Shift::Range(range) => either_way(*range, random),
            Shift::OneOf(amounts) => {
                let amount = amounts[random.random_range(0..amounts.len())];
                let amount = if random.random_bool(0.5) { amount } else { -amount };
                if amounts.iter().all(|amount| *amount < 1.0) { amount * side as f64 } else { amount }
            }
        };
        let zoom = |Zoom(min, max): Zoom, random: &mut ChaCha8Rng| {
            if min == max { min } else { random.random_range(min..=max) }
        };
        Affine {
            theta: either_way(self.rotation_range, random),
            tx: shift(&self.height_shift_range, height, random),
            ty: shift(&self.width_shift_range, width, random),
            shear: either_way(self.shear_range, random),
            zx: zoom(self.zoom_range, random),
            zy: zoom(self.zoom_range, random),
        }
    }
}

/// Draws a crop as torchvision does: up to ten attempts, then a centred square.
fn crop(height: usize, width: usize, (min, max): (f64, f64), random: &mut ChaCha8Rng) -> Crop {
    let (whole_height, whole_width) = (height as f64, width as f64);
    for _ in 0..10 {
        let area = whole_height * whole_width * random.random_range(min..=max);
        let ratio = random.random_range((0.75f64).ln()..=(4.0f64 / 3.0).ln()).exp();
        let (height, width) = ((area / ratio).sqrt(), (area * ratio).sqrt());
        if height <= whole_height && width <= whole_width {
            let top = random.random_range(0.0..=whole_height - height);
            let left = random.random_range(0.0..=whole_width - width);
            return Crop { top, left, height, width };
        }
    }
    let side = whole_height.min(whole_width);
    Crop { top: (whole_height - side) / 2.0, left: (whole_width - side) / 2.0, height: side, width: side }
}

impl Crop {
    /// Resizes the part to the whole size.
    fn apply(self, image: &[f32], output: &mut [f32], height: usize, width: usize) {
        // Moves the centre of the part to the centre of the image.
        let (zx, zy) = (self.height / height as f64, self.width / width as f64);
        let tx = self.top + self.height / 2.0 - height as f64 / 2.0;
        let ty = self.left + self.width / 2.0 - width as f64 / 2.0;
        Affine { tx, ty, zx, zy, ..Affine::IDENTITY }.apply(image, output, height, width, FillMode::Nearest);
    }
}

/// Keras's `apply_channel_shift`.
fn shift_channels(image: &mut [f32], amount: f32) {
    let (min, max) = range(image);
    image.iter_mut().for_each(|value| *value = (*value + amount).clamp(min, max));
}

/// Keras's `apply_brightness_shift`, with Pillow's rounding. Values outside 0 to 255 are scaled to that
/// range and back.
fn brighten(image: &mut [f32], factor: f32) {
    let (min, max) = range(image);
    let is_beyond = min < 0.0 || max > 255.0;
    let (offset, scale) =
        if is_beyond { (min, 255.0 / (max - min).max(f32::MIN_POSITIVE)) } else { (0.0, 1.0) };
    for value in image {
        let pixel = ((*value - offset) * scale).trunc();
        let bright = (pixel * factor).clamp(0.0, 255.0).trunc();
        *value = if is_beyond { bright / 255.0 * (max - min) + min } else { bright };
    }
}

/// torchvision's `adjust_brightness`, `adjust_contrast` and `adjust_saturation`, in this order.
fn change_colours(image: &mut [f32], pixels: usize, [brightness, contrast, saturation]: [f32; 3]) {
    image.iter_mut().for_each(|value| *value = (*value * brightness).clamp(0.0, 255.0));
    let grey = |image: &[f32], at: usize| match image.len() / pixels {
        3.. => 0.299 * image[at] + 0.587 * image[pixels + at] + 0.114 * image[2 * pixels + at],
        _ => image[at],
    };
    let mean = (0..pixels).map(|at| f64::from(grey(image, at))).sum::<f64>() / pixels as f64;
    let mix =
        |value: f32, other: f32, factor: f32| (value * factor + other * (1.0 - factor)).clamp(0.0, 255.0);
    image.iter_mut().for_each(|value| *value = mix(*value, mean as f32, contrast));
    for at in 0..pixels {
        let grey = grey(image, at);
        for channel in image.chunks_mut(pixels).take(3) {
            channel[at] = mix(channel[at], grey, saturation);
        }
    }
}

fn range(image: &[f32]) -> (f32, f32) {
    let widen = |(min, max): (f32, f32), value: &f32| (min.min(*value), max.max(*value));
    image.iter().fold((f32::INFINITY, f32::NEG_INFINITY), widen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_match_keras_and_torchvision() {
        // `apply_brightness_shift(x, 1.7, False)` and `apply_channel_shift(x, 30)`.
        let mut bright = [10.6, 100.0, 200.2];
        brighten(&mut bright, 1.7);
        assert_eq!(bright, [17.0, 170.0, 255.0]);
        let mut shifted = [10.0, 100.0, 200.0];
        shift_channels(&mut shifted, 30.0);
        assert_eq!(shifted, [40.0, 130.0, 200.0]);
        // One pixel of three channels: `adjust_saturation(x, 0.5)` mixes it with its grey value, 102.5.
        let mut pixel = [200.0, 50.0, 117.0];
        change_colours(&mut pixel, 1, [1.0, 1.0, 0.5]);
        let grey = 0.299 * 200.0 + 0.587 * 50.0 + 0.114 * 117.0;
        assert_eq!(pixel, [200.0, 50.0, 117.0].map(|value| value * 0.5 + grey * 0.5));
    }

    #[test]
    fn crop_of_the_left_half_fills_the_image() {
        let image: Vec<f32> = (0..16).map(|at| (at % 4) as f32).collect();
        let crop = Crop { top: 0.0, left: 0.0, height: 4.0, width: 2.0 };
        let mut enlarged = vec![0f32; 16];
        crop.apply(&image, &mut enlarged, 4, 4);
        assert_eq!(enlarged[..4], [0.0, 0.25, 0.75, 1.25]);
    }
}
