//! The result of `fit`: the measured values of each epoch.

use std::ops::Index;
use std::time::Duration;

use crate::display::debug_as_text;
use crate::nn::Model;
use crate::{Error, Result};

/// Keras's name of the learning rates in a history and in logs.
pub(super) const LEARNING_RATE: &str = "learning_rate";

/// The loss and metrics of each epoch, on the training data and, with the prefix `val_`, on the
/// validation data.
///
/// `history["loss"]` has one value per epoch, and `history["learning_rate"]` is the rate at the start of each.
#[derive(Clone)]
pub struct History {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    /// Names of the metrics that range from 0 to 1, without `val_`.
    proportions: Vec<String>,
    /// The number of epochs before the first one of this history: `Fit::initial_epoch`.
    pub(crate) initial_epoch: usize,
    /// The duration of each epoch.
    pub times: Vec<Duration>,
    /// The learning rate at the start of each epoch.
    pub learning_rates: Vec<f64>,
    /// Where an interrupt ended the training: the epoch, from 1, and the number of its finished batches.
    pub stopped: Option<(usize, usize)>,
}

impl History {
    /// Creates an empty history with these columns. `proportions` are the metrics that range from 0 to 1.
    pub(crate) fn new(names: Vec<String>, proportions: Vec<String>, initial_epoch: usize) -> History {
        let columns = vec![Vec::new(); names.len()];
        let (times, learning_rates) = (Vec::new(), Vec::new());
        History { names, columns, proportions, initial_epoch, times, learning_rates, stopped: None }
    }

    /// Sets the values of epochs that were trained before, in the order of the names.
    pub(crate) fn restore(
        &mut self,
        columns: Vec<Vec<f64>>,
        times: Vec<Duration>,
        learning_rates: Vec<f64>,
        initial_epoch: usize,
    ) {
        (self.columns, self.times, self.learning_rates) = (columns, times, learning_rates);
        self.initial_epoch = initial_epoch;
    }

    /// The number of the last finished epoch.
    pub(crate) fn last_epoch(&self) -> usize {
        self.initial_epoch.saturating_add(self.epochs())
    }

    /// Whether a column ranges from 0 to 1.
    pub(super) fn is_proportion(&self, name: &str) -> bool {
        let metric = name.strip_prefix("val_").unwrap_or(name);
        self.proportions.iter().any(|proportion| proportion == metric)
    }

    /// Adds the values of one epoch, in the order of the names.
    pub(crate) fn push(&mut self, row: &[(String, f64)], time: Duration, learning_rate: f64) {
        for (column, (_, value)) in self.columns.iter_mut().zip(row) {
            column.push(*value);
        }
        self.times.push(time);
        self.learning_rates.push(learning_rate);
    }

    /// Appends the epochs of a later training. Columns that only one of the two histories has are
    /// dropped; a history without epochs counts as none.
    pub fn append(&mut self, later: History) {
        if self.epochs() == 0 {
            *self = later;
            return;
        }
        if later.epochs() == 0 {
            self.stopped = later.stopped;
            return;
        }
        let kept: Vec<bool> = self.names.iter().map(|name| later.get(name).is_some()).collect();
        let mut keep = kept.iter().copied();
        self.columns.retain(|_| keep.next().unwrap_or_default());
        let mut keep = kept.iter().copied();
        self.names.retain(|_| keep.next().unwrap_or_default());
        for (name, column) in self.names.iter().zip(&mut self.columns) {
            column.extend(later.get(name).unwrap_or_default());
        }
        self.times.extend(later.times);
        self.learning_rates.extend(later.learning_rates);
        self.stopped = later.stopped;
    }

    /// The number of finished epochs.
    pub fn epochs(&self) -> usize {
        self.times.len()
    }

    /// The names of the columns, for example `accuracy`, `loss`, `val_accuracy`, `val_loss`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the column with this name, one value per epoch, or `None`.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        match self.names.iter().position(|known| known == name) {
            Some(at) => Some(&self.columns[at]),
            None => (name == LEARNING_RATE).then_some(self.learning_rates.as_slice()),
        }
    }
}

debug_as_text!(History);

impl Model {
    /// The finished epochs of the last `fit`, even if an error, a panic or an interrupt ended it.
    /// Corresponds to Keras's `model.history`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has not been trained yet.
    pub fn history(&self) -> Result<History> {
        self.training_state().and_then(|state| state.history.clone()).ok_or_else(|| Error::Argument {
            name: "history",
            expected: "a model that `fit` has trained in this program".into(),
            found: format!("`{}`, which was not trained; call `fit` first", self.name()),
        })
    }
}

impl Index<&str> for History {
    type Output = [f64];

    /// # Panics
    /// Panics if no column has this name. [`History::get`] returns `None` instead.
    fn index(&self, name: &str) -> &[f64] {
        self.get(name).unwrap_or_else(|| panic!("the history has {:?}, but no {name:?}", self.names))
    }
}
