//! Stopping a training that no longer improves.

use std::collections::HashMap;

use candle_core::Tensor;

use super::monitor::Monitor;
use super::state::{numbers, read_count};
use super::{Callback, Training};
use crate::Result;
use crate::check::check;

/// Stops the training when the monitored value has not improved for `patience` epochs.
///
/// ```
/// use headstart::prelude::*;
/// let stop = EarlyStopping::new("val_loss").patience(3).restore_best_weights(true);
/// let fit = Fit::epochs(100).validation_split(0.2).callback(stop);
/// ```
#[derive(Debug)]
pub struct EarlyStopping {
    monitor: Monitor,
    patience: usize,
    restore_best_weights: bool,
    start_from_epoch: usize,
    baseline: Option<f64>,
    waited: usize,
    best: Option<Vec<Tensor>>,
}

impl EarlyStopping {
    /// Creates the callback for `val_loss` or another value of the history. The default patience is 0,
    /// as in Keras: the training stops at the first epoch without improvement.
    pub fn new(monitor: &str) -> EarlyStopping {
        EarlyStopping {
            monitor: Monitor::new(monitor),
            patience: 0,
            restore_best_weights: false,
            start_from_epoch: 0,
            baseline: None,
            waited: 0,
            best: None,
        }
    }

    /// Sets how many epochs without improvement end the training. Default: 0.
    pub fn patience(self, epochs: usize) -> EarlyStopping {
        EarlyStopping { patience: epochs, ..self }
    }

    /// Sets which direction is better: `"max"`, `"min"`, or `"auto"`, which asks the metric. Default:
    /// `"auto"`.
    pub fn mode(mut self, mode: &str) -> EarlyStopping {
        self.monitor.set_mode(mode);
        self
    }

    /// Sets the smallest change that counts as an improvement. Default: any change above 0.
    pub fn min_delta(mut self, delta: f64) -> EarlyStopping {
        self.monitor.min_delta = delta.abs();
        self
    }

    /// Sets whether the model gets the weights of its best epoch back. Default: `false`.
    pub fn restore_best_weights(self, restore: bool) -> EarlyStopping {
        EarlyStopping { restore_best_weights: restore, ..self }
    }

    /// Sets how many epochs pass before monitoring begins. Default: 0.
    pub fn start_from_epoch(self, epochs: usize) -> EarlyStopping {
        EarlyStopping { start_from_epoch: epochs, ..self }
    }

    /// Sets a value that must be surpassed: only an improvement on it restarts the patience. As in Keras, an epoch that
    /// improves on the best one never stops the training. Default: none.
    pub fn baseline(self, value: f64) -> EarlyStopping {
        EarlyStopping { baseline: Some(value), ..self }
    }
}

impl Callback for EarlyStopping {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.monitor.begin(training)?;
        check("baseline", "NaN", !self.baseline.is_some_and(f64::is_nan), "a number")?;
        (self.waited, self.best, self.monitor.best) = (0, None, None);
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if training.epoch() <= self.start_from_epoch {
            return Ok(());
        }
        self.waited += 1;
        if self.monitor.improves(training)? {
            let value = training.value(&self.monitor.name)?;
            if self.baseline.is_none_or(|baseline| self.monitor.beats(value, Some(baseline))) {
                self.waited = 0;
            }
            if self.restore_best_weights {
                let params = training.model().params();
                self.best =
                    Some(params.iter().map(|param| Ok(param.variable().copy()?)).collect::<Result<_>>()?);
            }
        } else if self.waited >= self.patience && training.epoch() > 1 {
            training.stop(format!("{} has not improved for {} epochs", self.monitor.name, self.waited));
        }
        Ok(())
    }

    fn on_train_end(&mut self, training: &mut Training) -> Result<()> {
        let Some(weights) = self.best.take() else { return Ok(()) };
        training.model().params().iter().zip(&weights).try_for_each(|(param, value)| param.set(value))
    }

    /// Restores the best weights after an error too, such as a loss that is not finite.
    fn on_train_error(&mut self, training: &mut Training) -> Result<()> {
        self.on_train_end(training)
    }

    fn monitor(&self) -> Option<&str> {
        Some(&self.monitor.name)
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = self.monitor.state()?;
        state.insert("waited".into(), numbers(&[self.waited as f64])?);
        let best = self.best.iter().flatten().enumerate();
        state.extend(best.map(|(at, weight)| (format!("weights/{at}"), weight.clone())));
        Ok(state)
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.monitor.set_state(state)?;
        self.waited = read_count(state, "waited")?;
        let weights: Vec<Tensor> =
            (0..).map_while(|at| state.get(&format!("weights/{at}")).cloned()).collect();
        self.best = Some(weights).filter(|weights| !weights.is_empty() && self.restore_best_weights);
        Ok(())
    }
}
