//! Saving a model's weights to files during training.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::file_pattern::FilePattern;
use super::monitor::Monitor;
use super::state::{numbers, read_count};
use super::{Callback, Training, make_parent};
use crate::check::check;
use crate::files::check_writable;
use crate::weights::check_extension;
use crate::{Error, Result};

/// Name of the number of batches in a backup.
const BATCHES: &str = "batches";

/// Writes the weights at the end of each epoch, or only when the monitored value improves. Each file is
/// written atomically. Missing folders are created.
///
/// In the file name, `{epoch}`, `{batch}` and measured values such as `{val_loss}` are replaced by their
/// values. Formats are those of Keras: `{epoch:02d}`, `{val_loss:.2f}`.
/// [`Model::load_weights`](crate::nn::Model::load_weights) reads the file.
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
/// let each = ModelCheckpoint::new("run/w.{epoch:02d}-{val_loss:.2f}.safetensors");
/// model.fit((&x, &y), Fit::epochs(3).validation_split(0.25).callback(each))?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// The callback keeps the best value only as long as it exists. To keep the best value across several
/// `fit` calls, wrap it in a [`SharedCallback`].
///
/// [`SharedCallback`]: super::SharedCallback
#[derive(Debug)]
pub struct ModelCheckpoint {
    path: PathBuf,
    monitor: Monitor,
    save_best_only: bool,
    save_weights_only: bool,
    save_freq: Option<usize>,
    batches_since_save: usize,
    pattern: Option<FilePattern>,
}

impl ModelCheckpoint {
    /// Creates the callback. It writes to `path`, a `.safetensors` file, at the end of each epoch.
    pub fn new(path: impl AsRef<Path>) -> ModelCheckpoint {
        ModelCheckpoint {
            path: path.as_ref().to_owned(),
            monitor: Monitor::new("val_loss"),
            save_best_only: false,
            save_weights_only: true,
            save_freq: None,
            batches_since_save: 0,
            pattern: None,
        }
    }

    /// Sets the monitored value. Default: `val_loss`.
    pub fn monitor(self, name: &str) -> ModelCheckpoint {
        ModelCheckpoint { monitor: self.monitor.renamed(name), ..self }
    }

    /// Sets which direction is better: `"max"`, `"min"`, or `"auto"`, which asks the metric. Default:
    /// `"auto"`.
    pub fn mode(mut self, mode: &str) -> ModelCheckpoint {
        self.monitor.set_mode(mode);
        self
    }

    /// Sets the value that the first checkpoint must improve on.
    pub fn initial_value_threshold(mut self, value: f64) -> ModelCheckpoint {
        self.monitor.best = Some(value);
        self
    }

    /// Sets whether the file is written only when the monitored value improves. Default: `false`.
    pub fn save_best_only(self, best: bool) -> ModelCheckpoint {
        ModelCheckpoint { save_best_only: best, ..self }
    }

    /// Sets whether only the weights are written. Default: `true`. With `false` the file holds the whole
    /// model and its optimizer, and [`Model::load`](crate::nn::Model::load) reads it.
    pub fn save_weights_only(self, weights_only: bool) -> ModelCheckpoint {
        ModelCheckpoint { save_weights_only: weights_only, ..self }
    }

    /// Writes every `batches` batches instead of at the end of each epoch. Validation values are not
    /// available then.
    pub fn save_freq(self, batches: usize) -> ModelCheckpoint {
        ModelCheckpoint { save_freq: Some(batches), ..self }
    }

    fn save(&mut self, training: &mut Training) -> Result<()> {
        if self.save_best_only && !self.monitor.improves(training)? {
            return Ok(());
        }
        let value = |key: &str| match key {
            "epoch" => Some(training.epoch() as f64),
            "batch" => Some(training.batch() as f64),
            name => training.value(name).ok(),
        };
        let Some(path) = self.pattern.as_ref().map(|pattern| pattern.fill(value)) else { return Ok(()) };
        make_parent(&path)?;
        match self.save_weights_only {
            true => training.model().save_weights(path),
            false => training.model.save_compiled(Some(training.compiled), &path),
        }
    }
}

impl Callback for ModelCheckpoint {
    fn runs_at_batches(&self) -> bool {
        self.save_freq.is_some()
    }

    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.monitor.check_mode()?;
        check_extension(&self.path)?;
        check_writable(&self.path)?;
        check("initial_value_threshold", f64::NAN, !self.monitor.best.is_some_and(f64::is_nan), "a number")?;
        if self.save_freq == Some(0) {
            let (expected, found) = ("at least 1 batch".into(), "0".into());
            return Err(Error::Argument { name: "save_freq", expected, found });
        }
        // With `save_freq` the file is written within an epoch, where no validation value exists.
        let measured = training.history().names().iter();
        let measured = measured.filter(|name| self.save_freq.is_none() || !name.starts_with("val_"));
        let mut keys: Vec<String> = vec!["epoch".into()];
        keys.extend(self.save_freq.map(|_| "batch".into()));
        keys.extend(measured.cloned());
        if self.save_best_only && !keys.contains(&self.monitor.name) {
            let (expected, found) = (format!("one of {}", keys[1..].join(", ")), self.monitor.name.clone());
            return Err(Error::Argument { name: "monitor", expected, found });
        }
        if self.save_best_only {
            self.monitor.begin(training)?;
        }
        self.pattern = Some(FilePattern::parse(&self.path, &keys)?);
        self.batches_since_save = 0;
        Ok(())
    }

    fn on_train_batch_end(&mut self, training: &mut Training) -> Result<()> {
        let Some(batches) = self.save_freq else { return Ok(()) };
        self.batches_since_save += 1;
        if self.batches_since_save < batches {
            return Ok(());
        }
        self.batches_since_save = 0;
        self.save(training)
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if self.save_freq.is_some() { Ok(()) } else { self.save(training) }
    }

    fn monitor(&self) -> Option<&str> {
        self.save_best_only.then_some(&self.monitor.name)
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = self.monitor.state()?;
        state.insert(BATCHES.into(), numbers(&[self.batches_since_save as f64])?);
        Ok(state)
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.monitor.set_state(state)?;
        // Missing in older backups.
        if state.contains_key(BATCHES) {
            self.batches_since_save = read_count(state, BATCHES)?;
        }
        Ok(())
    }
}
