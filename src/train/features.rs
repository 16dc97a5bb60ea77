//! What frozen layers make of the data, computed once.
//!
//! Where nothing random stands before it, the longest frozen beginning of a model gives the same
//! features for a picture in each epoch. They are kept, in memory or, beyond a bound, in a file,
//! and the rest of the model is trained on them: the same numbers, without the work.

use std::fs::File;
use std::io::{BufWriter, Write};

use candle_core::Tensor;

use super::means::Means;
use super::{Compiled, Fit, lint};
use crate::data::{Batch, Dataset, Samples};
use crate::nn::{Mode, Model, SplitPoint};
use crate::{Error, Result, check_interrupt};

/// Batches, each with the model's output before its last function.
type Outputs<'a> = Box<dyn Iterator<Item = Result<(Batch, Tensor)>> + 'a>;

/// The data of a `fit`, with as much of the model run on it as need not be run again.
pub(super) struct Features<'a> {
    model: &'a Model,
    cut: Option<SplitPoint>,
    source: Source,
    validation: Option<Validation<'a>>,
    first_look: FirstLook<'a>,
}

enum Source {
    /// Pictures, or features of all of them.
    Data { data: Box<dyn Dataset>, are_features: bool },
    /// Some epochs' batches of features, made as they were first asked for.
    Views { data: Box<dyn Dataset>, most: usize, made: Vec<Vec<Batch>>, next: usize },
}

impl<'a> Features<'a> {
    pub(super) fn of(
        model: &'a Model,
        data: Box<dyn Dataset>,
        validation: Option<Box<dyn Dataset>>,
        fit: &Fit,
    ) -> Result<Features<'a>> {
        let (first, last) = fit.range();
        let mut first_look = FirstLook { model, wanted: fit.wants_advice() };
        let cut = model.frozen_split().filter(|_| fit.cache_features && last > first);
        let Some(cut) = cut else {
            let validation = validation.map(|data| Validation { model, cut: None, data });
            let source = Source::Data { data, are_features: false };
            return Ok(Features { model, cut: None, source, validation, first_look });
        };
        let samples = data.samples().cloned();
        let source = match (samples, fit.augmented_views) {
            (Some(samples), _) => {
                let features = computed(model, &cut, &samples, fit.cache_memory, &mut |x| first_look.at(x))?;
                fit.say(&format!(
                    "features cached: {} samples, {}; epochs {} to {} skip {:.1} M frozen parameters",
                    samples.count(),
                    size(features.bytes()),
                    first + 1,
                    last,
                    model.params_before(&cut) as f64 / 1e6
                ));
                Source::Data { data: Box::new(features), are_features: true }
            }
            (None, Some(0)) => {
                let expected = "at least 1".into();
                return Err(Error::Argument { name: "augmented_views", expected, found: "0".into() });
            }
            (None, Some(most)) => Source::Views { data, most, made: Vec::new(), next: 0 },
            (None, None) => Source::Data { data, are_features: false },
        };
        let validation = match validation {
            None => None,
            Some(data) => Some(match data.samples() {
                Some(samples) => {
                    let data = Box::new(computed(model, &cut, samples, fit.cache_memory, &mut |_| Ok(()))?);
                    Validation { model, cut: Some(cut.clone()), data }
                }
                None => Validation { model, cut: None, data },
            }),
        };
        Ok(Features { model, cut: Some(cut), source, validation, first_look })
    }

    /// The batches of an epoch, each with the model's output before its last function.
    pub(super) fn epoch(&mut self) -> Result<Outputs<'_>> {
        let (model, cut) = (self.model, self.cut.as_ref());
        let after = move |batch: Result<Batch>, cut: Option<&SplitPoint>| {
            let batch = batch?;
            let linear = match cut {
                Some(cut) => model.forward_after(cut, &batch.x, Mode::Training)?,
                None => model.forward_linear(&batch.x, Mode::Training)?,
            };
            Ok((batch, linear))
        };
        match &mut self.source {
            Source::Data { data, are_features } => {
                let (cut, raw) = (cut.filter(|_| *are_features), !*are_features);
                let first_look = &mut self.first_look;
                Ok(Box::new(data.epoch()?.map(move |batch| {
                    if let (true, Ok(batch)) = (raw, &batch) {
                        first_look.at(&batch.x)?;
                    }
                    after(batch, cut)
                })))
            }
            Source::Views { data, most, made, next } => {
                let view = *next % *most;
                *next += 1;
                if view == made.len() {
                    let mut batches = Vec::new();
                    for batch in data.epoch()? {
                        check_interrupt()?;
                        let batch = batch?;
                        self.first_look.at(&batch.x)?;
                        let x = cut.map_or(Ok(batch.x.clone()), |cut| model.forward_before(cut, &batch.x))?;
                        batches.push(Batch { x, ..batch });
                    }
                    made.push(batches);
                }
                Ok(Box::new(made[view].iter().cloned().map(move |batch| after(Ok(batch), cut))))
            }
        }
    }

    pub(super) fn validation(&mut self) -> Option<&mut Validation<'a>> {
        self.validation.as_mut()
    }
}

