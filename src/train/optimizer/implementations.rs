//! The trait [`Optimizer`] for the library's optimizers.

use std::collections::HashMap;

use candle_core::Tensor;
use candle_core::backprop::GradStore;

use super::{GradientDescent, MeanSquare, Moments, Momentum, Optimizer, OptimizerConfig, Rule};
use crate::Result;
use crate::nn::Param;

/// Implements [`Optimizer`] for each rule separately. A generic implementation would be compiled in each
/// cell that calls `compile`, which took 1 s.
macro_rules! optimizers {
    ($($rule:ty),+) => {
        $(impl Optimizer for GradientDescent<$rule> {
            fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()> {
                self.take_step(params, gradients)
            }

            fn learning_rate(&self) -> f64 {
                self.learning_rate.at(self.steps)
            }

            fn learning_rate_of(&self, param: &Param) -> f64 {
                self.learning_rate() * self.multiplier(param.variable().id())
            }

            fn highest_learning_rate_of(&self, param: &Param, steps: usize) -> f64 {
                self.learning_rate.highest(self.steps, steps) * self.multiplier(param.variable().id())
            }

            fn check(&self) -> Result<()> {
                self.check_settings()
            }

            fn prepare(&mut self, params: &[(String, Param)]) {
                self.exclude(params);
            }

            fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
                self.change_rate(learning_rate)
            }

            fn state(&self, params: &[(String, Param)]) -> Result<HashMap<String, Tensor>> {
                self.kept_state(params)
            }

            fn config(&self, params: &[(String, Param)]) -> Option<OptimizerConfig> {
                Some(<$rule>::config(self.settings(params)))
            }

            fn set_state(&mut self, params: &[(String, Param)], state: &HashMap<String, Tensor>) -> Result<()> {
                self.put_back(params, state)
            }

            fn finalize_variable_values(&mut self, params: &[Param]) -> Result<()> {
                self.moving_average.overwrite(params)
            }

            fn boxed(self) -> Box<dyn Optimizer> {
                Box::new(self)
            }
        })+
    };
}

optimizers!(Momentum, Moments, MeanSquare);
