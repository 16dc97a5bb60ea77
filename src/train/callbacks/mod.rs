//! Callbacks: code that runs at each epoch and batch of a training. Names and rules are those of Keras
//! (`keras/src/callbacks`).

mod backup;
mod checkpoint;
mod early_stopping;
mod file_pattern;
mod learning_rate;
mod loggers;
mod mlflow;
mod mlflow_store;
mod monitor;
mod shared;
mod state;
mod tensorboard;
mod yaml;

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use super::{BATCH, Compiled, History, Scores, metric_trait};
use crate::check::check_not_negative;
use crate::data::IntoDataset;
use crate::nn::Model;
use crate::weights::check_extension;
use crate::{Error, Result};

pub use backup::BackupAndRestore;
pub use checkpoint::ModelCheckpoint;
pub use early_stopping::EarlyStopping;
pub use learning_rate::{LearningRateScheduler, ReduceLROnPlateau};
pub use loggers::{CSVLogger, TerminateOnNaN};
pub use mlflow::MLflowLogger;
pub use shared::SharedCallback;
pub(super) use state::{collect, restore};
pub use tensorboard::TensorBoard;

/// Code that `fit` calls at fixed points of a training, and that may change how the training continues.
pub trait Callback: Send {
    /// Called before the first epoch.
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Called before each epoch.
    fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Called after each batch. The values are the means over the epoch so far.
    fn on_train_batch_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Called after each epoch and its validation.
    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Called after the last epoch.
    fn on_train_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Called when an error ends the training, before `fit` returns the error. An error of this method is ignored.
    fn on_train_error(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// The name of the monitored value. `fit` returns an error at the start if this value is not
    /// measured.
    fn monitor(&self) -> Option<&str> {
        None
    }

    /// Whether a loss that is not finite ends the training instead of returning an error.
    fn ends_at_nan(&self) -> bool {
        false
    }

    /// The state of the callback, as named tensors. [`BackupAndRestore`] saves it.
    fn state(&self) -> Result<HashMap<String, Tensor>> {
        Ok(HashMap::new())
    }

    /// Restores the state that [`Callback::state`] returned. Called after [`Callback::on_train_begin`].
    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Whether the callback uses [`Callback::on_train_batch_end`]. If no callback does, weights on a GPU are copied
    /// back only once per epoch.
    #[doc(hidden)]
    fn runs_at_batches(&self) -> bool {
        true
    }

    /// Whether the callback runs after all others and receives their states.
    #[doc(hidden)]
    fn runs_last(&self) -> bool {
        false
    }

    /// The type's name, under which a backup stores the state.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// The state of a training that a [`Callback`] receives.
pub struct Training<'a> {
    pub(super) model: &'a Model,
    pub(super) compiled: &'a mut Compiled,
    pub(super) history: &'a mut History,
    /// The values measured last.
    pub(super) row: Vec<(String, f64)>,
    epoch: usize,
    batch: usize,
    epochs: usize,
    batches: usize,
    /// Whether a callback changes the learning rate from epoch to epoch. Logs then have it, as in Keras.
    logs_learning_rate: bool,
    reason: Option<String>,
    /// The states of the callbacks: the current ones for a callback that runs last, or those read from a
    /// backup.
    pub(super) states: HashMap<String, Tensor>,
}

impl<'a> Training<'a> {
    pub(super) fn new(
        model: &'a Model,
        compiled: &'a mut Compiled,
        history: &'a mut History,
        (epochs, batches): (usize, usize),
    ) -> Training<'a> {
        Training {
            model,
            compiled,
            history,
            row: Vec::new(),
            epoch: 0,
            batch: 0,
            epochs,
            batches,
            logs_learning_rate: false,
            reason: None,
            states: HashMap::new(),
        }
    }

    pub(super) fn set_epoch(&mut self, epoch: usize) {
        (self.epoch, self.batch) = (epoch, 0);
    }

    pub(super) fn set_batch(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// Why the training ends after this epoch, if it does.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The model in training. It predicts; [`Training::evaluate`] and [`Training::save`] are for what `compile` set.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// Evaluates loss and metrics on any data that `fit` takes, such as `(&x, &y)`, in batches of 32.
    ///
    /// # Errors
    /// Those of [`Model::evaluate_on`].
    pub fn evaluate(&self, data: impl IntoDataset) -> Result<Scores> {
        self.model.evaluate_with(self.compiled, data.into_dataset(BATCH, false)?)
    }

    /// Writes the whole model into a `.safetensors` file, with optimizer, loss and metrics.
    ///
    /// # Errors
    /// Those of [`Model::save`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        check_extension(path.as_ref())?;
        self.model.save_compiled(Some(self.compiled), path.as_ref())
    }

    /// The history of the finished epochs.
    pub fn history(&self) -> &History {
        self.history
    }

    /// The current epoch, counted from 1.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// The number of the last epoch.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// The number of finished batches in the current epoch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The names and values measured last, over the epoch or over its batches so far.
    pub fn values(&self) -> &[(String, f64)] {
        &self.row
    }

    /// Returns the value with this name.
    ///
    /// # Errors
    /// [`Error::Argument`], which lists the available names.
    pub fn value(&self, name: &str) -> Result<f64> {
        let found = self.row.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.row.iter().map(|(name, _)| name.as_str()).collect();
            Error::Argument {
                name: "value",
                expected: format!("one of {}", names.join(", ")),
                found: name.into(),
            }
        })
    }

    /// Whether a larger value is better for the history column `name`.
    fn is_larger_better(&self, name: &str) -> Result<bool> {
        metric_trait::is_larger_better(name, &self.compiled.metric_names, &self.compiled.metrics)
    }

    /// The current learning rate.
    pub fn learning_rate(&self) -> f64 {
        self.compiled.optimizer.learning_rate()
    }

    /// Sets the learning rate.
    ///
    /// # Errors
    /// [`Error::Argument`] if a schedule sets the learning rate, or the rate is negative or not finite.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        check_not_negative("learning_rate", learning_rate)?;
        self.compiled.optimizer.set_learning_rate(learning_rate)
    }

    /// Ends the training after this epoch. The first `reason` given is reported.
    pub fn stop(&mut self, reason: String) {
        self.reason.get_or_insert(reason);
    }
}

/// A callback that calls a function at the end of each epoch.
pub(super) struct Lambda<F>(pub(super) F);

impl<F: FnMut(&mut Training) -> Result<()> + Send> Callback for Lambda<F> {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        (self.0)(training)
    }
}

/// Creates the parent folder of a file that a callback writes.
fn make_parent(file: &Path) -> Result<()> {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).map_err(Error::io(folder)),
        None => Ok(()),
    }
}
