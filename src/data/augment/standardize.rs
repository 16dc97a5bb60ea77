//! The normalisation of each image after augmentation: Keras's `standardize`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use super::ImageDataGenerator;
use crate::Result;
use crate::data::truncated_svd;

/// Added to a standard deviation to prevent division by 0, as in Keras.
const EPSILON: f32 = 1e-6;

/// Statistics over all images.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statistics {
    /// Mean of each channel.
    mean: Vec<f32>,
    /// Standard deviation of each channel.
    deviation: Vec<f32>,
    whitening: Option<Arc<Whitening>>,
}

/// The result of [`ImageDataGenerator::fit`].
#[derive(Default)]
pub(super) struct Fitted(Mutex<Option<Statistics>>);

impl Fitted {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Statistics>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Fitted {
    /// A copy, which another `fit` does not change.
    fn clone(&self) -> Fitted {
        Fitted(Mutex::new(self.lock().clone()))
    }
}

/// The whitening transform as principal directions, each `[channels · height · width]`, with their
/// factors. Equivalent to Keras's whitening matrix, but does not store the matrix.
#[derive(Debug, PartialEq)]
struct Whitening {
    directions: Vec<Vec<f32>>,
    factors: Vec<f32>,
}

impl Statistics {
    /// Computes the statistics of images `[N, C, H, W]` after rescaling. `whitening` is the epsilon of
    /// the whitening, if it is needed.
    pub(super) fn of(x: &Tensor, rescale: f32, whitening: Option<f64>) -> Result<Statistics> {
        let x = (x.to_dtype(DType::F64)? * f64::from(rescale))?;
        let channels = x.transpose(0, 1)?.flatten_from(1)?;
        let mean = channels.mean_keepdim(1)?;
        let deviation = channels.broadcast_sub(&mean)?.sqr()?.mean(1)?.sqrt()?;
        let values =
            |t: &Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?) };
        let whitening = whitening.map(|epsilon| -> Result<Arc<Whitening>> {
            let centred = x.broadcast_sub(&mean.reshape((1, (), 1, 1))?)?.flatten_from(1)?;
            let images = centred.dim(0)?;
            let found = truncated_svd(&centred.to_device(&Device::Cpu)?, usize::MAX)?;
            let factor = |value: f64| ((images as f64).sqrt() / (value + epsilon)) as f32;
            Ok(Arc::new(Whitening {
                factors: found.iter().map(|(value, _)| factor(*value)).collect(),
                directions: found
                    .iter()
                    .map(|(_, along)| along.iter().map(|v| *v as f32).collect())
                    .collect(),
            }))
        });
        Ok(Statistics {
            mean: values(&mean)?,
            deviation: values(&deviation)?,
            whitening: whitening.transpose()?,
        })
    }

    /// Whether the statistics fit images with this number of channels and, for whitening, this number of
    /// values.
    pub(super) fn suit(&self, channels: usize, values: usize) -> bool {
        let direction = self.whitening.as_ref().and_then(|whitening| whitening.directions.first());
        channels == self.mean.len() && direction.is_none_or(|direction| direction.len() == values)
    }
}

impl Whitening {
    fn apply(&self, image: &mut [f32]) {
        let mut white = vec![0f64; image.len()];
        for (direction, factor) in self.directions.iter().zip(&self.factors) {
            let along: f64 = image.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let share = along * f64::from(*factor);
            white.iter_mut().zip(direction).for_each(|(white, part)| *white += share * f64::from(*part));
        }
        image.iter_mut().zip(white).for_each(|(value, white)| *value = white as f32);
    }
}

