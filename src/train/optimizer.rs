//! Optimizers, with Keras's formulas.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId};

use crate::Result;
use crate::nn::Param;

/// What turns gradients into smaller loss.
pub trait Optimizer: Send + Sync {
    /// Takes one step: changes each parameter that has a gradient.
    fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()>;

    /// The size of a step.
    fn learning_rate(&self) -> f64;

    /// Sets the size of a step from now on.
    fn set_learning_rate(&mut self, learning_rate: f64);
}

/// Adam (Kingma and Ba 2014), as in Keras's `adam.py`:
/// `w -= lr·√(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + ε)`.
#[derive(Debug)]
pub struct Adam {
    learning_rate: f64,
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    steps: i32,
    moments: HashMap<TensorId, (Tensor, Tensor)>,
}

impl Default for Adam {
    /// Keras's values: learning rate 0.001, betas 0.9 and 0.999, epsilon 1e-7.
    fn default() -> Adam {
        Adam::new(1e-3)
    }
}

impl Adam {
    /// Adam with a learning rate of your own, as `1e-5` for fine-tuning.
    pub fn new(learning_rate: f64) -> Adam {
        Adam { learning_rate, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, steps: 0, moments: HashMap::new() }
    }
}

impl Optimizer for Adam {
    fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()> {
        self.steps += 1;
        let (b1, b2) = (self.beta_1, self.beta_2);
        let rate = self.learning_rate * (1.0 - b2.powi(self.steps)).sqrt() / (1.0 - b1.powi(self.steps));
        for param in params {
            let Some(gradient) = gradients.get(param.var()) else { continue };
            let gradient = gradient.detach();
            let id = param.var().id();
            let (m, v) = match self.moments.remove(&id) {
                Some(moments) => moments,
                None => (gradient.zeros_like()?, gradient.zeros_like()?),
            };
            let m = ((m * b1)? + (&gradient * (1.0 - b1))?)?;
            let v = ((v * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
            let change = ((&m * rate)? / (v.sqrt()? + self.epsilon)?)?;
            param.var().set(&param.var().as_detached_tensor().sub(&change)?)?;
            self.moments.insert(id, (m, v));
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }
}
