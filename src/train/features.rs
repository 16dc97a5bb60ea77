//! Cached features: the output of the frozen layers, computed once.
//!
//! The longest frozen prefix of a model gives the same features for an image in each epoch, if no random
//! layer precedes it. These features are cached in memory or, beyond a limit, in a file. The rest of the
//! model is trained on them. The results are identical, and the prefix is not computed again.

use std::fs::File;
use std::io::{BufWriter, Write};

use candle_core::Tensor;

use super::feature_store::{FeatureStore, Stored, scratch_file};
use super::means::Means;
use super::{Compiled, Fit, lint, lint_images};
use crate::data::{Batch, Dataset, Samples, announced_batches};
use crate::files::little_endian;
use crate::nn::{Mode, Model, SplitPoint};
use crate::{Error, Result, check_interrupt};

/// The batches of an epoch.
type Steps<'a> = Box<dyn Iterator<Item = Result<StepData>> + 'a>;

/// The data of one training step.
pub(super) struct StepData {
    pub(super) input: StepSource,
    pub(super) y: Tensor,
    pub(super) weights: Option<Tensor>,
}

/// The input of a training step.
pub(super) enum StepSource {
    /// The model's output before its last activation.
    Linear(Tensor),
    /// The inputs of a batch. The GPU computes the output from them.
    Batch(Tensor),
    /// The indices of samples whose features are on the GPU.
    Rows(Vec<u32>),
}

/// The data of a `fit`, with cached features where that is possible.
pub(super) struct Features<'a> {
    model: &'a Model,
    split: Option<SplitPoint>,
    source: Source,
    validation: Option<Validation<'a>>,
    first_batch: FirstBatchCheck<'a>,
    output_source: OutputSource,
}

/// Where training steps compute the model's output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OutputSource {
    Cpu,
    Gpu,
    /// On the GPU, which also has the features of all samples.
    GpuWithFeatures,
}

enum Source {
    /// The images, or the features of all images.
    Data { data: Box<dyn Dataset>, are_features: bool },
    /// Batches of features for a number of augmented epochs (views). Each is computed when it is first
    /// needed.
    Views {
        data: Box<dyn Dataset>,
        max_views: usize,
        store: FeatureStore,
        views: Vec<Vec<View>>,
        next: usize,
    },
}

/// One batch of a view: its features, its targets and its sample weights.
type View = (Stored, Tensor, Option<Tensor>);

