//! Callbacks that change the learning rate from epoch to epoch.

use std::collections::HashMap;

use candle_core::Tensor;

use super::monitor::Monitor;
use super::state::{numbers, read_count};
use super::{Callback, Training};
use crate::Result;
use crate::check::{check, check_not_negative};

/// Reduces the learning rate when the monitored value has not improved for `patience` epochs.
///
/// ```
/// use headstart::prelude::*;
/// let fit = Fit::epochs(50).callback(ReduceLROnPlateau::new("loss").factor(0.5).patience(3));
/// ```
#[derive(Debug)]
pub struct ReduceLROnPlateau {
    monitor: Monitor,
    factor: f64,
    patience: usize,
    cooldown: usize,
    min_lr: f64,
    waited: usize,
    cooling: usize,
}

impl ReduceLROnPlateau {
    /// Creates the callback with Keras's defaults: factor 0.1, patience 10, minimum delta 0.0001.
    pub fn new(monitor: &str) -> ReduceLROnPlateau {
        let mut monitor = Monitor::new(monitor);
        monitor.min_delta = 1e-4;
        ReduceLROnPlateau {
            monitor,
            factor: 0.1,
            patience: 10,
            cooldown: 0,
            min_lr: 0.0,
            waited: 0,
            cooling: 0,
        }
    }

    /// Sets the factor by which the learning rate is multiplied. Default: 0.1.
    pub fn factor(self, factor: f64) -> ReduceLROnPlateau {
        ReduceLROnPlateau { factor, ..self }
    }

    /// Sets how many epochs without improvement reduce the learning rate. Default: 10.
    pub fn patience(self, epochs: usize) -> ReduceLROnPlateau {
        ReduceLROnPlateau { patience: epochs, ..self }
    }

    /// Sets which direction is better: `"max"`, `"min"`, or `"auto"`, which asks the metric. Default:
    /// `"auto"`.
    pub fn mode(mut self, mode: &str) -> ReduceLROnPlateau {
        self.monitor.set_mode(mode);
        self
    }

    /// Sets the smallest change that counts as an improvement. Default: 0.0001.
    pub fn min_delta(mut self, delta: f64) -> ReduceLROnPlateau {
        self.monitor.min_delta = delta.abs();
        self
    }

    /// Sets how many epochs are not counted after a reduction. Default: 0.
    pub fn cooldown(self, epochs: usize) -> ReduceLROnPlateau {
        ReduceLROnPlateau { cooldown: epochs, ..self }
    }

    /// Sets the lower bound of the learning rate. Default: 0.
    pub fn min_lr(self, learning_rate: f64) -> ReduceLROnPlateau {
        ReduceLROnPlateau { min_lr: learning_rate, ..self }
    }
}

impl Callback for ReduceLROnPlateau {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.monitor.begin(training)?;
        check("factor", self.factor, self.factor > 0.0 && self.factor < 1.0, "a number above 0 and below 1")?;
        check_not_negative("min_lr", self.min_lr)?;
        // Returns an error if a schedule sets the rate.
        training.set_learning_rate(training.learning_rate())?;
        training.logs_learning_rate = true;
        (self.waited, self.cooling, self.monitor.best) = (0, 0, None);
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if self.cooling > 0 {
            self.cooling -= 1;
            self.waited = 0;
        }
        if self.monitor.improves(training)? {
            self.waited = 0;
        } else if self.cooling == 0 {
            self.waited += 1;
            let rate = training.learning_rate();
            if self.waited >= self.patience && rate > self.min_lr {
                training.set_learning_rate((rate * self.factor).max(self.min_lr))?;
                (self.cooling, self.waited) = (self.cooldown, 0);
            }
        }
        Ok(())
    }

    fn monitor(&self) -> Option<&str> {
        Some(&self.monitor.name)
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = self.monitor.state()?;
        state.insert("waited".into(), numbers(&[self.waited as f64])?);
        state.insert("cooling".into(), numbers(&[self.cooling as f64])?);
        Ok(state)
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.monitor.set_state(state)?;
        (self.waited, self.cooling) = (read_count(state, "waited")?, read_count(state, "cooling")?);
        Ok(())
    }
}

/// Sets the learning rate of each epoch by a function of the epoch, counted from 0 as in Keras, and the
/// current rate.
///
/// ```
/// use headstart::prelude::*;
/// let halve = LearningRateScheduler::new(|epoch, rate| if epoch < 5 { rate } else { rate * 0.5 });
/// let fit = Fit::epochs(10).callback(halve);
/// ```
pub struct LearningRateScheduler(Box<dyn FnMut(usize, f64) -> f64 + Send>);

impl LearningRateScheduler {
    /// Creates the callback. `schedule` is called before each epoch.
    pub fn new(schedule: impl FnMut(usize, f64) -> f64 + Send + 'static) -> LearningRateScheduler {
        LearningRateScheduler(Box::new(schedule))
    }
}

impl std::fmt::Debug for LearningRateScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LearningRateScheduler")
    }
}

impl Callback for LearningRateScheduler {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        training.logs_learning_rate = true;
        Ok(())
    }

    fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
        let rate = (self.0)(training.epoch() - 1, training.learning_rate());
        training.set_learning_rate(rate)
    }
}
