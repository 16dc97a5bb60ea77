//! Options of the optimizers.

use std::collections::HashMap;

use candle_core::TensorId;

use super::accumulation::Accumulation;
use super::{Clip, GradientDescent, Rule};
use crate::nn::{Model, Param};

impl<R: Rule> GradientDescent<R> {
    /// Sets the decoupled weight decay (Loshchilov and Hutter 2017). Each step multiplies a weight by
    /// `1 - learning_rate · weight_decay`. Default: 0; for AdamW 0.004.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Excludes the parameters whose path contains one of these names from the weight decay, as in Keras. A name can be
    /// that of parameters, `bias` or `gamma`, or of a layer, `dense_1`.
    pub fn exclude_from_weight_decay(self, names: &[&str]) -> Self {
        Self { not_decayed: names.iter().map(|name| name.to_string()).collect(), ..self }
    }

    /// Takes one step for the mean gradient of this many batches. They have the effect of one large batch, with the
    /// memory of a small one. Clipping, weight decay and schedules follow steps, not batches. Default: 1.
    pub fn gradient_accumulation_steps(self, steps: usize) -> Self {
        Self { accumulation: Accumulation::new(steps), ..self }
    }

    /// Sets whether the optimizer computes an exponential moving average of the weights over the steps. `fit` sets the
    /// weights to their averages after its last epoch; an interrupted `fit` does not. The validation during training
    /// uses the weights themselves. Default: false.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let mut model = sequential![Input::new(4), Dense::new(1)]?;
    /// model.compile(Adam::new(1e-3).use_ema(true).ema_momentum(0.999), MeanSquaredError, []);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn use_ema(mut self, use_ema: bool) -> Self {
        self.moving_average.is_used = use_ema;
        self
    }

    /// Sets the weight of the old average in each step, from 0 to 1. Default: 0.99.
    pub fn ema_momentum(mut self, momentum: f64) -> Self {
        self.moving_average.momentum = momentum;
        self
    }

    /// Also sets the weights to their averages after each `steps` steps. Default: only at the end of `fit`.
    pub fn ema_overwrite_frequency(mut self, steps: usize) -> Self {
        self.moving_average.overwrite_frequency = Some(steps);
        self
    }

    /// Clips the gradient of each parameter to this L2 norm. As in Keras, an optimizer has one kind of clipping.
    pub fn clipnorm(self, norm: f64) -> Self {
        self.clipped(Clip::Norm(norm))
    }

    /// Clips the L2 norm of all gradients together.
    pub fn global_clipnorm(self, norm: f64) -> Self {
        self.clipped(Clip::GlobalNorm(norm))
    }

    /// Clips each element of the gradients to the range from `-value` to `value`.
    pub fn clipvalue(self, value: f64) -> Self {
        self.clipped(Clip::Value(value))
    }

    fn clipped(self, clip: Clip) -> Self {
        let is_other = |earlier: &Clip| std::mem::discriminant(earlier) != std::mem::discriminant(&clip);
        let has_other_clip = self.has_other_clip || self.clip.as_ref().is_some_and(is_other);
        Self { clip: Some(clip), has_other_clip, ..self }
    }

    /// Multiplies the learning rate of the weights of `model`, for example the nested pretrained model.
    /// PyTorch calls this a parameter group. Several factors of the same weights are multiplied.
    pub fn learning_rate_multiplier(mut self, model: &Model, multiplier: f64) -> Self {
        self.multiply(model.params().iter().map(|param| (param.variable().id(), multiplier)).collect());
        self
    }

    fn multiply(&mut self, factors: HashMap<TensorId, f64>) {
        for (id, factor) in factors {
            *self.multipliers.entry(id).or_insert(1.0) *= factor;
        }
    }

    /// Multiplies the learning rate of each layer by `factor` relative to the next layer, for example
    /// 0.9. The last layer uses the full learning rate. These are discriminative learning rates (Howard
    /// and Ruder 2018). A [`learning_rate_multiplier`](Self::learning_rate_multiplier) of the same weights is another
    /// factor.
    pub fn layerwise_decay(mut self, model: &Model, factor: f64) -> Self {
        let layers = model.layers();
        let with_params =
            layers.iter().rev().map(|(_, layer)| layer.params()).filter(|params| !params.is_empty());
        let mut factors = HashMap::new();
        for (depth, params) in with_params.enumerate() {
            let multiplier = factor.powi(depth as i32);
            factors.extend(params.iter().map(|param| (param.variable().id(), multiplier)));
        }
        self.multiply(factors);
        self
    }

    /// Factor of the learning rate of one parameter.
    pub(super) fn multiplier(&self, id: TensorId) -> f64 {
        self.multipliers.get(&id).copied().unwrap_or(1.0)
    }

    /// Finds the parameters without weight decay among those of a model, given with their paths.
    pub(super) fn exclude(&mut self, params: &[(String, Param)]) {
        let is_excluded = |path: &str| self.not_decayed.iter().any(|name| path.contains(name.as_str()));
        let excluded = params.iter().filter(|(path, _)| is_excluded(path));
        self.not_decayed_ids = excluded.map(|(_, param)| param.variable().id()).collect();
    }
}
