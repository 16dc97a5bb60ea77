//! Batch normalisation (Ioffe and Szegedy 2015).

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::Result;
use crate::check::{check, check_positive};
use crate::device::takes_cpu_path;
use crate::ops::{BatchNorm, ScaleShift, apply3};

/// Batch normalisation: normalises each channel, then scales and shifts it.
///
/// In training the layer uses the mean and variance of the batch, and updates its moving statistics. In inference
/// mode it uses the moving statistics and does not change them. A frozen layer always runs in inference mode, as in
/// Keras, so pretrained statistics are preserved. A layer that was frozen stays in inference mode when it is
/// unfrozen, as in Keras's fine-tuning guide (`base_model(x, training=False)`). Only its scale and shift are then
/// trainable, until [`Model::unfreeze_statistics`].
///
/// [`Model::unfreeze_statistics`]: crate::nn::Model::unfreeze_statistics
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BatchNormalization {
    pub(super) momentum: f64,
    pub(super) epsilon: f64,
}

impl Default for BatchNormalization {
    /// Keras's values: momentum 0.99, epsilon 0.001.
    fn default() -> BatchNormalization {
        BatchNormalization { momentum: 0.99, epsilon: 1e-3 }
    }
}

impl BatchNormalization {
    /// Sets the momentum: the fraction of the moving statistics that each step retains. Default: 0.99.
    pub fn momentum(self, momentum: f64) -> BatchNormalization {
        BatchNormalization { momentum, ..self }
    }

    /// Sets epsilon, which is added to the variance before the square root. Default: 0.001.
    pub fn epsilon(self, epsilon: f64) -> BatchNormalization {
        BatchNormalization { epsilon, ..self }
    }
}

impl Build for BatchNormalization {
    fn default_name(&self) -> &str {
        "batch_normalization"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let (momentum, epsilon) = (self.momentum, self.epsilon);
        check("momentum", momentum, (0.0..=1.0).contains(&momentum), "a share from 0 to 1")?;
        check_positive("epsilon", epsilon)?;
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

pub(super) struct Built {
    config: BatchNormalization,
    gamma: Param,
    beta: Param,
    mean: Param,
    variance: Param,
    shape: Vec<usize>,
}

impl Built {
    /// Updates the moving statistics with those of a batch. Skips values that are not finite: the loss of such a batch
    /// ends the training, and the model must stay usable.
    fn update_moving(&self, mean: &Tensor, variance: &Tensor) -> Result<()> {
        let momentum = self.config.momentum;
        for (moving, batch) in [(&self.mean, mean), (&self.variance, variance)] {
            let before = moving.value(Mode::Inference);
            let after = ((&before * momentum)? + (batch * (1.0 - momentum))?)?;
            let is_finite = after.abs()?.le(f64::from(f32::MAX))?;
            moving.set(&is_finite.where_cond(&after, &before)?)?;
        }
        Ok(())
    }

    /// Whether the layer uses batch statistics.
    pub(super) fn is_training(&self, mode: Mode) -> bool {
        mode == Mode::Training && self.gamma.is_trainable() && !self.mean.is_in_inference_mode()
    }

    /// Normalises by batch statistics. `relu` adds a fused ReLU, on the CPU path only.
    fn train(&self, x: &Tensor, relu: bool) -> Result<Tensor> {
        let (gamma, beta) = (self.gamma.value(Mode::Training), self.beta.value(Mode::Training));
        if takes_cpu_path(x) {
            let op = BatchNorm { epsilon: self.config.epsilon as f32, relu, statistics: Arc::default() };
            let found = op.statistics.clone();
            let y = apply3(&x.contiguous()?, &gamma, &beta, op)?;
            if let Some(found) = found.get() {
                let vector = |values: &Vec<f32>| Tensor::from_slice(values, values.len(), x.device());
                self.update_moving(&vector(&found.mean)?, &vector(&found.variance)?)?;
            }
            return Ok(y);
        }
        // One row per channel.
        let swapped = x.transpose(0, 1)?;
        let rows = swapped.flatten_from(1)?;
        let mean = rows.mean_keepdim(1)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim(1)?;
        self.update_moving(&mean.detach().squeeze(1)?, &variance.detach().squeeze(1)?)?;
        let scale = (gamma.unsqueeze(1)? / (variance + self.config.epsilon)?.sqrt()?)?;
        let y = centred.broadcast_mul(&scale)?.broadcast_add(&beta.unsqueeze(1)?)?;
        Ok(y.reshape(swapped.shape())?.transpose(0, 1)?.contiguous()?)
    }

    /// Whether the layer only applies a scale and a shift per channel, neither of which requires a gradient.
    pub(super) fn is_scale_and_shift(&self, mode: Mode) -> bool {
        mode == Mode::Inference || ![&self.gamma, &self.beta].iter().any(|param| param.is_trainable())
    }

    /// Normalises by batch statistics, with a fused ReLU, on the CPU path.
    pub(super) fn forward_with_relu(&self, x: &Tensor) -> Result<Tensor> {
        self.train(x, true)
    }

    /// Scale and shift in inference mode, from the moving statistics.
    pub(super) fn scale_and_shift(&self, mode: Mode) -> Result<(Tensor, Tensor)> {
        let known = |param: &Param| param.value(Mode::Inference);
        let scale = (self.gamma.value(mode) / (known(&self.variance) + self.config.epsilon)?.sqrt()?)?;
        let shift = (self.beta.value(mode) - (known(&self.mean) * &scale)?)?;
        Ok((scale, shift))
    }

    fn transform(&self, x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let mut dims = vec![1; x.rank()];
        dims[1] = self.shape[0];
        Ok(x.broadcast_mul(&scale.reshape(dims.as_slice())?)?.broadcast_add(&shift.reshape(dims)?)?)
    }
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "BatchNormalization"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = inputs[0];
        if self.is_training(mode) {
            return self.train(x, false);
        }
        let (scale, shift) = self.scale_and_shift(mode)?;
        match takes_cpu_path(x) {
            true => Ok(apply3(&x.contiguous()?, &scale, &shift, ScaleShift)?),
            false => self.transform(x, &scale, &shift),
        }
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        [&self.gamma, &self.beta, &self.mean, &self.variance].map(Param::clone).to_vec()
    }
}
