//! Keras's weight initializers (`keras/src/initializers/random_initializers.py`).

use candle_core::{DType, Device, Tensor};
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::check::check_memory;
use crate::{Result, random};

/// Distribution of initial weights.
///
/// The inputs of a depthwise convolution are those of one channel, as in PyTorch. Keras counts the inputs of all channels,
/// so its He initializers give values smaller by the root of their number; Glorot's are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Initializer {
    /// Uniform in ±√(6 / (inputs + outputs)), Keras's default (Glorot and Bengio 2010).
    #[default]
    GlorotUniform,
    /// Normal with standard deviation √(2 / inputs), for deep stacks of ReLU (He et al. 2015). Truncated at two
    /// standard deviations of the normal before truncation, unlike PyTorch's `kaiming_normal_`.
    HeNormal,
    /// Uniform in ±√(6 / inputs), for deep stacks of ReLU (He et al. 2015).
    HeUniform,
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
}

impl Initializer {
    /// Draws initial values of `shape`: `[out, in, …]`, where further dimensions are the receptive field, or a vector.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the values do not fit into the machine's memory.
    ///
    /// # Panics
    /// If `shape` is empty.
    pub fn draw(self, shape: &[usize], random: &mut ChaCha8Rng, device: &Device) -> Result<Tensor> {
        check_memory("weights", shape)?;
        let field: usize = shape.iter().skip(2).product();
        let fan_in = shape.get(1).copied().unwrap_or(1) * field;
        let fan_out = shape[0] * field;
        let limit = |fan: usize| (6.0 / fan as f32).sqrt();
        match self {
            Initializer::GlorotUniform => random::uniform(random, shape, limit(fan_in + fan_out), device),
            Initializer::HeNormal => he_normal(random, shape, fan_in, device),
            Initializer::HeUniform => random::uniform(random, shape, limit(fan_in), device),
            Initializer::Zeros => Ok(Tensor::zeros(shape, DType::F32, device)?),
            Initializer::Ones => Ok(Tensor::ones(shape, DType::F32, device)?),
        }
    }
}

/// He normal initializer, as in Keras: the standard deviation is √(2 / inputs) after truncation, larger before it.
fn he_normal(random: &mut ChaCha8Rng, shape: &[usize], fan_in: usize, device: &Device) -> Result<Tensor> {
    /// Standard deviation of a standard normal truncated at ±2.
    const TRUNCATED_DEVIATION: f32 = 0.879_625_7;
    /// Largest absolute value, in standard deviations, as in Keras.
    const BOUND: f32 = 2.0;
    let deviation = (2.0 / fan_in as f32).sqrt() / TRUNCATED_DEVIATION;
    let mut draw = || loop {
        let value: f32 = StandardNormal.sample(random);
        if value.abs() <= BOUND {
            return value * deviation;
        }
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glorot_uniform_values_fill_their_range() {
        let weight =
            Initializer::GlorotUniform.draw(&[64, 36], &mut random::seeded(0), &Device::Cpu).unwrap();
        let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let limit = (6.0f32 / 100.0).sqrt();
        let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
        assert!(largest <= limit && largest > limit * 0.99, "{largest} against {limit}");
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance / (limit * limit / 3.0) - 1.0).abs() < 0.1);
    }

    #[test]
    fn he_normal_matches_keras_deviation_and_bound() {
        let weight =
            Initializer::HeNormal.draw(&[64, 32, 3, 3], &mut random::seeded(0), &Device::Cpu).unwrap();
        let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = 2.0f32 / 288.0;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance / expected - 1.0).abs() < 0.05, "{variance} against {expected}");
        let bound = 2.0 * expected.sqrt() / 0.879_625_7;
        let largest = values.iter().fold(0f32, |a, v| a.max(v.abs()));
        assert!(largest <= bound && largest > 0.98 * bound, "{largest} against {bound}");
    }
}
