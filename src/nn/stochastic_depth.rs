//! Stochastic depth (Huang et al. 2016).

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::dropout::drop_randomly;
use super::{Build, Context, Layer, Mode};
use crate::Result;
use crate::check::check;

/// Stochastic depth: in training, sets all values of a sample to 0 with probability `rate` and scales the other
/// samples by `1/(1-rate)`. Put before an [`Add`](super::Add), it skips the branch of a residual block for random
/// samples. In inference mode it does nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StochasticDepth {
    rate: f32,
}

impl StochasticDepth {
    /// Drops samples with probability `rate`, at least 0 and below 1; other rates are errors when the model is built.
    pub fn new(rate: f32) -> StochasticDepth {
        StochasticDepth { rate }
    }

    pub(super) fn rate(&self) -> f32 {
        self.rate
    }
}

impl Build for StochasticDepth {
    fn default_name(&self) -> &str {
        "stochastic_depth"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check("rate", self.rate, (0.0..1.0).contains(&self.rate), "at least 0 and below 1")?;
        Ok(Arc::new(Built { rate: self.rate, shape: context.inputs[0].to_vec() }))
    }
}

struct Built {
    rate: f32,
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "StochasticDepth"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = inputs[0];
        if mode == Mode::Inference || self.rate == 0.0 {
            return Ok(x.clone());
        }
        drop_randomly(x, self.rate, &vec![1; x.rank() - 1])
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
    fn samples_are_dropped_as_a_whole() -> Result<()> {
        let layer = Built { rate: 0.25, shape: vec![2, 3] };
        let x = Tensor::ones((2000, 2, 3), DType::F32, &Device::Cpu)?;
        let y = layer.forward(&[&x], Mode::Training)?.flatten_from(1)?.to_vec2::<f32>()?;
        assert!(y.iter().all(|sample| sample.iter().all(|value| *value == sample[0])));
        let dropped = y.iter().filter(|sample| sample[0] == 0.0).count();
        assert!((dropped as f32 / 2000.0 - 0.25).abs() < 0.05, "{dropped}");
        assert!(y.iter().all(|sample| sample[0] == 0.0 || (sample[0] - 4.0 / 3.0).abs() < 1e-6));
        let same = layer.forward(&[&x], Mode::Inference)?;
        assert_eq!(same.to_vec3::<f32>()?, x.to_vec3::<f32>()?);
        Ok(())
    }
}