impl<'a> Features<'a> {
    pub(super) fn of(
        model: &'a Model,
        data: Box<dyn Dataset>,
        validation: Option<Box<dyn Dataset>>,
        fit: &Fit,
    ) -> Result<Features<'a>> {
        let (first, last) = fit.range();
        let check_of = |what| FirstBatchCheck { model, what, wanted: fit.wants_advice() };
        let (mut first_batch, mut first_validation) = (check_of("training"), check_of("validation"));
        let split = model.frozen_split().filter(|_| fit.cache_features && last > first);
        let Some(split) = split else {
            let validation =
                validation.map(|data| Validation { model, split: None, data, first_batch: first_validation });
            let source = Source::Data { data, are_features: false };
            return Ok(Features {
                model,
                split: None,
                source,
                validation,
                first_batch,
                output_source: OutputSource::Cpu,
            });
        };
        let samples = data.samples().cloned();
        let source = match (samples, fit.augmented_views) {
            (Some(samples), _) => {
                let (features, origin) = cached((model, &split), &samples, fit, &mut |x| first_batch.run(x))?;
                fit.print(&format!(
                    "features {origin}: {} samples, {}; epochs {} to {} skip {:.1} M frozen parameters",
                    samples.count(),
                    size(features.bytes()),
                    first + 1,
                    last,
                    model.params_before(&split) as f64 / 1e6
                ));
                Source::Data { data: Box::new(features), are_features: true }
            }
            (None, Some(0)) => {
                let expected = "at least 1".into();
                return Err(Error::Argument { name: "augmented_views", expected, found: "0".into() });
            }
            (None, Some(max_views)) => {
                let store = FeatureStore::new(fit.cache_memory);
                Source::Views { data, max_views, store, views: Vec::new(), next: 0 }
            }
            (None, None) => Source::Data { data, are_features: false },
        };
        let validation = match validation {
            None => None,
            Some(data) => Some(match data.samples() {
                Some(samples) => {
                    let check = &mut |x: &Tensor| first_validation.run(x);
                    let data = Box::new(cached((model, &split), samples, fit, check)?.0);
                    Validation { model, split: Some(split.clone()), data, first_batch: first_validation }
                }
                None => Validation { model, split: None, data, first_batch: first_validation },
            }),
        };
        Ok(Features {
            model,
            split: Some(split),
            source,
            validation,
            first_batch,
            output_source: OutputSource::Cpu,
        })
    }

    /// The split point at which the batches enter the model. `None`: at its input.
    pub(super) fn entry(&self) -> Option<&SplitPoint> {
        let are_features = !matches!(self.source, Source::Data { are_features: false, .. });
        self.split.as_ref().filter(|_| are_features)
    }

    /// The features of all samples, if they are cached in memory.
    pub(super) fn in_memory(&self) -> Option<&Tensor> {
        match &self.source {
            Source::Data { data, are_features: true } => data.samples()?.in_memory(),
            Source::Data { .. } | Source::Views { .. } => None,
        }
    }

    /// Lets the training steps compute the model's output on the GPU. `has_features`: whether the features of all samples
    /// are there.
    pub(super) fn leave_outputs_to_gpu(&mut self, has_features: bool) {
        self.output_source = if has_features { OutputSource::GpuWithFeatures } else { OutputSource::Gpu };
    }

    /// Iterates over the batches of an epoch.
    pub(super) fn epoch(&mut self) -> Result<Steps<'_>> {
        let (model, split, output_source) = (self.model, self.split.as_ref(), self.output_source);
        let after = move |batch: Result<Batch>, split: Option<&SplitPoint>| {
            let Batch { x, y, weights } = batch?;
            let input = match (output_source, split) {
                (OutputSource::Cpu, Some(split)) => {
                    StepSource::Linear(model.forward_after(split, &x, Mode::Training)?)
                }
                (OutputSource::Cpu, None) => StepSource::Linear(model.forward_linear(&x, Mode::Training)?),
                (OutputSource::Gpu | OutputSource::GpuWithFeatures, _) => StepSource::Batch(x),
            };
            Ok(StepData { input, y, weights })
        };
        let on_gpu = match &self.source {
            Source::Data { data, .. } if output_source == OutputSource::GpuWithFeatures => {
                data.samples().cloned()
            }
            _ => None,
        };
        if let Some(samples) = on_gpu {
            return Ok(Box::new(samples.order().into_iter().map(move |rows| {
                let (y, weights) = samples.targets(&rows)?;
                Ok(StepData { input: StepSource::Rows(rows), y, weights })
            })));
        }
        match &mut self.source {
            Source::Data { data, are_features } => {
                let (split, raw) = (split.filter(|_| *are_features), !*are_features);
                let first_batch = &mut self.first_batch;
                Ok(Box::new(announced_batches(&mut **data)?.map(move |batch| {
                    if let (true, Ok(batch)) = (raw, &batch) {
                        first_batch.run(&batch.x)?;
                    }
                    after(batch, split)
                })))
            }
            Source::Views { data, max_views, store, views, next } => {
                let view = *next % *max_views;
                *next += 1;
                if view == views.len() {
                    let mut batches = Vec::new();
                    for batch in announced_batches(&mut **data)? {
                        check_interrupt()?;
                        let batch = batch?;
                        self.first_batch.run(&batch.x)?;
                        let x = split
                            .map_or(Ok(batch.x.clone()), |split| model.forward_before(split, &batch.x))?;
                        batches.push((store.put(x)?, batch.y, batch.weights));
                    }
                    views.push(batches);
                }
                let store = &*store;
                Ok(Box::new(views[view].iter().map(move |(x, y, weights)| {
                    let batch = Batch { x: store.get(x)?, y: y.clone(), weights: weights.clone() };
                    after(Ok(batch), split)
                })))
            }
        }
    }

    pub(super) fn validation(&mut self) -> Option<&mut Validation<'a>> {
        self.validation.as_mut()
    }
}

/// Checks the first batch for likely mistakes and prints advice.
struct FirstBatchCheck<'a> {
    model: &'a Model,
    /// "training", "validation" or "evaluated".
    what: &'static str,
    /// Whether the next batch is to be checked.
    wanted: bool,
}

impl FirstBatchCheck<'_> {
    /// Checks a batch if none was checked before.
    fn run(&mut self, x: &Tensor) -> Result<()> {
        if !std::mem::take(&mut self.wanted) {
            return Ok(());
        }
        if self.what == "evaluated" {
            return lint_images::advise_once(self.model, x, self.what);
        }
        if self.what == "training" {
            lint::print_advice(&lint::batch_advice(self.model, x)?);
        }
        lint::print_advice(lint_images::image_advice(self.model, x, self.what)?.as_slice());
        Ok(())
    }
}

