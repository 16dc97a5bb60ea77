//! Gradient accumulation: one step for the mean gradient of several batches.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, TensorId};

use crate::Result;
use crate::nn::Param;

/// Names in an optimizer's state: number of batches since the last step, and the sum of a parameter's gradients.
const PENDING: &str = "pending_batches";
const SUM: &str = "accumulated_gradient";

/// Sums of gradients since the last step.
#[derive(Debug)]
pub(super) struct Accumulation {
    /// Batches per step.
    pub(super) steps: usize,
    pending: usize,
    sums: HashMap<TensorId, Tensor>,
}

impl Accumulation {
    /// `steps` batches per step.
    pub(super) fn new(steps: usize) -> Accumulation {
        Accumulation { steps, pending: 0, sums: HashMap::new() }
    }

    /// Adds the gradients of a batch. Returns the means when there are enough batches for a step.
    pub(super) fn add(
        &mut self,
        params: &[Param],
        gradients: &GradStore,
    ) -> Result<Option<HashMap<TensorId, Tensor>>> {
        for param in params {
            let Some(gradient) = gradients.get(param.variable()) else { continue };
            let id = param.variable().id();
            let sum = match self.sums.remove(&id) {
                Some(sum) => (sum + gradient.detach())?,
                None => gradient.detach(),
            };
            self.sums.insert(id, sum);
        }
        self.pending += 1;
        if self.pending < self.steps {
            return Ok(None);
        }
        self.pending = 0;
        let mean = |(id, sum): (TensorId, Tensor)| Ok((id, (sum / self.steps as f64)?));
        std::mem::take(&mut self.sums).into_iter().map(mean).collect::<Result<_>>().map(Some)
    }

    /// The state as named tensors. `params` have their paths.
    pub(super) fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Tensor)>> {
        if self.pending == 0 {
            return Ok(Vec::new());
        }
        let sums = params.iter().filter_map(|(path, param)| {
            Some((format!("{path}/{SUM}"), self.sums.get(&param.variable().id())?.clone()))
        });
        let pending = Tensor::new(self.pending as i64, &Device::Cpu)?;
        Ok(sums.chain([(PENDING.to_owned(), pending)]).collect())
    }

    /// Restores what [`Accumulation::state`] returned.
    pub(super) fn restore(
        &mut self,
        params: &[(String, Param)],
        state: &HashMap<String, Tensor>,
    ) -> Result<()> {
        *self = Accumulation::new(self.steps);
        let Some(pending) = state.get(PENDING) else { return Ok(()) };
        // If the file was saved with more batches per step, the step starts again.
        self.pending = usize::try_from(pending.to_scalar::<i64>()?).unwrap_or(0);
        if self.pending >= self.steps {
            self.pending = 0;
            return Ok(());
        }
        for (path, param) in params {
            let sum = state.get(&format!("{path}/{SUM}"));
            if let Some(sum) = sum.filter(|sum| sum.dims() == param.variable().dims()) {
                self.sums.insert(param.variable().id(), sum.to_device(param.variable().device())?);
            }
        }
        Ok(())
    }
}
