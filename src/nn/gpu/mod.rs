//! Execution of models on an NVIDIA GPU that `HEADSTART_DEVICE=gpu` selects.
//!
//! The parameters stay on the CPU, where candle and the user read them. [`lower`] translates a model to a network of
//! `headstart-gpu`. [`gpu_network`](super::gpu_network) holds the network and uploads parameters when they change. A
//! model with a layer that the GPU path does not support stays on the CPU.

mod lower;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

use self::lower::{lower, lower_for_training};
use super::gpu_network::{Executor, MAX_EXECUTORS, Task, TrainingNetwork};
use super::{Model, Param, SplitPoint};
use crate::Result;
use crate::accelerator::gpu;

impl Model {
    /// Computes a node in inference mode on the GPU. `None` without a GPU, and for a model that stays on the CPU.
    pub(super) fn run_on_gpu(&self, task: Task, given: &[Tensor]) -> Result<Option<Tensor>> {
        let Some(gpu) = gpu() else { return Ok(None) };
        // cuDNN does not support empty batches.
        if given.iter().any(|value| value.elem_count() == 0) {
            return Ok(None);
        }
        if self.has_adapters() {
            return Ok(None);
        }
        let known = || self.executors().0.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = known().iter().find(|(known, _)| *known == task).map(|(_, executor)| executor.clone());
        let executor = match cached {
            Some(executor) => executor,
            None => {
                let executor = match lower(self, &task) {
                    Ok(lowered) => {
                        let executor = lowered.map(|lowered| Executor::new(gpu, lowered)).transpose()?;
                        executor.map(Arc::new)
                    }
                    Err(reason) => {
                        print_once(self, &reason);
                        None
                    }
                };
                let mut known = known();
                if known.len() == MAX_EXECUTORS {
                    known.remove(0);
                }
                known.push((task, executor.clone()));
                executor
            }
        };
        executor.map(|executor| executor.predict(given)).transpose()
    }

    /// The model on the GPU for training, from its input or from a split point, up to its output; with `is_linear`,
    /// before the last activation. `None` without a GPU, and for a model that stays on the CPU.
    pub(crate) fn training_network(
        &self,
        split: Option<&SplitPoint>,
        is_linear: bool,
    ) -> Result<Option<TrainingNetwork>> {
        let Some(gpu) = gpu() else { return Ok(None) };
        if self.has_adapters() {
            return Ok(None);
        }
        let from = split.map_or(&self.input_nodes()[..1], SplitPoint::path);
        match lower_for_training(self, from, is_linear) {
            Ok(lowered) => lowered.map(|lowered| TrainingNetwork::new(gpu, lowered)).transpose(),
            Err(reason) => {
                print_once(self, &reason);
                Ok(None)
            }
        }
    }

    /// Whether the model has adapters, which the GPU path does not support. If so, prints a note.
    fn has_adapters(&self) -> bool {
        let has_adapters = self.params().iter().any(Param::is_adapted);
        if has_adapters {
            print_once(self, "it has adapters of `enable_lora`");
        }
        has_adapters
    }
}

/// Prints why a model stays on the CPU, once for each model and reason.
pub(crate) fn print_once(model: &Model, reason: &str) {
    static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let note = format!("note: `{}` stays on the CPU: {reason}", model.name());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.get_or_insert_default().insert(note.clone()) {
        crate::notes::note(note);
    }
}
