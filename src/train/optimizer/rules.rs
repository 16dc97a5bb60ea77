//! The update rules of the optimizers.

use candle_core::Tensor;

use super::fused::{Epsilon, blend, divide};
use super::rule_settings::{MeanSquare, Moments, Momentum};
use super::{GradientDescent, LearningRate, OptimizerConfig, OptimizerSettings, Rule, Step};
use crate::Result;
use crate::check::{check_below_one, check_not_negative};
use crate::nn::Param;

/// Stochastic gradient descent with optional momentum (`sgd.py`): `m = μ·m - lr·g`, `w += m`.
pub type SGD = GradientDescent<Momentum>;
/// Adam (Kingma and Ba 2014; `adam.py`): `w -= lr·√(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + ε)`.
///
/// t counts the steps of each parameter, as in PyTorch: layers unfrozen during training start at t = 1.
/// Keras counts the steps of the optimizer, so its first steps on such layers are several times too
/// large.
pub type Adam = GradientDescent<Moments>;
/// RMSprop (Hinton; `rmsprop.py`): `v = ρ·v + (1-ρ)·g²`, `w -= lr·g/√(v + ε)`.
pub type RMSprop = GradientDescent<MeanSquare>;

/// Adam with a weight decay of 0.004 (Loshchilov and Hutter 2017; `adamw.py`).
pub struct AdamW;

impl SGD {
    /// Creates SGD without momentum. `learning_rate` is a number or a [`Schedule`](super::Schedule).
    pub fn new(learning_rate: impl Into<LearningRate>) -> SGD {
        GradientDescent::with(Momentum { momentum: 0.0, nesterov: false }, learning_rate.into())
    }

    /// Sets the momentum: the share of the previous step that is added to the next one. Default: 0; a
    /// common value is 0.9.
    pub fn momentum(mut self, momentum: f64) -> SGD {
        self.rule.momentum = momentum;
        self
    }

    /// Sets whether Nesterov momentum is used (Nesterov 1983). Default: `false`.
    pub fn nesterov(mut self, nesterov: bool) -> SGD {
        self.rule.nesterov = nesterov;
        self
    }
}

impl Default for SGD {
    /// Keras's default: learning rate 0.01.
    fn default() -> SGD {
        SGD::new(1e-2)
    }
}

impl Rule for Momentum {
    fn config(settings: OptimizerSettings<Self>) -> OptimizerConfig {
        OptimizerConfig::SGD(settings)
    }

    fn check(&self) -> Result<()> {
        check_below_one("momentum", self.momentum)
    }

    fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn step(&self, param: &Param, step: Step) -> Result<Vec<Tensor>> {
        let Step { gradient, scale, rate, keep, mut slots, .. } = step;
        let descent = -rate * scale;
        let Some(last) = slots.pop() else {
            param.change(|w| blend(w, gradient, keep, descent, false))?;
            return Ok(slots);
        };
        let last = blend(last, gradient, self.momentum, descent, false)?;
        param.change(|w| match self.nesterov {
            true => blend(blend(w, &last, keep, self.momentum, false)?, gradient, 1.0, descent, false),
            false => blend(w, &last, keep, 1.0, false),
        })?;
        Ok(vec![last])
    }
}

impl Adam {
    /// Creates Adam with a learning rate, such as `1e-5` for fine-tuning. `learning_rate` is a number or
    /// a [`Schedule`](super::Schedule).
    pub fn new(learning_rate: impl Into<LearningRate>) -> Adam {
        GradientDescent::with(Moments { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }, learning_rate.into())
    }

    /// Sets the decay rate of the gradient's moving average. Default: 0.9.
    pub fn beta_1(mut self, beta_1: f64) -> Adam {
        self.rule.beta_1 = beta_1;
        self
    }

    /// Sets the decay rate of the squared gradient's moving average. Default: 0.999.
    pub fn beta_2(mut self, beta_2: f64) -> Adam {
        self.rule.beta_2 = beta_2;
        self
    }

    /// Sets the term that prevents division by 0. Default: 1e-7.
    pub fn epsilon(mut self, epsilon: f64) -> Adam {
        self.rule.epsilon = epsilon;
        self
    }
}

impl Default for Adam {
    /// Keras's defaults: learning rate 0.001, betas 0.9 and 0.999, epsilon 1e-7.
    fn default() -> Adam {
        Adam::new(1e-3)
    }
}