/// Validation data, or their features.
pub(super) struct Validation<'a> {
    model: &'a Model,
    split: Option<SplitPoint>,
    data: Box<dyn Dataset>,
    first_batch: FirstBatchCheck<'a>,
}

impl<'a> Validation<'a> {
    /// Creates validation data without cached features.
    pub(super) fn of(model: &'a Model, data: Box<dyn Dataset>) -> Validation<'a> {
        let first_batch = FirstBatchCheck { model, what: "evaluated", wanted: true };
        Validation { model, split: None, data, first_batch }
    }

    /// Evaluates the model and returns the means of loss and metrics. `check` receives the loss of each
    /// batch and the batch number, from 1.
    pub(super) fn measure(
        &mut self,
        compiled: &Compiled,
        check: impl Fn(f32, usize) -> Result<()>,
    ) -> Result<Means> {
        let mut means = Means::new(compiled);
        for (done, batch) in (1..).zip(announced_batches(&mut *self.data)?) {
            check_interrupt()?;
            let Batch { x, y, weights } = batch?;
            if self.split.is_none() {
                self.first_batch.run(&x)?;
            }
            let linear = match &self.split {
                Some(split) => self.model.forward_after(split, &x, Mode::Inference)?,
                None => self.model.forward_linear(&x, Mode::Inference)?,
            };
            let targets = compiled.targets(self.model, &y)?;
            let step = compiled.step_output(self.model, linear, targets, weights.as_ref())?;
            let loss = step.loss.to_scalar()?;
            check(loss, done)?;
            means.add(loss, &step)?;
        }
        Ok(means)
    }
}

/// Returns the samples with features as inputs, from the cache folder or computed, and where they come from.
fn cached(
    (model, split): (&Model, &SplitPoint),
    samples: &Samples,
    fit: &Fit,
    check_first: &mut dyn FnMut(&Tensor) -> Result<()>,
) -> Result<(Samples, String)> {
    if let Some(cache) = fit.feature_cache()? {
        let folder = cache.path().display();
        match cache.features((model, split), samples, fit.cache_memory, check_first)? {
            Some((features, true)) => return Ok((features, format!("read from {folder}"))),
            Some((features, false)) => return Ok((features, format!("cached in {folder}"))),
            None => fit.print(&format!(
                "features are not cached in {folder}: a frozen layer is custom, or they exceed the size limit of the folder"
            )),
        }
    }
    Ok((computed(model, split, samples, fit.cache_memory, check_first)?, "cached".into()))
}

/// Computes the features of all samples and returns a dataset with them as inputs.
fn computed(
    model: &Model,
    split: &SplitPoint,
    samples: &Samples,
    memory: usize,
    check_first: &mut dyn FnMut(&Tensor) -> Result<()>,
) -> Result<Samples> {
    let mut batches = Vec::new();
    let mut file: Option<BufWriter<File>> = None;
    let mut shape = Vec::new();
    let mut in_order = samples.clone().in_order();
    for batch in in_order.epoch()? {
        check_interrupt()?;
        let x = batch?.x;
        check_first(&x)?;
        let features = model.forward_before(split, &x)?;
        if batches.is_empty() && file.is_none() {
            shape = features.dims()[1..].to_vec();
            let bytes = shape.iter().product::<usize>() * samples.count() * size_of::<f32>();
            if bytes > memory {
                file = Some(BufWriter::new(scratch_file()?));
            }
        }
        match &mut file {
            Some(file) => {
                let values = features.flatten_all()?.to_vec1::<f32>()?;
                file.write_all(&little_endian(&values)).map_err(Error::io(std::env::temp_dir()))?;
            }
            None => batches.push(features),
        }
    }
    Ok(match file {
        Some(file) => {
            let file =
                file.into_inner().map_err(|error| Error::io(std::env::temp_dir())(error.into_error()))?;
            samples.with_file(file, 0, shape)
        }
        None => samples.with_x(Tensor::cat(&batches, 0)?),
    })
}

/// Formats a number of bytes: `51 MB`, `620 kB`.
fn size(bytes: usize) -> String {
    match bytes {
        1_000_000.. => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.0} kB", bytes as f64 / 1e3),
    }
}
