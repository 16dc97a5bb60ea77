//! The normalisation of each image after augmentation: Keras's `standardize`.

use super::ImageDataGenerator;
use super::statistics::Statistics;

/// Added to a standard deviation to prevent division by 0, as in Keras.
const EPSILON: f32 = 1e-6;

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
    use candle_core::{DType, Tensor};

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