impl AdamW {
    /// Creates [`Adam`] with a weight decay of 0.004.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(learning_rate: impl Into<LearningRate>) -> Adam {
        Adam::new(learning_rate).weight_decay(4e-3)
    }
}

impl Rule for Moments {
    fn config(settings: OptimizerSettings<Self>) -> OptimizerConfig {
        OptimizerConfig::Adam(settings)
    }

    fn check(&self) -> Result<()> {
        check_below_one("beta_1", self.beta_1)?;
        check_below_one("beta_2", self.beta_2)?;
        check_not_negative("epsilon", self.epsilon)
    }

    fn slots(&self) -> &'static [&'static str] {
        &["momentum", "velocity"]
    }

    fn step(&self, param: &Param, step: Step) -> Result<Vec<Tensor>> {
        let Step { gradient, scale, rate, keep, number, mut slots } = step;
        let (b1, b2) = (self.beta_1, self.beta_2);
        let (Some(second), Some(first)) = (slots.pop(), slots.pop()) else { return Ok(slots) };
        let first = blend(first, gradient, b1, scale * (1.0 - b1), false)?;
        let second = blend(second, gradient, b2, scale * scale * (1.0 - b2), true)?;
        let rate = rate * (1.0 - b2.powi(number)).sqrt() / (1.0 - b1.powi(number));
        param.change(|w| divide(w, &first, &second, keep, rate, Epsilon::Outside(self.epsilon)))?;
        Ok(vec![first, second])
    }
}

impl RMSprop {
    /// Creates RMSprop. `learning_rate` is a number or a [`Schedule`](super::Schedule).
    pub fn new(learning_rate: impl Into<LearningRate>) -> RMSprop {
        let rule = MeanSquare { rho: 0.9, momentum: 0.0, epsilon: 1e-7, centered: false };
        GradientDescent::with(rule, learning_rate.into())
    }

    /// Sets the decay rate of the squared gradient's moving average. Default: 0.9.
    pub fn rho(mut self, rho: f64) -> RMSprop {
        self.rule.rho = rho;
        self
    }

    /// Sets the momentum: the share of the previous step that is added to the next one. Default: 0.
    pub fn momentum(mut self, momentum: f64) -> RMSprop {
        self.rule.momentum = momentum;
        self
    }

    /// Sets the term that is added below the root, which prevents division by 0. Default: 1e-7.
    pub fn epsilon(mut self, epsilon: f64) -> RMSprop {
        self.rule.epsilon = epsilon;
        self
    }

    /// Sets whether gradients are divided by their estimated standard deviation instead of their root
    /// mean square. Default: `false`.
    pub fn centered(mut self, centered: bool) -> RMSprop {
        self.rule.centered = centered;
        self
    }
}

impl Default for RMSprop {
    /// Keras's defaults: learning rate 0.001, rho 0.9, epsilon 1e-7.
    fn default() -> RMSprop {
        RMSprop::new(1e-3)
    }
}

impl Rule for MeanSquare {
    fn config(settings: OptimizerSettings<Self>) -> OptimizerConfig {
        OptimizerConfig::RMSprop(settings)
    }

    fn check(&self) -> Result<()> {
        check_below_one("rho", self.rho)?;
        check_below_one("momentum", self.momentum)?;
        check_not_negative("epsilon", self.epsilon)
    }

    fn slots(&self) -> &'static [&'static str] {
        &["velocity", "momentum", "average_gradient"]
    }

    fn step(&self, param: &Param, step: Step) -> Result<Vec<Tensor>> {
        let Step { gradient, scale, rate, keep, slots, .. } = step;
        let Ok([velocity, momentum, average]) = <[Tensor; 3]>::try_from(slots) else { return Ok(Vec::new()) };
        let fresh = 1.0 - self.rho;
        let velocity = blend(velocity, gradient, self.rho, scale * scale * fresh, true)?;
        let average = match self.centered {
            true => blend(average, gradient, self.rho, scale * fresh, false)?,
            false => average,
        };
        let variance = if self.centered { (&velocity - average.sqr()?)? } else { velocity.clone() };
        let epsilon = Epsilon::Inside(self.epsilon);
        let momentum = match self.momentum {
            0.0 => {
                param.change(|w| divide(w, gradient, &variance, keep, rate * scale, epsilon))?;
                momentum
            }
            kept => {
                let momentum = divide(momentum, gradient, &variance, kept, -rate * scale, epsilon)?;
                param.change(|w| blend(w, &momentum, keep, -1.0, false))?;
                momentum
            }
        };
        Ok(vec![velocity, momentum, average])
    }
}