impl ImageDataGenerator {
    /// Normalises an augmented image with `pixels` values per channel.
    pub(super) fn standardize(&self, image: &mut [f32], pixels: usize, statistics: Option<&Statistics>) {
        if let Some(function) = &self.preprocessing_function {
            function(image);
        }
        if let Some(preprocessing) = &self.preprocessing {
            preprocessing.apply_to(image, pixels);
        }
        if let Some(factor) = self.rescale {
            image.iter_mut().for_each(|value| *value *= factor);
        }
        let count = image.len() as f64;
        let mean = |image: &[f32]| (image.iter().map(|value| f64::from(*value)).sum::<f64>() / count) as f32;
        // As in Keras, dividing by the standard deviation also subtracts the mean.
        if self.samplewise_center || self.samplewise_std_normalization {
            let mean = mean(image);
            image.iter_mut().for_each(|value| *value -= mean);
        }
        if self.samplewise_std_normalization {
            let mean = f64::from(mean(image));
            let square = image.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
            let deviation = square.sqrt() as f32 + EPSILON;
            image.iter_mut().for_each(|value| *value /= deviation);
        }
        let Some(Statistics { mean, deviation, whitening }) = statistics else { return };
        // As in Keras, whitening also subtracts the means, and replaces the division by the standard
        // deviations.
        let is_centred = self.featurewise_center || self.featurewise_std_normalization || whitening.is_some();
        let is_scaled = self.featurewise_std_normalization && whitening.is_none();
        for ((channel, mean), deviation) in image.chunks_mut(pixels).zip(mean).zip(deviation) {
            let mean = if is_centred { *mean } else { 0.0 };
            let deviation = if is_scaled { deviation + EPSILON } else { 1.0 };
            channel.iter_mut().for_each(|value| *value = (*value - mean) / deviation);
        }
        if let Some(whitening) = whitening {
            whitening.apply(image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    #[test]
    fn whitening_matches_keras() {
        let fixture = include_bytes!("../../../tests/fixtures/whitening.safetensors");
        let known = candle_core::safetensors::load_buffer(fixture, &candle_core::Device::Cpu).unwrap();
        let plain = || ImageDataGenerator::new().zca_whitening(true);
        let cases = [
            ("few", plain()),
            ("many", plain().featurewise_std_normalization(true)),
            ("strong", plain().zca_epsilon(10.0)),
        ];
        for (name, datagen) in cases {
            let images = &known[&format!("{name}_images")];
            let (count, _, height, width) = images.dims4().unwrap();
            datagen.fit(images).unwrap();
            let mut values = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for image in values.chunks_mut(images.elem_count() / count) {
                datagen.standardize(image, height * width, datagen.statistics().as_ref());
            }
            let expected = known[&format!("{name}_white")].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let spread = expected.iter().fold(0f32, |max, value| max.max(value.abs()));
            let worst =
                values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / spread;
            println!("{name}: {worst:e} of the largest");
            assert!(worst < 1e-4, "{name}: {worst}");
        }
    }

    #[test]
    fn std_normalization_alone_centres_as_in_keras() {
        let fixture = include_bytes!("../../../tests/fixtures/centring.safetensors");
        let known = candle_core::safetensors::load_buffer(fixture, &candle_core::Device::Cpu).unwrap();
        let images = &known["images"];
        let (count, _, height, width) = images.dims4().unwrap();
        let plain = ImageDataGenerator::new;
        for (name, datagen) in [
            ("featurewise", plain().featurewise_std_normalization(true)),
            ("featurewise", plain().featurewise_std_normalization(true).featurewise_center(true)),
            ("samplewise", plain().samplewise_std_normalization(true)),
            ("both", plain().featurewise_std_normalization(true).samplewise_std_normalization(true)),
        ] {
            datagen.fit(images).unwrap();
            let mut values = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for image in values.chunks_mut(images.elem_count() / count) {
                datagen.standardize(image, height * width, datagen.statistics().as_ref());
            }
            let expected = known[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let worst = values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst < 1e-4, "{name}: {worst} from Keras");
        }
    }

    #[test]
    fn images_of_another_size_than_in_fit_are_refused() {
        let images = |side| Tensor::ones((2, 3, side, side), DType::F32, &crate::device()).unwrap();
        let datagen = ImageDataGenerator::new().zca_whitening(true);
        let y = Tensor::zeros(2, DType::F32, &crate::device()).unwrap();
        assert!(datagen.flow(&images(4), &y, 2).unwrap_err().to_string().contains("datagen.fit(&x)"));
        let varied = crate::random_uniform((2, 3, 4, 4), 0.0, 1.0).unwrap();
        datagen.fit(&varied).unwrap();
        let first = |x: &Tensor| datagen.flow(x, &y, 2).unwrap().epoch().unwrap().next().unwrap();
        assert!(first(&varied).is_ok());
        let error = first(&images(5)).unwrap_err().to_string();
        assert!(error.contains("of the size that `fit` received"), "{error}");
        // The number of channels must match, too.
        let datagen = ImageDataGenerator::new().featurewise_center(true);
        datagen.fit(&varied.narrow(1, 0, 1).unwrap()).unwrap();
        assert!(datagen.flow(&varied, &y, 2).unwrap().epoch().unwrap().next().unwrap().is_err());
    }
}
