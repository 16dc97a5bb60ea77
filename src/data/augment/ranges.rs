//! The ranges of the augmentation parameters.

use super::ImageDataGenerator;
use crate::{Error, Result};

/// How far an image is shifted along one side.
#[derive(Clone, Debug, PartialEq)]
pub enum Shift {
    /// A random shift in both directions: up to this share of the side if below 1, otherwise up to this
    /// number of pixels.
    Range(f64),
    /// One of these amounts, in either direction: shares of the side if all are below 1, otherwise
    /// pixels.
    OneOf(Vec<f64>),
}

impl From<f64> for Shift {
    fn from(range: f64) -> Shift {
        Shift::Range(range)
    }
}

impl From<i32> for Shift {
    /// Whole pixels, fewer than `pixels`, as in Keras: 3 shifts by 0, 1 or 2 pixels, and `3.0` by any distance up to 3.
    fn from(pixels: i32) -> Shift {
        match pixels {
            ..=0 => Shift::Range(f64::from(pixels)),
            _ => Shift::OneOf((0..pixels).map(f64::from).collect()),
        }
    }
}

impl<const N: usize> From<[f64; N]> for Shift {
    fn from(amounts: [f64; N]) -> Shift {
        Shift::OneOf(amounts.to_vec())
    }
}

/// The smallest and the largest zoom factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zoom(pub(super) f64, pub(super) f64);

impl From<f64> for Zoom {
    /// From `1 - range` to `1 + range`.
    fn from(range: f64) -> Zoom {
        Zoom(1.0 - range, 1.0 + range)
    }
}

impl From<(f64, f64)> for Zoom {
    fn from((least, most): (f64, f64)) -> Zoom {
        Zoom(least, most)
    }
}

impl ImageDataGenerator {
    /// The generator without its random changes: it rescales, preprocesses and normalises as before.
    pub(crate) fn unvaried(&self) -> ImageDataGenerator {
        ImageDataGenerator {
            rotation_range: 0.0,
            width_shift_range: Shift::Range(0.0),
            height_shift_range: Shift::Range(0.0),
            shear_range: 0.0,
            zoom_range: Zoom(1.0, 1.0),
            channel_shift_range: 0.0,
            brightness_range: None,
            horizontal_flip: false,
            vertical_flip: false,
            resized_crop: None,
            color_jitter: None,
            cutout: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            ..self.clone()
        }
    }

    /// Whether any option moves the pixels of images, or mixes images.
    pub(super) fn moves_pixels(&self) -> bool {
        let colours_only = ImageDataGenerator {
            channel_shift_range: 0.0,
            brightness_range: None,
            color_jitter: None,
            cutout: 0.0,
            ..self.clone()
        };
        colours_only.varies()
    }

    /// Whether any option changes images at random.
    pub(super) fn varies(&self) -> bool {
        let shifts = |shift: &Shift| match shift {
            Shift::Range(range) => *range != 0.0,
            Shift::OneOf(amounts) => amounts.iter().any(|amount| *amount != 0.0),
        };
        let Zoom(least, most) = self.zoom_range;
        let amounts = [
            self.rotation_range,
            self.shear_range,
            self.channel_shift_range,
            self.cutout,
            self.mixup,
            self.cutmix,
        ];
        amounts.iter().any(|amount| *amount != 0.0)
            || shifts(&self.width_shift_range)
            || shifts(&self.height_shift_range)
            || (least, most) != (1.0, 1.0)
            || self.brightness_range.is_some_and(|range| range != (1.0, 1.0))
            || self.resized_crop.is_some_and(|range| range != (1.0, 1.0))
            || self.color_jitter.is_some_and(|jitter| jitter != [0.0; 3])
            || self.horizontal_flip
            || self.vertical_flip
    }

    /// Checks that all values are in their ranges, and that `fit` was called if statistics are needed.
    pub(super) fn check(&self) -> Result<()> {
        let from_nought = |name, value: f64| (name, value, value >= 0.0, "a number from 0");
        let share = |name, value: f64| (name, value, (0.0..=1.0).contains(&value), "a share from 0 to 1");
        let shift = |name, shift: &Shift| match shift {
            Shift::Range(range) => from_nought(name, *range),
            Shift::OneOf(amounts) => {
                let worst = amounts.iter().copied().find(|amount| !amount.is_finite()).unwrap_or(0.0);
                (name, worst, !amounts.is_empty(), "a list of amounts")
            }
        };
        let (crop, Zoom(least, most)) = (self.resized_crop.unwrap_or((1.0, 1.0)), self.zoom_range);
        let brightness = self.brightness_range.unwrap_or((1.0, 1.0));
        let jitter = self.color_jitter.unwrap_or_default();
        for (name, value, fits, expected) in [
            from_nought("rotation_range", self.rotation_range),
            shift("width_shift_range", &self.width_shift_range),
            shift("height_shift_range", &self.height_shift_range),
            from_nought("shear_range", self.shear_range),
            ("zoom_range", least, least > 0.0 && least <= most, "factors above 0, the smaller first"),
            from_nought("channel_shift_range", self.channel_shift_range),
            (
                "brightness_range",
                brightness.0,
                0.0 <= brightness.0 && brightness.0 <= brightness.1,
                "factors from 0, the smaller first",
            ),
            (
                "random_resized_crop",
                crop.0,
                0.0 < crop.0 && crop.0 <= crop.1 && crop.1 <= 1.0,
                "shares above 0 up to 1, the smaller first",
            ),
            share(
                "color_jitter",
                jitter.into_iter().find(|value| !(0.0..=1.0).contains(value)).unwrap_or(0.0),
            ),
            share("cutout", self.cutout),
            from_nought("mixup", self.mixup),
            from_nought("cutmix", self.cutmix),
            from_nought("zca_epsilon", self.zca_epsilon),
            {
                let factor = f64::from(self.rescale.unwrap_or(1.0));
                ("rescale", factor, factor != 0.0, "a finite number other than 0")
            },
        ] {
            if !fits || !value.is_finite() {
                return Err(Error::Argument { name, expected: expected.into(), found: value.to_string() });
            }
        }
        if self.needs_statistics() && self.statistics().is_none() {
            let expected = "a call of `datagen.fit(&x)?` before `flow`".into();
            return Err(Error::Argument { name: "featurewise statistics", expected, found: "none".into() });
        }
        Ok(())
    }
}
