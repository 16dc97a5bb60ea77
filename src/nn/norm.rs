//! Batch normalisation (Ioffe and Szegedy 2015).

use std::sync::Arc;

use candle_core::Tensor;

use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::Result;

/// Normalises each channel, then scales and shifts it.
///
/// In training it uses the batch's mean and variance and moves its statistics towards them. A
/// frozen layer, as any layer outside training, uses the moving statistics and leaves them alone:
/// that is Keras's rule too, and what keeps a pretrained network whole.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormalization {
    momentum: f64,
    epsilon: f64,
}

impl Default for BatchNormalization {
    /// Keras's values: momentum 0.99, epsilon 0.001.
    fn default() -> BatchNormalization {
        BatchNormalization { momentum: 0.99, epsilon: 1e-3 }
    }
}

impl BatchNormalization {
    /// Sets the share of the moving statistics that a step keeps.
    pub fn momentum(self, momentum: f64) -> BatchNormalization {
        BatchNormalization { momentum, ..self }
    }

    /// Sets what is added to the variance before its root is taken.
    pub fn epsilon(self, epsilon: f64) -> BatchNormalization {
        BatchNormalization { epsilon, ..self }
    }
}

impl Build for BatchNormalization {
    fn stem(&self) -> &str {
        "batch_normalization"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let shape = context.inputs[0];
        let zeros = Initializer::Zeros.draw(&shape[..1], context.random, context.device)?;
        let ones = Initializer::Ones.draw(&shape[..1], context.random, context.device)?;
        Ok(Arc::new(Built {
            config: *self,
            gamma: Param::weight("gamma", &ones)?,
            beta: Param::weight("beta", &zeros)?,
            mean: Param::statistic("moving_mean", &zeros)?,
            variance: Param::statistic("moving_variance", &ones)?,
            shape: shape.to_vec(),
        }))
    }
}

struct Built {
    config: BatchNormalization,
    gamma: Param,
    beta: Param,
    mean: Param,
    variance: Param,
    shape: Vec<usize>,
}

impl Built {
    /// The batch's mean and variance of each channel; the moving ones take a step towards them.
    fn batch_statistics(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let channels = x.transpose(0, 1)?.flatten_from(1)?;
        let mean = channels.mean_keepdim(1)?;
        let variance = channels.broadcast_sub(&mean)?.sqr()?.mean(1)?;
        let mean = mean.squeeze(1)?;
        for (moving, batch) in [(&self.mean, &mean), (&self.variance, &variance)] {
            let keep = self.config.momentum;
            let kept = (moving.value(Mode::Inference) * keep)?;
            moving.set(&(kept + (batch.detach() * (1.0 - keep))?)?)?;
        }
        Ok((mean, variance))
    }
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "BatchNormalization"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = inputs[0];
        let (mean, variance) = if mode == Mode::Training && self.gamma.is_trainable() {
            self.batch_statistics(x)?
        } else {
            (self.mean.value(mode), self.variance.value(mode))
        };
        let scale = (self.gamma.value(mode) / (variance + self.config.epsilon)?.sqrt()?)?;
        let shift = (self.beta.value(mode) - (mean * &scale)?)?;
        let per_channel = |t: Tensor| {
            let mut dims = vec![1; x.rank()];
            dims[1] = self.shape[0];
            t.reshape(dims)
        };
        Ok(x.broadcast_mul(&per_channel(scale)?)?.broadcast_add(&per_channel(shift)?)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        [&self.gamma, &self.beta, &self.mean, &self.variance].map(Param::clone).to_vec()
    }
}
