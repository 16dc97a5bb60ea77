//! What is done to each picture last of all: Keras's `standardize`.

use candle_core::{DType, Tensor};

use super::ImageDataGenerator;
use crate::Result;

/// Keeps a deviation from 0, as in Keras.
const EPSILON: f32 = 1e-6;

/// Each channel's mean and deviation over all pictures.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statistics {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Statistics {
    /// Of pictures `[N, C, H, W]`, rescaled first.
    pub(super) fn of(x: &Tensor, rescale: f32) -> Result<Statistics> {
        let channels = (x.to_dtype(DType::F64)? * f64::from(rescale))?.transpose(0, 1)?.flatten_from(1)?;
        let mean = channels.mean_keepdim(1)?;
        let deviation = channels.broadcast_sub(&mean)?.sqr()?.mean(1)?.sqrt()?;
        let values =
            |t: Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?) };
        Ok(Statistics { mean: values(mean)?, deviation: values(deviation)? })
    }
}

impl ImageDataGenerator {
    /// Changes a varied picture of so many values a channel.
    pub(super) fn standardize(&self, picture: &mut [f32], pixels: usize, statistics: Option<&Statistics>) {
        if let Some(function) = &self.preprocessing_function {
            function(picture);
        }
        if let Some(preprocessing) = &self.preprocessing {
            preprocessing.apply_to(picture, pixels);
        }
        if let Some(factor) = self.rescale {
            picture.iter_mut().for_each(|value| *value *= factor);
        }
        let count = picture.len() as f64;
        let mean =
            |picture: &[f32]| (picture.iter().map(|value| f64::from(*value)).sum::<f64>() / count) as f32;
        if self.samplewise_center {
            let mean = mean(picture);
            picture.iter_mut().for_each(|value| *value -= mean);
        }
        if self.samplewise_std_normalization {
            let mean = f64::from(mean(picture));
            let square = picture.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
            let deviation = square.sqrt() as f32 + EPSILON;
            picture.iter_mut().for_each(|value| *value /= deviation);
        }
        let Some(Statistics { mean, deviation }) = statistics else { return };
        for ((channel, mean), deviation) in picture.chunks_mut(pixels).zip(mean).zip(deviation) {
            let mean = if self.featurewise_center { *mean } else { 0.0 };
            let deviation = if self.featurewise_std_normalization { deviation + EPSILON } else { 1.0 };
            channel.iter_mut().for_each(|value| *value = (*value - mean) / deviation);
        }
    }
}
