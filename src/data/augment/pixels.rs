//! Advice on operations that need pixels from 0 to 255 and receive other values.

use candle_core::{DType, Tensor};

use super::ImageDataGenerator;
use crate::Result;

/// Number of images checked.
const MAX_IMAGES: usize = 32;
/// Largest maximum of pixels that were probably divided by 255.
const UNIT_RANGE_MAX: f32 = 1.5;

impl ImageDataGenerator {
    /// Returns advice if the image values do not fit the operations that are set.
    pub(super) fn advice_on_values(&self, x: &Tensor) -> Result<Option<String>> {
        let brightness = self.brightness_range.is_some_and(|range| range != (1.0, 1.0));
        let jitter = self.color_jitter.is_some_and(|jitter| jitter != [0.0; 3]);
        let cutout = self.cutout > 0.0;
        if !(brightness || jitter || cutout) || x.dim(0)? == 0 {
            return Ok(None);
        }
        let values = x.narrow(0, 0, x.dim(0)?.min(MAX_IMAGES))?.to_dtype(DType::F32)?.flatten_all()?;
        let (min, max) = (values.min(0)?.to_scalar::<f32>()?, values.max(0)?.to_scalar::<f32>()?);
        let (is_beyond, is_unit) = (min < 0.0 || max > 255.0, min >= 0.0 && max <= UNIT_RANGE_MAX);
        let operations = [
            // As in Keras, values outside 0 to 255 are scaled to that range and back.
            ("brightness_range", brightness && is_unit, "rounds them to whole numbers"),
            ("color_jitter", jitter && (is_beyond || is_unit), "clips them to 0 to 255"),
            ("cutout", cutout && (is_beyond || is_unit), "fills its square with 127.5"),
        ];
        let wrong = operations.iter().filter(|(_, is_wrong, _)| *is_wrong);
        let wrong: Vec<String> = wrong.map(|(name, _, what)| format!("`{name}` {what}")).collect();
        Ok((!wrong.is_empty()).then(|| {
            format!(
                "the images' values go from {min:.2} to {max:.2}, but {}; pass the generator pixels from 0 to 255, and \
                 let it scale them afterwards with `.rescale(1.0 / 255.0)` or `.preprocess_for(&model)?`",
                wrong.join(", and ")
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixel_operations_on_other_values_give_advice() -> Result<()> {
        let images = |low: f64, high: f64| {
            let steps = Tensor::arange(0f32, 384.0, &crate::device())?.reshape((2, 3, 8, 8))?;
            Ok::<_, crate::Error>(steps.affine((high - low) / 383.0, low)?)
        };
        let (pixels, unit, preprocessed) = (images(0.0, 255.0)?, images(0.0, 1.0)?, images(-123.0, 150.0)?);
        let plain = ImageDataGenerator::new;
        let geometric = plain().rotation_range(20.0).horizontal_flip(true);
        for x in [&pixels, &unit, &preprocessed] {
            assert_eq!(geometric.advice_on_values(x)?, None);
        }
        let all = [
            ("brightness_range", plain().brightness_range(0.5, 1.5), false),
            ("color_jitter", plain().color_jitter(0.2, 0.2, 0.2), true),
            ("cutout", plain().cutout(0.3), true),
        ];
        for (name, datagen, is_wrong_beyond) in all {
            assert_eq!(datagen.advice_on_values(&pixels)?, None, "{name}");
            let advice = datagen.advice_on_values(&unit)?.unwrap();
            assert!(advice.contains(name) && advice.contains("from 0.00 to 1.00"), "{advice}");
            assert_eq!(datagen.advice_on_values(&preprocessed)?.is_some(), is_wrong_beyond, "{name}");
        }
        Ok(())
    }
}
