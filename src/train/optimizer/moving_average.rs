//! Exponential moving averages of the weights (Polyak and Juditsky 1992), as Keras's optimizers compute them.

use std::collections::HashMap;

use candle_core::{Tensor, TensorId};

use super::fused::blend;
use crate::check::check;
use crate::nn::Param;
use crate::{Error, Result};

/// Name of a parameter's average in an optimizer's state.
const AVERAGE: &str = "average";

/// The averages of the trainable parameters.
#[derive(Debug)]
pub(super) struct MovingAverage {
    pub(super) is_used: bool,
    pub(super) momentum: f64,
    /// Number of steps after which the weights are replaced by their averages. `None`: only at the end of `fit`.
    pub(super) overwrite_frequency: Option<usize>,
    averages: HashMap<TensorId, Tensor>,
}

impl Default for MovingAverage {
    fn default() -> MovingAverage {
        MovingAverage { is_used: false, momentum: 0.99, overwrite_frequency: None, averages: HashMap::new() }
    }
}

impl MovingAverage {
    pub(super) fn new(momentum: f64, overwrite_frequency: Option<usize>) -> MovingAverage {
        MovingAverage { is_used: true, momentum, overwrite_frequency, averages: HashMap::new() }
    }

    pub(super) fn check(&self) -> Result<()> {
        check("ema_momentum", self.momentum, (0.0..=1.0).contains(&self.momentum), "a number from 0 to 1")?;
        match self.overwrite_frequency {
            Some(0) => Err(Error::Argument {
                name: "ema_overwrite_frequency",
                expected: "at least 1 step".into(),
                found: "0".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Updates the averages after step number `step`, from 1. The initial average of a parameter is its value after
    /// its first step.
    pub(super) fn update(&mut self, params: &[Param], step: usize) -> Result<()> {
        if !self.is_used {
            return Ok(());
        }
        for param in params.iter().filter(|param| param.is_trainable()) {
            let (id, value) = (param.variable().id(), param.variable().as_detached_tensor());
            let average = match self.averages.remove(&id) {
                Some(average) => blend(average, &value, self.momentum, 1.0 - self.momentum, false)?,
                None => value.copy()?,
            };
            self.averages.insert(id, average);
        }
        match self.overwrite_frequency {
            Some(steps) if step.is_multiple_of(steps) => self.overwrite(params),
            _ => Ok(()),
        }
    }

    /// Sets the weights to their averages.
    pub(super) fn overwrite(&self, params: &[Param]) -> Result<()> {
        if !self.is_used {
            return Ok(());
        }
        for param in params {
            if let Some(average) = self.averages.get(&param.variable().id()) {
                param.set(average)?;
            }
        }
        Ok(())
    }

    /// The state as named tensors. `params` have their paths.
    pub(super) fn state(&self, params: &[(String, Param)]) -> Vec<(String, Tensor)> {
        let average = |(path, param): &(String, Param)| {
            Some((format!("{path}/{AVERAGE}"), self.averages.get(&param.variable().id())?.clone()))
        };
        params.iter().filter_map(average).collect()
    }

    /// Restores what [`MovingAverage::state`] returned.
    pub(super) fn restore(
        &mut self,
        params: &[(String, Param)],
        state: &HashMap<String, Tensor>,
    ) -> Result<()> {
        self.averages.clear();
        for (path, param) in params {
            let average = state.get(&format!("{path}/{AVERAGE}"));
            if let Some(average) = average.filter(|average| average.dims() == param.variable().dims()) {
                // A copy, because the average is changed in place.
                let average = average.to_device(param.variable().device())?.copy()?;
                self.averages.insert(param.variable().id(), average);
            }
        }
        Ok(())
    }
}
