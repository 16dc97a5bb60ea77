//! Dropout (Srivastava et al. 2014), inverted as in Keras.

use std::sync::Arc;

use candle_core::Tensor;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, LayerConfig, Mode};
use crate::{Error, Result, random};

/// In training, sets each value to 0 with probability `rate` and scales the rest by `1/(1-rate)`;
/// otherwise does nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Dropout {
    rate: f32,
}

impl Dropout {
    /// Drops with probability `rate`, from 0 up to but not including 1.
    pub fn new(rate: f32) -> Dropout {
        Dropout { rate }
    }
}

impl Build for Dropout {
    fn stem(&self) -> &str {
        "dropout"
    }

    fn config(&self) -> Option<LayerConfig> {
        Some(LayerConfig::Dropout(*self))
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        if !(0.0..1.0).contains(&self.rate) {
            let expected = "at least 0 and below 1".into();
            return Err(Error::Argument { name: "rate", expected, found: self.rate.to_string() });
        }
        Ok(Arc::new(Built { rate: self.rate, shape: context.inputs[0].to_vec() }))
    }
}

struct Built {
    rate: f32,
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Dropout"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = inputs[0];
        if mode == Mode::Inference || self.rate == 0.0 {
            return Ok(x.clone());
        }
        let mut random = random::stream();
        let keep = 1.0 / (1.0 - self.rate);
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| if random.random::<f32>() < self.rate { 0.0 } else { keep })
            .collect();
        Ok((x * Tensor::from_vec(mask, x.shape(), x.device())?)?)
    }

    fn is_random(&self) -> bool {
        self.rate > 0.0
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn training_drops_the_rate_and_keeps_the_mean() {
        let layer = Built { rate: 0.25, shape: vec![10_000] };
        let x = Tensor::ones((2, 10_000), DType::F32, &Device::Cpu).unwrap();
        let y =
            layer.forward(&[&x], Mode::Training).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let dropped = y.iter().filter(|v| **v == 0.0).count() as f32 / 20_000.0;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped}");
        assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        let same = layer.forward(&[&x], Mode::Inference).unwrap();
        assert_eq!(same.to_vec2::<f32>().unwrap(), x.to_vec2::<f32>().unwrap());
    }
}
