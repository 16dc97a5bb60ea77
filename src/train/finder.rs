//! The learning rate range test (Smith 2015).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use candle_core::Tensor;

use super::Compiled;
use crate::data::{Batch, Dataset, IntoDataset, announced_batches, check_numbers};
use crate::display::debug_as_text;
use crate::nn::{Mode, Model};
use crate::ops::GradientTape;
use crate::{Error, Result, check_interrupt};

/// Smallest and largest learning rate, and number of steps (100: about 14 for each factor of ten).
const LOWEST: f64 = 1e-7;
const HIGHEST: f64 = 1.0;
const STEPS: usize = 100;
/// Weight of the previous smoothed loss in the exponential moving average.
const SMOOTHING: f64 = 0.9;
/// Number of steps after which the moving average is stable.
const SETTLING_STEPS: usize = 10;
/// The test stops when the loss exceeds this multiple of the smallest loss. Above a negative smallest loss, the distance
/// is the same: three times its absolute value.
const DIVERGENCE_FACTOR: f64 = 4.0;

/// The loss at each learning rate, in ascending order: the result of [`Model::find_learning_rate`].
#[derive(Clone)]
pub struct LearningRateCurve {
    /// The learning rates, ascending.
    pub learning_rates: Vec<f64>,
    /// The smoothed loss at each learning rate.
    pub losses: Vec<f64>,
}

