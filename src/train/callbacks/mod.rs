//! What is told of each epoch and batch of a training, with Keras's names and rules
//! (`keras/src/callbacks`).

mod backup;
mod checkpoint;
mod early_stopping;
mod file_pattern;
mod learning_rate;
mod loggers;
mod monitor;
mod shared;
mod state;
mod tensorboard;

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use super::{Compiled, History, metric_trait};
use crate::nn::Model;
use crate::{Error, Result};

pub use backup::BackupAndRestore;
pub use checkpoint::ModelCheckpoint;
pub use early_stopping::EarlyStopping;
pub use learning_rate::{LearningRateScheduler, ReduceLROnPlateau};
pub use loggers::{CSVLogger, TerminateOnNaN};
use monitor::Monitor;
pub use shared::SharedCallback;
pub(super) use state::{collect, restore};
pub use tensorboard::TensorBoard;

/// Something that is told how a training goes, and may change how it goes on.
pub trait Callback: Send {
    /// Before all.
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// Before an epoch.
    fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// After a batch; the numbers are those of the epoch so far.
    fn on_train_batch_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// After an epoch and its validation.
    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// After all.
    fn on_train_end(&mut self, training: &mut Training) -> Result<()> {
        let _ = training;
        Ok(())
    }

    /// The number that it looks at: `fit` refuses to begin if nobody measures it.
    fn monitor(&self) -> Option<&str> {
        None
    }

    /// Whether a loss that is no number ends the training, rather than being an error.
    fn ends_at_nan(&self) -> bool {
        false
    }

    /// What it remembers of the epochs before, so that [`BackupAndRestore`] keeps it: names, and a tensor each.
    fn state(&self) -> Result<HashMap<String, Tensor>> {
        Ok(HashMap::new())
    }

    /// Puts back what [`Callback::state`] gave; called after [`Callback::on_train_begin`].
    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Whether it is called after all other callbacks, with their states in hand.
    #[doc(hidden)]
    fn runs_last(&self) -> bool {
        false
    }

    /// The type, by which a backup finds the state again.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// A training at the moment when a [`Callback`] is called.
pub struct Training<'a> {
    pub(super) model: &'a Model,
    pub(super) compiled: &'a mut Compiled,
    pub(super) history: &'a mut History,
    /// What was measured last.
    pub(super) row: Vec<(String, f64)>,
    epoch: usize,
    batch: usize,
    epochs: usize,
    batches: usize,
    reason: Option<String>,
    /// What the callbacks remember: as it is, for a callback that runs last, or as a backup had it.
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

    /// Why the training is to end, if it is.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The model that is trained.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// The epochs that are over.
    pub fn history(&self) -> &History {
        self.history
    }

    /// The epoch, from 1.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// The last epoch's number.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// How many batches of the epoch are done.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Names and numbers measured last: of the epoch, or of its batches so far.
    pub fn values(&self) -> &[(String, f64)] {
        &self.row
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::Argument`], which lists the names that there are.
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

    /// Whether a larger value of what a history calls so is better.
    fn is_larger_better(&self, name: &str) -> Result<bool> {
        metric_trait::is_larger_better(name, &self.compiled.metric_names, &self.compiled.metrics)
    }

    /// The size of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.compiled.optimizer.learning_rate()
    }

    /// Sets the size of a step from now on.
    ///
    /// # Errors
    /// [`Error::Argument`] if a schedule sets it.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.compiled.optimizer.set_learning_rate(learning_rate)
    }

    /// Ends the training after this epoch, and says why.
    pub fn stop(&mut self, reason: String) {
        self.reason.get_or_insert(reason);
    }
}

/// A function that is called at the end of each epoch.
pub(super) struct Lambda<F>(pub(super) F);

impl<F: FnMut(&mut Training) -> Result<()> + Send> Callback for Lambda<F> {
    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        (self.0)(training)
    }
}

/// Makes the folder of a file that a callback writes.
fn make_parent(file: &Path) -> Result<()> {
    match file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).map_err(Error::io(folder)),
        None => Ok(()),
    }
}
