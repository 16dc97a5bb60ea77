//! Going on with a training that was cut off.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Callback, Training, make_parent};
use crate::train::History;
use crate::weights::{OPTIMIZER, read_about, read_file, save_tensors};
use crate::{Error, Result, random};

const KEY: &str = "backup";
const MODEL: &str = "model/";

/// Writes all that a training needs to go on, at the end of each epoch, and goes on from there when
/// the same program is run again: weights, the optimizer's state, the place in the stream of random
/// numbers, the history. The history is then that of an unbroken run.
///
/// The file is removed when the training has ended.
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
}

/// What stands in the file beside the tensors.
#[derive(Serialize, Deserialize)]
struct About {
    epoch: usize,
    random: random::State,
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
    seconds: Vec<f64>,
    learning_rates: Vec<f64>,
}

impl BackupAndRestore {
    /// Keeps the training in this file.
    pub fn new(path: impl AsRef<Path>) -> BackupAndRestore {
        BackupAndRestore { path: path.as_ref().to_owned() }
    }
}

impl Callback for BackupAndRestore {
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        make_parent(&self.path)?;
        if !self.path.is_file() {
            return Ok(());
        }
        let refuse = |problem: String| Error::weights(&self.path, training.model.name(), vec![problem]);
        let about = read_about(&self.path)?;
        let text = about.get(KEY).ok_or_else(|| refuse("the file is no backup of a training".into()))?;
        let about: About = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if about.names != training.history.names() {
            let (expected, found) = (training.history.names().join(", "), about.names.join(", "));
            return Err(refuse(format!(
                "expected a training that measures {expected}, found one with {found}"
            )));
        }
        let tensors = read_file(&self.path)?;
        let named = training.model.named_params();
        let part = |prefix: &str| -> HashMap<String, _> {
            let of = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
            of.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
        };
        let weights = part(MODEL);
        for (way, param) in &named {
            let weight = weights.get(way).filter(|weight| weight.dims() == param.variable().dims());
            param.set(weight.ok_or_else(|| refuse(format!("`{way}` is missing or of another shape")))?)?;
        }
        training.compiled.optimizer.set_state(&named, &part(OPTIMIZER))?;
        random::set_state(&about.random);
        let times = about.seconds.into_iter().map(Duration::from_secs_f64).collect();
        training.history = History::of(about.names, about.columns, times, about.learning_rates);
        training.set_epoch(about.epoch);
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let named = training.model.named_params();
        let mut tensors: Vec<(String, _)> = named
            .iter()
            .map(|(way, param)| (format!("{MODEL}{way}"), param.variable().as_detached_tensor()))
            .collect();
        let state = training.compiled.optimizer.state(&named)?;
        tensors.extend(state.into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        let history = &training.history;
        let about = About {
            epoch: training.epoch(),
            random: random::state(),
            names: history.names().to_vec(),
            columns: history.names().iter().map(|name| history[name.as_str()].to_vec()).collect(),
            seconds: history.times.iter().map(Duration::as_secs_f64).collect(),
            learning_rates: history.learning_rates.clone(),
        };
        let text = serde_json::to_string(&about).map_err(|error| Error::io(&self.path)(error.into()))?;
        save_tensors(tensors, HashMap::from([(KEY.to_owned(), text)]), &self.path)
    }

    fn on_train_end(&mut self, _: &mut Training) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&self.path)(error)),
            _ => Ok(()),
        }
    }
}
