//! Resuming an interrupted training: the `BackupAndRestore` callback.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{numbers, read_number, read_numbers};
use super::{Callback, Training, make_parent};
use crate::files::check_writable;
use crate::nn::Param;
use crate::weights::{OPTIMIZER, read_file, read_metadata, save_tensors};
use crate::{Error, Result, random};

const KEY: &str = "backup";
const MODEL: &str = "model/";
const HISTORY: &str = "history/";
const CALLBACKS: &str = "callbacks/";
const SECONDS: &str = "seconds";
const LEARNING_RATES: &str = "learning_rates";
const LEARNING_RATE: &str = "learning_rate";

/// Writes the state of a training to a file at the end of each epoch. When the same program runs again,
/// the training resumes from that epoch.
///
/// The file holds the weights, the optimizer's state, the learning rate and the history. It also holds
/// the states of the random number generator and of the other callbacks ([`Callback::state`]). The
/// resulting history is the same as that of an uninterrupted training. A callback of your own that has
/// state needs `state` and `set_state`.
///
/// The file is removed when the training ends. It is kept if it has more epochs than [`Fit::epochs`].
///
/// [`Fit::epochs`]: crate::train::Fit::epochs
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&folder).unwrap();
/// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// # model.compile(Adam::default(), MeanSquaredError, []);
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// model.fit((&x, &y), Fit::epochs(3).callback(BackupAndRestore::new("training.backup")))?;
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Debug)]
pub struct BackupAndRestore {
    path: PathBuf,
    /// Whether the backup has more epochs than [`Fit::epochs`](crate::train::Fit::epochs): it is of a longer training.
    is_of_longer_training: bool,
}

/// Metadata of the backup, stored beside the tensors.
#[derive(Serialize, Deserialize)]
struct Metadata {
    epoch: usize,
    random: random::State,
    names: Vec<String>,
    /// The kind of the optimizer, such as `Adam`. `None`: the optimizer is not one of the library's.
    #[serde(default)]
    optimizer: Option<String>,
    /// Why the training ends after this epoch, if it does.
    ended: Option<String>,
}

impl BackupAndRestore {
    /// Creates the callback. `path` is the backup file, or an existing folder, in which the file is
    /// `training.backup`.
    pub fn new(path: impl AsRef<Path>) -> BackupAndRestore {
        BackupAndRestore { path: path.as_ref().to_owned(), is_of_longer_training: false }
    }
}

/// The kind of the optimizer, if it is one of the library's.
fn kind_of_optimizer(training: &Training, named: &[(String, Param)]) -> Option<&'static str> {
    Some(training.compiled.optimizer.config(named)?.kind())
}

