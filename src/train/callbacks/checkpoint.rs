//! Keeping a model's weights in files while it trains.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::{Callback, Monitor, Training};
use crate::Result;

/// Writes the weights at the end of each epoch, or of each that is better than ever: whole or not
/// at all.
///
/// In the file's name `{epoch}` and the name of anything measured, `{val_loss}`, are replaced by
/// their values. [`Model::load_weights`](crate::nn::Model::load_weights) reads the file.
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&folder).unwrap();
/// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// # model.compile(Adam::default(), MeanSquaredError, []);
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// let best = ModelCheckpoint::new("best.safetensors").monitor("val_loss").save_best_only(true);
/// model.fit((&x, &y), Fit::epochs(3).validation_split(0.25).callback(best))?;
/// model.load_weights("best.safetensors")?;
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Debug)]
pub struct ModelCheckpoint {
    path: PathBuf,
    monitor: Monitor,
    save_best_only: bool,
}

impl ModelCheckpoint {
    /// Writes to this file, `.safetensors`, at each epoch's end.
    pub fn new(path: impl AsRef<Path>) -> ModelCheckpoint {
        let path = path.as_ref().to_owned();
        ModelCheckpoint { path, monitor: Monitor::new("val_loss"), save_best_only: false }
    }

    /// Sets the number by which an epoch is the best: `val_loss` unless told.
    pub fn monitor(self, name: &str) -> ModelCheckpoint {
        ModelCheckpoint { monitor: Monitor::new(name), ..self }
    }

    /// Sets whether only epochs better than all before are written.
    pub fn save_best_only(self, best: bool) -> ModelCheckpoint {
        ModelCheckpoint { save_best_only: best, ..self }
    }
}

impl Callback for ModelCheckpoint {
    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if self.save_best_only && !self.monitor.improves(training)? {
            return Ok(());
        }
        let mut path = self.path.to_string_lossy().replace("{epoch}", &format!("{:02}", training.epoch()));
        for (name, value) in training.values() {
            path = path.replace(&format!("{{{name}}}"), &format!("{value:.4}"));
        }
        training.model().save_weights(path)
    }

    fn monitor(&self) -> Option<&str> {
        self.save_best_only.then_some(&self.monitor.name)
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        self.monitor.state()
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.monitor.set_state(state)
    }
}
