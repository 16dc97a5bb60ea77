//! Ending a training that gets no better.

use std::collections::HashMap;

use candle_core::Tensor;

use super::state::{numbers, read_count};
use super::{Callback, Monitor, Training};
use crate::Result;

/// Ends the training when a number has not improved for some epochs.
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
    waited: usize,
    best: Option<Vec<Tensor>>,
}

impl EarlyStopping {
    /// Looks at `val_loss` or another number of the history; with Keras's patience of 0 the first
    /// epoch without improvement is the last.
    pub fn new(monitor: &str) -> EarlyStopping {
        EarlyStopping {
            monitor: Monitor::new(monitor),
            patience: 0,
            restore_best_weights: false,
            start_from_epoch: 0,
            waited: 0,
            best: None,
        }
    }

    /// Sets how many epochs without improvement end the training.
    pub fn patience(self, epochs: usize) -> EarlyStopping {
        EarlyStopping { patience: epochs, ..self }
    }

    /// Sets what is better: `"max"`, `"min"`, or `"auto"`, the default, by the metric itself.
    pub fn mode(mut self, mode: &str) -> EarlyStopping {
        self.monitor.set_mode(mode);
        self
    }

    /// Sets how much better is better: more than 0 unless told.
    pub fn min_delta(mut self, delta: f64) -> EarlyStopping {
        self.monitor.min_delta = delta.abs();
        self
    }

    /// Sets whether the model gets the weights of its best epoch back.
    pub fn restore_best_weights(self, restore: bool) -> EarlyStopping {
        EarlyStopping { restore_best_weights: restore, ..self }
    }

    /// Sets how many epochs pass before it begins to look.
    pub fn start_from_epoch(self, epochs: usize) -> EarlyStopping {
        EarlyStopping { start_from_epoch: epochs, ..self }
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.monitor.begin(training)?;
        (self.waited, self.best, self.monitor.best) = (0, None, None);
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if training.epoch() <= self.start_from_epoch {
            return Ok(());
        }
        self.waited += 1;
        if self.monitor.improves(training)? {
            self.waited = 0;
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
