//! Dropout (Srivastava et al. 2014), inverted as in Keras.

use std::sync::Arc;

use candle_core::{Shape, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::{Error, Result, random};

/// Dropout: in training, sets each value to 0 with probability `rate` and scales the others by `1/(1-rate)`.
/// In inference mode it does nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dropout {
    rate: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise_shape: Option<Vec<usize>>,
}

impl Dropout {
    /// Drops values with probability `rate`, at least 0 and below 1; other rates are errors when the model is built.
    pub fn new(rate: f32) -> Dropout {
        Dropout { rate, noise_shape: None }
    }

    /// Sets the shape of the random mask, without the batch dimension. The mask is broadcast along each dimension of
    /// size 1. `(1, 1, 1)` drops all feature maps of an image together; before an [`Add`](super::Add) this is
    /// stochastic depth (Huang et al. 2016). Default: the input shape.
    pub fn noise_shape(self, shape: impl Into<Shape>) -> Dropout {
        Dropout { noise_shape: Some(shape.into().into_dims()), ..self }
    }

    /// The rate, and whether a sample is dropped as a whole. `None` if other values are dropped together.
    pub(super) fn rate_and_extent(&self) -> Option<(f32, bool)> {
        match &self.noise_shape {
            None => Some((self.rate, false)),
            Some(shape) if shape.iter().all(|side| *side == 1) => Some((self.rate, true)),
            Some(_) => None,
        }
    }
}

impl Build for Dropout {
    fn default_name(&self) -> &str {
        "dropout"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        if !(0.0..1.0).contains(&self.rate) {
            let expected = "at least 0 and below 1".into();
            return Err(Error::Argument { name: "rate", expected, found: self.rate.to_string() });
        }
        let shape = context.inputs[0].to_vec();
        let noise_shape = self.noise_shape.clone().unwrap_or_else(|| shape.clone());
        let suits = |(drawn, side): (&usize, &usize)| *drawn == 1 || drawn == side;
        if noise_shape.len() != shape.len() || !noise_shape.iter().zip(&shape).all(suits) {
            let expected = format!("{shape:?}, or 1 in place of any of them");
            return Err(Error::Argument { name: "noise_shape", expected, found: format!("{noise_shape:?}") });
        }
        Ok(Arc::new(Built { rate: self.rate, noise_shape, shape }))
    }
}

/// Sets values to 0 with probability `rate` and scales the others by `1/(1-rate)`. The random mask has the shape
/// `noise_shape` for each sample and is broadcast along its dimensions of size 1.
pub(super) fn drop_randomly(x: &Tensor, rate: f32, noise_shape: &[usize]) -> Result<Tensor> {
    let mut random = random::stream();
    let keep = 1.0 / (1.0 - rate);
    let drawn = [&x.dims()[..1], noise_shape].concat();
    let mask: Vec<f32> =
        (0..drawn.iter().product()).map(|_| if random.random::<f32>() < rate { 0.0 } else { keep }).collect();
    Ok(x.broadcast_mul(&Tensor::from_vec(mask, drawn, x.device())?)?)
}

struct Built {
    rate: f32,
    noise_shape: Vec<usize>,
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
        drop_randomly(x, self.rate, &self.noise_shape)
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
    use crate::sequential;
    use candle_core::{DType, Device};

    #[test]
    fn training_drops_the_rate_and_keeps_the_mean() {
        let layer = Built { rate: 0.25, noise_shape: vec![10_000], shape: vec![10_000] };
        let x = Tensor::ones((2, 10_000), DType::F32, &Device::Cpu).unwrap();
        let y =
            layer.forward(&[&x], Mode::Training).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let dropped = y.iter().filter(|v| **v == 0.0).count() as f32 / 20_000.0;
        assert!((dropped - 0.25).abs() < 0.02, "{dropped}");
        assert!(y.iter().all(|v| *v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        let same = layer.forward(&[&x], Mode::Inference).unwrap();
        assert_eq!(same.to_vec2::<f32>().unwrap(), x.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn noise_shape_drops_values_together() -> Result<()> {
        let layer = Built { rate: 0.25, noise_shape: vec![1, 3], shape: vec![2, 3] };
        let x = Tensor::ones((1000, 2, 3), DType::F32, &Device::Cpu)?;
        let y = layer.forward(&[&x], Mode::Training)?.to_vec3::<f32>()?;
        assert!(y.iter().all(|rows| rows[0] == rows[1]));
        assert!(y.iter().any(|rows| rows[0][0] != rows[0][1]));
        let dropped = y.iter().flat_map(|rows| &rows[0]).filter(|value| **value == 0.0).count();
        assert!((dropped as f32 / 3000.0 - 0.25).abs() < 0.03, "{dropped}");
        let error = sequential![crate::nn::Input::new((2, 3)), Dropout::new(0.1).noise_shape((2, 2))];
        assert!(error.err().is_some_and(|error| error.to_string().contains("noise_shape")));
        Ok(())
    }
}
