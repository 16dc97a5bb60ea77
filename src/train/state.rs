//! The training state of a model.

use std::any::Any;

use super::{Compiled, History, LossSpec};
use crate::nn::{Activation, Extension, Model};

/// The training configuration of a model, and the history of its last training.
#[derive(Default)]
pub(crate) struct TrainingState {
    pub(crate) compiled: Option<Compiled>,
    /// Whether `fit` runs, and has `compiled`.
    pub(crate) is_in_fit: bool,
    /// The finished epochs of the last `fit`, even if it failed.
    pub(crate) history: Option<History>,
    /// The loss of the last `compile`. It determines how outputs are interpreted.
    pub(crate) loss: Option<LossSpec>,
    /// The function that converts outputs to probabilities, from the file of a model whose loss is unknown.
    pub(crate) probability_function: Option<Activation>,
    /// The class names of the data of the last training, class 0 first. Empty if they are unknown.
    pub(crate) class_names: Vec<String>,
}

impl Extension for TrainingState {
    /// A clone is not compiled, but keeps what is needed to interpret its outputs.
    fn for_clone(&self) -> Option<Box<dyn Extension>> {
        Some(Box::new(TrainingState {
            loss: self.loss.clone(),
            probability_function: self.probability_function,
            class_names: self.class_names.clone(),
            ..TrainingState::default()
        }))
    }
}

impl Model {
    pub(crate) fn training_state(&self) -> Option<&TrainingState> {
        let state: &dyn Any = self.extension.as_deref()?;
        state.downcast_ref()
    }

    pub(crate) fn training_state_mut(&mut self) -> &mut TrainingState {
        if self.training_state().is_none() {
            self.extension = Some(Box::new(TrainingState::default()));
        }
        let state: &mut dyn Any = self.extension.as_deref_mut().expect("the extension was just made");
        state.downcast_mut().expect("training is the only user of the extension")
    }

    /// The class names of the data of the last training. Empty if they are unknown.
    pub(crate) fn trained_classes(&self) -> &[String] {
        self.training_state().map_or(&[], |state| &state.class_names)
    }

    pub(crate) fn set_compiled(&mut self, compiled: Compiled) {
        let state = self.training_state_mut();
        state.loss = Some(compiled.loss.clone());
        state.compiled = Some(compiled);
    }
}
