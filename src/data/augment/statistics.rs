//! Statistics over all images, for the normalisation of each image.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::data::truncated_svd;

/// Statistics over all images.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statistics {
    /// Mean of each channel.
    pub(super) mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub(super) deviation: Vec<f32>,
    pub(super) whitening: Option<Arc<Whitening>>,
}

/// The result of `ImageDataGenerator::fit`.
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
pub(super) struct Whitening {
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
    pub(super) fn apply(&self, image: &mut [f32]) {
        let mut white = vec![0f64; image.len()];
        for (direction, factor) in self.directions.iter().zip(&self.factors) {
            let along: f64 = image.iter().zip(direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let share = along * f64::from(*factor);
            white.iter_mut().zip(direction).for_each(|(white, part)| *white += share * f64::from(*part));
        }
        image.iter_mut().zip(white).for_each(|(value, white)| *value = white as f32);
    }
}
