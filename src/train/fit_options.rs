//! The options of `fit`, and the validation data.

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::callbacks::{Callback, Lambda, Training};
use super::feature_folder::FeatureFolder;
use super::predict::BATCH;
use crate::check::{check, check_not_negative};
use crate::data::{Dataset, IntoDataset};
use crate::{Error, Result};

/// The options of `fit`: `Fit::epochs(10)` with Keras's defaults, changed by methods.
pub struct Fit {
    pub(super) epochs: usize,
    pub(super) initial_epoch: usize,
    pub(super) batch_size: usize,
    validation_batch_size: Option<usize>,
    pub(super) shuffle: bool,
    validation: Validation,
    pub(super) class_weight: Vec<(usize, f64)>,
    pub(super) callbacks: Vec<Box<dyn Callback>>,
    pub(super) cache_features: bool,
    pub(super) cache_memory: usize,
    cache_folder: Option<PathBuf>,
    cache_folder_bytes: Option<u64>,
    pub(super) augmented_views: Option<usize>,
    pub(super) verbose: bool,
    pub(super) chart: bool,
    pub(super) advice: bool,
}

impl fmt::Debug for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fit { epochs, initial_epoch, batch_size, shuffle, .. } = self;
        let mut shown = f.debug_struct("Fit");
        shown.field("epochs", epochs).field("initial_epoch", initial_epoch);
        shown.field("batch_size", batch_size).field("shuffle", shuffle).finish_non_exhaustive()
    }
}

enum Validation {
    None,
    /// The data, and whether they come in batches already.
    Data(Result<Box<dyn Dataset>>, bool),
    Split(f64),
}

/// The validation data and, after a split, the training targets and the validation targets.
pub(super) type ValidationData = (Option<Box<dyn Dataset>>, Option<(Tensor, Tensor)>);

impl Fit {
    /// Trains up to epoch number `epochs`. Defaults: batches of 32, shuffled, with progress bar and
    /// chart.
    pub fn epochs(epochs: usize) -> Fit {
        Fit {
            epochs,
            initial_epoch: 0,
            batch_size: BATCH,
            validation_batch_size: None,
            shuffle: true,
            validation: Validation::None,
            class_weight: Vec::new(),
            callbacks: Vec::new(),
            cache_features: true,
            cache_memory: 2 << 30,
            cache_folder: None,
            cache_folder_bytes: None,
            augmented_views: None,
            verbose: true,
            chart: true,
            advice: true,
        }
    }

    /// Sets how many epochs were trained before: with 5, training starts at epoch 6. Default: 0.
    pub fn initial_epoch(self, epochs: usize) -> Fit {
        Fit { initial_epoch: epochs, ..self }
    }

    /// Sets the number of samples in a batch. Ignored for data that come in batches. Default: 32.
    pub fn batch_size(self, batch_size: usize) -> Fit {
        Fit { batch_size, ..self }
    }

    /// Sets whether the samples are shuffled in each epoch. Ignored for data that come in batches.
    /// Default: `true`.
    pub fn shuffle(self, shuffle: bool) -> Fit {
        Fit { shuffle, ..self }
    }

    /// Sets the validation data, evaluated at the end of each epoch: `(&x, &y)`, or any other data that
    /// `fit` takes.
    pub fn validation_data(self, data: impl IntoDataset) -> Fit {
        let has_batches = data.has_batches();
        Fit { validation: Validation::Data(data.into_dataset(BATCH, false), has_batches), ..self }
    }

    /// Sets the number of samples in a validation batch. Default: the training batch size. Ignored for
    /// data that come in batches.
    pub fn validation_batch_size(self, batch_size: usize) -> Fit {
        Fit { validation_batch_size: Some(batch_size), ..self }
    }

    /// Uses this share (0 to 1) of the samples for validation, taken from the end of the data, and
    /// trains on the rest. As in Keras, [`Fit::validation_data`] overrides it.
    pub fn validation_split(self, share: f64) -> Fit {
        match self.validation {
            Validation::Data(..) => self,
            _ => Fit { validation: Validation::Split(share), ..self },
        }
    }

    /// Sets the weight of the samples of some classes: `[(0, 1.0), (1, 3.5)]`. Default: 1.
    pub fn class_weight(self, weights: impl IntoIterator<Item = (usize, f64)>) -> Fit {
        Fit { class_weight: weights.into_iter().collect(), ..self }
    }

    /// Adds a callback, such as [`EarlyStopping`](super::EarlyStopping).
    pub fn callback(mut self, callback: impl Callback + 'static) -> Fit {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Calls a function at the end of each epoch.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
    /// # model.compile(Adam::default(), MeanSquaredError, []);
    /// # let (x, y) = (random_uniform((4, 2), 0.0, 1.0)?, random_uniform(4, 0.0, 1.0)?);
    /// let fit = Fit::epochs(100).on_epoch_end(|training| {
    ///     if training.value("loss")? < 0.5 {
    ///         training.stop("that is good enough".into());
    ///     }
    ///     Ok(())
    /// });
    /// model.fit((&x, &y), fit)?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn on_epoch_end(self, function: impl FnMut(&mut Training) -> Result<()> + Send + 'static) -> Fit {
        self.callback(Lambda(function))
    }

    /// Sets whether the output of the frozen layers is computed once and cached, for images that are not
    /// augmented. Default: `true`. The history is the same.
    pub fn cache_features(self, cache: bool) -> Fit {
        Fit { cache_features: cache, ..self }
    }

    /// Sets how many bytes of cached features are kept in memory. Default: 2 GiB. The rest goes to an
    /// unnamed file in the folder for temporary files. Without augmentation, that file holds all
    /// features; with [`Fit::augmented_views`], those beyond the limit.
    pub fn cache_memory(self, bytes: usize) -> Fit {
        Fit { cache_memory: bytes, ..self }
    }

