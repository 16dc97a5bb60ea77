//! The value that a callback monitors, and what counts as an improvement.

use std::collections::HashMap;

use candle_core::Tensor;

use super::Training;
use super::state::{numbers, read_number};
use crate::check::check_not_negative;
use crate::{Error, Result};

/// A monitored value and its best value so far.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    pub(super) name: String,
    /// The mode that the user set: `auto`, `min` or `max`.
    mode: String,
    /// Whether a larger value is better. Known once the training begins.
    is_larger_better: bool,
    /// The smallest change that counts as an improvement.
    pub(super) min_delta: f64,
    pub(super) best: Option<f64>,
}

impl Monitor {
    pub(super) fn new(name: &str) -> Monitor {
        Monitor {
            name: name.into(),
            mode: "auto".into(),
            is_larger_better: false,
            min_delta: 0.0,
            best: None,
        }
    }

    /// Returns the best value so far, as the state of a callback.
    pub(super) fn state(&self) -> Result<HashMap<String, Tensor>> {
        self.best.map(|best| Ok(("best".to_owned(), numbers(&[best])?))).into_iter().collect()
    }

    pub(super) fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.best = read_number(state, "best")?;
        Ok(())
    }

    /// Returns a monitor of another value with the same settings.
    pub(super) fn renamed(self, name: &str) -> Monitor {
        Monitor { name: name.into(), ..self }
    }

    pub(super) fn set_mode(&mut self, mode: &str) {
        self.mode = mode.into();
    }

    /// Returns an error for an unknown mode.
    pub(super) fn check_mode(&self) -> Result<()> {
        if ["auto", "min", "max"].contains(&&*self.mode) {
            return Ok(());
        }
        let expected = "\"max\", \"min\" or \"auto\"".into();
        Err(Error::Argument { name: "mode", expected, found: format!("{:?}", self.mode) })
    }

    /// Determines which direction is better, before the training starts. In `auto` mode the metric
    /// decides, as in Keras.
    ///
    /// # Errors
    /// [`Error::Argument`] for an unknown mode, and for `auto` with a metric that does not define a
    /// direction.
    pub(super) fn begin(&mut self, training: &Training) -> Result<()> {
        self.check_mode()?;
        check_not_negative("min_delta", self.min_delta)?;
        self.is_larger_better = match &*self.mode {
            "auto" => training.is_larger_better(&self.name)?,
            mode => mode == "max",
        };
        Ok(())
    }

    /// Returns whether the current value improves on the best one, and stores it if so.
    pub(super) fn improves(&mut self, training: &Training) -> Result<bool> {
        let value = training.value(&self.name)?;
        let better = self.beats(value, self.best);
        if better {
            self.best = Some(value);
        }
        Ok(better)
    }

    /// Returns whether a value improves on another one.
    pub(super) fn beats(&self, value: f64, other: Option<f64>) -> bool {
        match other {
            None => !value.is_nan(),
            Some(other) if self.is_larger_better => value > other + self.min_delta,
            Some(other) => value < other - self.min_delta,
        }
    }
}