/// Advice on the first batch.
struct FirstLook<'a> {
    model: &'a Model,
    wanted: bool,
}

impl FirstLook<'_> {
    fn at(&mut self, x: &Tensor) -> Result<()> {
        if std::mem::take(&mut self.wanted) {
            lint::say(&lint::of_batch(self.model, x)?);
        }
        Ok(())
    }
}

/// Data to judge a model by, or their features.
pub(super) struct Validation<'a> {
    model: &'a Model,
    cut: Option<SplitPoint>,
    data: Box<dyn Dataset>,
}

impl<'a> Validation<'a> {
    /// Data as they are.
    pub(super) fn of(model: &'a Model, data: Box<dyn Dataset>) -> Validation<'a> {
        Validation { model, cut: None, data }
    }

    /// Loss and metrics of the model as it is.
    pub(super) fn measure(&mut self, compiled: &Compiled) -> Result<Means> {
        let mut means = Means::new(compiled);
        for batch in self.data.epoch()? {
            check_interrupt()?;
            let Batch { x, y, weights } = batch?;
            let linear = match &self.cut {
                Some(cut) => self.model.forward_after(cut, &x, Mode::Inference)?,
                None => self.model.forward_linear(&x, Mode::Inference)?,
            };
            let targets = compiled.targets(self.model, &y)?;
            let judged = compiled.judge(self.model, linear, targets, weights.as_ref())?;
            means.add(judged.loss.to_scalar()?, &judged)?;
        }
        Ok(means)
    }
}

/// The samples with their features for inputs.
fn computed(
    model: &Model,
    cut: &SplitPoint,
    samples: &Samples,
    memory: usize,
    look: &mut dyn FnMut(&Tensor) -> Result<()>,
) -> Result<Samples> {
    let mut batches = Vec::new();
    let mut file: Option<BufWriter<File>> = None;
    let mut shape = Vec::new();
    let mut in_order = samples.clone().in_order();
    for batch in in_order.epoch()? {
        check_interrupt()?;
        let x = batch?.x;
        look(&x)?;
        let features = model.forward_before(cut, &x)?;
        if batches.is_empty() && file.is_none() {
            shape = features.dims()[1..].to_vec();
            let bytes = shape.iter().product::<usize>() * samples.count() * size_of::<f32>();
            if bytes > memory {
                file = Some(BufWriter::new(tempfile()?));
            }
        }
        match &mut file {
            Some(file) => {
                let values = features.flatten_all()?.to_vec1::<f32>()?;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                file.write_all(&bytes).map_err(Error::io(std::env::temp_dir()))?;
            }
            None => batches.push(features),
        }
    }
    Ok(match file {
        Some(file) => {
            let file =
                file.into_inner().map_err(|error| Error::io(std::env::temp_dir())(error.into_error()))?;
            samples.with_file(file, shape)
        }
        None => samples.with_x(Tensor::cat(&batches, 0)?),
    })
}

/// `51 MB`, `620 kB`.
fn size(bytes: usize) -> String {
    match bytes {
        1_000_000.. => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.0} kB", bytes as f64 / 1e3),
    }
}

/// A file without a name, which goes with its last reader.
fn tempfile() -> Result<File> {
    let path = std::env::temp_dir().join(format!("headstart-features-{}", std::process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.map_err(Error::io(&path))?;
    std::fs::remove_file(&path).map_err(Error::io(&path))?;
    Ok(file)
}
