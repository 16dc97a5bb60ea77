//! What `fit` leaves behind: each number, epoch by epoch.

use std::ops::Index;
use std::time::Duration;

use crate::chart::{Chart, chart_bundle};
use crate::display::{Bundle, Show, debug_as_text};
use crate::nn::Model;
use crate::{Error, Result};

/// The loss and metrics of each epoch, on the training data and, as `val_…`, on the validation data.
///
/// `history["loss"]` is one number an epoch.
#[derive(Clone)]
pub struct History {
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    /// How long each epoch took.
    pub times: Vec<Duration>,
    /// The learning rate with which each epoch began.
    pub learning_rates: Vec<f64>,
    /// Where Stop ended the training: the epoch, from 1, and how many of its batches were done.
    pub stopped: Option<(usize, usize)>,
}

impl History {
    /// A history without an epoch, of these numbers.
    pub(crate) fn new(names: Vec<String>) -> History {
        let columns = vec![Vec::new(); names.len()];
        History { names, columns, times: Vec::new(), learning_rates: Vec::new(), stopped: None }
    }

    /// A history of epochs that were trained before.
    pub(crate) fn of(
        names: Vec<String>,
        columns: Vec<Vec<f64>>,
        times: Vec<Duration>,
        learning_rates: Vec<f64>,
    ) -> History {
        History { names, columns, times, learning_rates, stopped: None }
    }

    /// Adds one epoch's numbers, in the order of the names.
    pub(crate) fn push(&mut self, row: &[(String, f64)], time: Duration, learning_rate: f64) {
        for (column, (_, value)) in self.columns.iter_mut().zip(row) {
            column.push(*value);
        }
        self.times.push(time);
        self.learning_rates.push(learning_rate);
    }

    /// Adds the epochs of a training that followed this one; of what only one of them measured there
    /// is nothing.
    pub fn append(&mut self, later: History) {
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

    /// How many epochs were finished.
    pub fn epochs(&self) -> usize {
        self.times.len()
    }

    /// The names that there are: `accuracy`, `loss`, `val_accuracy`, `val_loss`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// One number an epoch, if there is one of that name.
    pub fn get(&self, name: &str) -> Option<&[f64]> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(&self.columns[at])
    }

    /// A chart of accuracy and one of loss, each with the validation data's if there are any.
    ///
    /// # Errors
    /// [`crate::Error::Chart`] if it could not be drawn.
    pub fn plot(&self) -> Result<Chart> {
        Chart::of_history(self)
    }
}

impl Show for History {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}

debug_as_text!(History);

impl Model {
    /// The epochs that the last `fit` finished, also if an error, a panic or Stop ended it: Keras's
    /// `model.history`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model was not trained yet.
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
    /// If there is no number of that name; [`History::get`] does not.
    fn index(&self, name: &str) -> &[f64] {
        self.get(name).unwrap_or_else(|| panic!("the history has {:?}, but no {name:?}", self.names))
    }
}