    /// Caches the output of the frozen layers in a folder. Later trainings and other processes with the same
    /// frozen layers and inputs read it, such as the trials of a search. Trainable layers, optimizers and
    /// targets may differ. Default: the environment variable `HEADSTART_FEATURE_CACHE`; if it is not
    /// set, no folder is used.
    ///
    /// The name of a file is a SHA-256 of the frozen layers, their weights, and the inputs (values of
    /// tensors, or content of image files). Several processes may use the folder at once. The outputs are
    /// computed in batches of 32. They are not cached if a frozen layer is custom.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # std::env::set_current_dir(&folder).unwrap();
    /// # let (x, y) = (random_uniform((4, 3, 32, 32), 0.0, 1.0)?, Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?);
    /// # let base = Vgg16::new(Weights::Random(0)).alpha(0.05).include_top(false).input_shape((3, 32, 32)).build()?;
    /// base.freeze();
    /// for rate in [1e-2, 1e-3] {
    ///     let mut model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    ///     model.compile(Adam::new(rate), BinaryCrossentropy, [Accuracy]);
    ///     model.fit((&x, &y), Fit::epochs(2).cache_folder("features"))?; // computed once
    /// }
    /// # assert_eq!(std::fs::read_dir("features").unwrap().count(), 2);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn cache_folder(self, folder: impl AsRef<Path>) -> Fit {
        Fit { cache_folder: Some(folder.as_ref().to_owned()), ..self }
    }

    /// Sets the size limit of the cache folder in bytes. The least recently used files are removed.
    /// Default: the environment variable `HEADSTART_FEATURE_CACHE_BYTES`, or 20 GiB.
    pub fn cache_folder_bytes(self, bytes: u64) -> Fit {
        Fit { cache_folder_bytes: Some(bytes), ..self }
    }

    /// The folder for cached features, if there is one.
    pub(super) fn feature_cache(&self) -> Result<Option<FeatureFolder>> {
        FeatureFolder::new(self.cache_folder.as_deref(), self.cache_folder_bytes)
    }

    /// Caches this many epochs of augmented images and repeats them in later epochs. The frozen layers
    /// then process each variant once.
    pub fn augmented_views(self, epochs: usize) -> Fit {
        Fit { augmented_views: Some(epochs), ..self }
    }

    /// Sets whether each epoch prints its progress and results. Default: `true`.
    pub fn verbose(self, verbose: bool) -> Fit {
        Fit { verbose, ..self }
    }

    /// Sets whether the notebook shows a live chart. Default: `true`.
    pub fn chart(self, chart: bool) -> Fit {
        Fit { chart, ..self }
    }

    /// Sets whether likely mistakes are reported: images that were not preprocessed, a learning rate too
    /// large for pretrained layers, and others. Default: `true`.
    pub fn advice(self, advice: bool) -> Fit {
        Fit { advice, ..self }
    }

    /// Checks the options. `classes` is the number of classes, if each target is a single class.
    pub(super) fn check(&self, classes: Option<usize>) -> Result<()> {
        check("augmented_views", 0, self.augmented_views != Some(0), "at least 1")?;
        if self.class_weight.is_empty() {
            return Ok(());
        }
        let Some(classes) = classes else {
            return check("class_weight", "another loss", false, "a loss for targets of one class each");
        };
        for (at, (class, weight)) in self.class_weight.iter().enumerate() {
            check_not_negative("class_weight", *weight)?;
            let expected = format!("classes from 0 to {}", classes.saturating_sub(1));
            check("class_weight", class, *class < classes, &expected)?;
            let is_repeated = self.class_weight[..at].iter().any(|(known, _)| known == class);
            check("class_weight", format!("class {class} twice"), !is_repeated, "each class once")?;
        }
        Ok(())
    }

    pub(super) fn wants_advice(&self) -> bool {
        self.advice
    }

    /// The numbers of the first and the last epoch.
    pub(super) fn range(&self) -> (usize, usize) {
        (self.initial_epoch + 1, self.epochs)
    }

    /// Prints a message, unless `verbose` is off.
    pub(super) fn print(&self, text: &str) {
        if self.verbose {
            println!("{text}");
        }
    }

    /// Returns the validation data and, after a split, the targets of both parts.
    pub(super) fn take_validation(&mut self, data: &mut Box<dyn Dataset>) -> Result<ValidationData> {
        let batch_size = self.validation_batch_size.unwrap_or(self.batch_size);
        if batch_size == 0 && !matches!(self.validation, Validation::None) {
            let (expected, found) = ("at least 1".into(), "0".into());
            return Err(Error::Argument { name: "validation_batch_size", expected, found });
        }
        match std::mem::replace(&mut self.validation, Validation::None) {
            Validation::None => Ok((None, None)),
            Validation::Data(data, has_batches) => {
                let mut data = data?;
                if !has_batches {
                    data.set_batch_size(batch_size);
                }
                Ok((Some(data), None))
            }
            Validation::Split(share) => {
                let Some(samples) = data.samples() else {
                    let expected =
                        "inputs and targets, `model.fit((&x, &y), …)`; split other data before `fit`".into();
                    let found = "data that come in batches".into();
                    return Err(Error::Argument { name: "validation_split", expected, found });
                };
                let (first, last) = samples.split(share)?;
                let targets = (first.y().clone(), last.y().clone());
                *data = Box::new(first);
                let mut last = last.in_order();
                if let Some(batch_size) = self.validation_batch_size {
                    last.set_batch_size(batch_size);
                }
                Ok((Some(Box::new(last)), Some(targets)))
            }
        }
    }
}