impl Callback for BackupAndRestore {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        if self.path.is_dir() {
            self.path.push("training.backup");
        }
        self.is_of_longer_training = false;
        check_writable(&self.path)?;
        make_parent(&self.path)?;
        if !self.path.is_file() {
            return Ok(());
        }
        let refuse = |problem: String| Error::weights(&self.path, training.model.name(), vec![problem]);
        let metadata = read_metadata(&self.path)?;
        let text =
            metadata.get(KEY).ok_or_else(|| refuse("the file is not a backup of a training".into()))?;
        let metadata: Metadata = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if metadata.names != training.history.names() {
            let (expected, found) = (training.history.names().join(", "), metadata.names.join(", "));
            return Err(refuse(format!(
                "expected a training that measures {expected}, found one with {found}"
            )));
        }
        let tensors = read_file(&self.path)?;
        let named = training.model.named_params();
        // States of different optimizers can have the same names.
        if let (Some(expected), Some(found)) = (kind_of_optimizer(training, &named), &metadata.optimizer)
            && expected != found
        {
            return Err(refuse(format!("expected a training with {expected}, found one with {found}")));
        }
        let part = |prefix: &str| -> HashMap<String, _> {
            let found =
                tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
            found.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
        };
        // Epochs before `Fit::initial_epoch` have no row.
        let epochs = read_numbers(&tensors, LEARNING_RATES)?.map_or(0, |rates| rates.len());
        let column = |name: &str| -> Result<Vec<f64>> {
            let column = read_numbers(&tensors, name)?.filter(|column| column.len() == epochs);
            column.ok_or_else(|| refuse(format!("`{name}` is missing, or does not have {epochs} epochs")))
        };
        let columns =
            metadata.names.iter().map(|name| column(&format!("{HISTORY}{name}"))).collect::<Result<_>>()?;
        let seconds = column(SECONDS)?.into_iter();
        let times = seconds.map(|time| Duration::try_from_secs_f64(time).unwrap_or_default()).collect();
        let (learning_rates, rate) = (column(LEARNING_RATES)?, read_number(&tensors, LEARNING_RATE)?);
        let weights = part(MODEL);
        let found = named.iter().map(|(path, param)| {
            let weight = weights.get(path).filter(|weight| weight.dims() == param.variable().dims());
            Ok((param, weight.ok_or_else(|| refuse(format!("`{path}` is missing or of another shape")))?))
        });
        // Set all weights or none.
        for (param, weight) in found.collect::<Result<Vec<_>>>()? {
            param.set(weight)?;
        }
        let optimizer = &mut training.compiled.optimizer;
        optimizer.set_state(&named, &part(OPTIMIZER))?;
        if let Some(rate) = rate.filter(|rate| *rate != optimizer.learning_rate()) {
            // This fails where a schedule sets the rate; the schedule already knows the step.
            let _ = optimizer.set_learning_rate(rate);
        }
        training.states = part(CALLBACKS);
        random::set_state(&metadata.random);
        let initial_epoch = metadata.epoch.saturating_sub(epochs);
        training.history.restore(columns, times, learning_rates, initial_epoch);
        training.set_epoch(metadata.epoch);
        self.is_of_longer_training = metadata.epoch > training.epochs;
        if metadata.epoch >= training.epochs {
            let (path, epochs) = (self.path.display(), training.epochs);
            println!(
                "nothing to train: the backup {path} has {} epochs, and `Fit::epochs({epochs})` does not exceed them",
                metadata.epoch
            );
        }
        if let Some(reason) = metadata.ended {
            training.stop(reason);
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let named = training.model.named_params();
        let mut tensors: Vec<(String, _)> = named
            .iter()
            .map(|(path, param)| (format!("{MODEL}{path}"), param.variable().as_detached_tensor()))
            .collect();
        let state = training.compiled.optimizer.state(&named)?;
        tensors.extend(state.into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        let states = training.states.iter();
        tensors.extend(states.map(|(name, tensor)| (format!("{CALLBACKS}{name}"), tensor.clone())));
        let history = &*training.history;
        for name in history.names() {
            tensors.push((format!("{HISTORY}{name}"), numbers(&history[name.as_str()])?));
        }
        let seconds: Vec<f64> = history.times.iter().map(Duration::as_secs_f64).collect();
        tensors.push((SECONDS.into(), numbers(&seconds)?));
        tensors.push((LEARNING_RATES.into(), numbers(&history.learning_rates)?));
        tensors.push((LEARNING_RATE.into(), numbers(&[training.learning_rate()])?));
        let metadata = Metadata {
            epoch: training.epoch(),
            random: random::state(),
            names: history.names().to_vec(),
            optimizer: kind_of_optimizer(training, &named).map(str::to_owned),
            ended: training.reason().map(str::to_owned),
        };
        let text = serde_json::to_string(&metadata).map_err(|error| Error::io(&self.path)(error.into()))?;
        save_tensors(tensors, HashMap::from([(KEY.to_owned(), text)]), &self.path)
    }

    /// Runs after the other callbacks, because it saves and restores their states.
    fn runs_last(&self) -> bool {
        true
    }

    fn on_train_end(&mut self, _: &mut Training) -> Result<()> {
        if self.is_of_longer_training {
            return Ok(());
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path)(error)),
            _ => Ok(()),
        }
    }
}