impl Model {
    /// Trains for up to 100 steps, each with a larger learning rate, and returns the loss at each step.
    /// Weights and optimizer are restored afterwards.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
    /// # let (x, y) = (random_uniform((64, 2), 0.0, 1.0)?, random_uniform(64, 0.0, 1.0)?);
    /// model.compile(SGD::default(), MeanSquaredError, []);
    /// let curve = model.find_learning_rate((&x, &y), 16)?;
    /// println!("{curve}");
    /// display(&curve);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Model::fit`]; [`Error::NotFinite`] if the first loss is not finite;
    /// [`Error::Argument`] if a schedule sets the learning rate, or the model has several inputs or outputs.
    pub fn find_learning_rate(
        &mut self,
        data: impl IntoDataset,
        batch_size: usize,
    ) -> Result<LearningRateCurve> {
        self.check_single_to_train("find_learning_rate")?;
        let mut data = data.into_dataset(batch_size, true)?;
        check_numbers("find_learning_rate", self.trained_classes(), data.class_names())?;
        let mut compiled = self.training_state_mut().compiled.take().ok_or(Error::NotCompiled)?;
        let result = self.try_learning_rates(&mut compiled, &mut *data);
        self.training_state_mut().compiled = Some(compiled);
        result?.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn try_learning_rates(
        &self,
        compiled: &mut Compiled,
        data: &mut dyn Dataset,
    ) -> Result<std::thread::Result<Result<LearningRateCurve>>> {
        compiled.optimizer.check()?;
        let (named, params) = (self.named_params(), self.params());
        let saved: Vec<Tensor> =
            params.iter().map(|param| Ok(param.variable().copy()?)).collect::<Result<_>>()?;
        let state =
            compiled.optimizer.state(&named)?.into_iter().map(|(name, value)| Ok((name, value.copy()?)));
        let (state, rate) = (state.collect::<Result<_>>()?, compiled.optimizer.learning_rate());
        compiled.optimizer.set_learning_rate(LOWEST)?;
        compiled.optimizer.prepare(&named);
        // Weights and optimizer are restored after a panic, too.
        let curve = catch_unwind(AssertUnwindSafe(|| self.run_range_test(compiled, data)));
        params.iter().zip(&saved).try_for_each(|(param, value)| param.set(value))?;
        compiled.optimizer.set_state(&named, &state)?;
        compiled.optimizer.set_learning_rate(rate)?;
        Ok(curve)
    }

    fn run_range_test(&self, compiled: &mut Compiled, data: &mut dyn Dataset) -> Result<LearningRateCurve> {
        let trainable = self.params_to_train()?;
        let mut curve = LearningRateCurve { learning_rates: Vec::new(), losses: Vec::new() };
        let (mut smooth, mut least) = (0.0, f64::INFINITY);
        loop {
            for batch in announced_batches(data)? {
                check_interrupt()?;
                let Batch { x, y, weights } = batch?;
                let step = curve.losses.len();
                let rate = LOWEST * (HIGHEST / LOWEST).powf(step as f64 / (STEPS - 1) as f64);
                compiled.optimizer.set_learning_rate(rate)?;
                let targets = compiled.targets(self, &y)?;
                let tape = GradientTape::new();
                let linear = self.forward_linear(&x, Mode::Training)?;
                let loss = compiled.step_output(self, linear, targets, weights.as_ref())?.loss;
                let value = f64::from(loss.to_scalar::<f32>()?);
                smooth = SMOOTHING * smooth + (1.0 - SMOOTHING) * value;
                // Corrects the bias of the moving average towards 0 in the first steps.
                let mean = smooth / (1.0 - SMOOTHING.powi(step as i32 + 1));
                if !value.is_finite() && step == 0 {
                    return Err(Error::NotFinite {
                        loss: value as f32,
                        epoch: 1,
                        batch: 1,
                        validation: false,
                    });
                }
                if !value.is_finite() || mean > least + (DIVERGENCE_FACTOR - 1.0) * least.abs() {
                    return Ok(curve);
                }
                least = least.min(mean);
                curve.learning_rates.push(rate);
                curve.losses.push(mean);
                if curve.losses.len() == STEPS {
                    return Ok(curve);
                }
                compiled.optimizer.step(&trainable, &tape.gradient(&loss)?)?;
            }
        }
    }
}

debug_as_text!(LearningRateCurve);

impl LearningRateCurve {
    /// Returns the learning rate at which the loss falls most steeply: a good initial learning rate.
    pub fn suggestion(&self) -> f64 {
        let lowest =
            (0..self.losses.len()).min_by(|a, b| self.losses[*a].total_cmp(&self.losses[*b])).unwrap_or(0);
        // Ignore the steps before the loss starts to fall: they are noisy, especially the first ones,
        // where few losses have been averaged.
        let level = self
            .losses
            .get(SETTLING_STEPS)
            .zip(self.losses.get(lowest))
            .map_or(f64::INFINITY, |(a, b)| 0.9 * a + 0.1 * b);
        let begin = (0..lowest).rev().find(|at| self.losses[*at] >= level).unwrap_or(0);
        // Compare losses several steps apart, so that noise has little effect.
        const SPAN: usize = 5;
        let fall = |at: usize| self.losses[at] - self.losses[at + SPAN];
        let steepest = (begin..lowest.saturating_sub(SPAN)).max_by(|a, b| fall(*a).total_cmp(&fall(*b)));
        let at = steepest.map_or(begin.midpoint(lowest), |at| at + SPAN / 2);
        self.learning_rates.get(at).copied().unwrap_or(LOWEST)
    }
}

impl fmt::Display for LearningRateCurve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = self.learning_rates.last().copied().unwrap_or(LOWEST);
        write!(f, "learning rates from {LOWEST:e} to {tried:.0e}: try {:.1e}", self.suggestion())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_ignores_noise_before_the_loss_falls() {
        // The loss is noisy in the first steps, then flat, and falls from step 60.
        let losses = (0..STEPS).map(|step| match step {
            0..3 => 9.0,
            3..60 => 5.0 + 0.1 * f64::from(step as u32 % 2),
            _ => 5.0 - 0.1 * (step - 60) as f64,
        });
        let learning_rates = (0..STEPS).map(|step| 10f64.powf(step as f64 / 10.0)).collect();
        let curve = LearningRateCurve { learning_rates, losses: losses.collect() };
        assert!(curve.suggestion() > 1e6, "{}", curve.suggestion());
    }
}
