//! Datasets: samples in batches, epoch by epoch.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::decode::Decoding;
use super::inputs::Inputs;
use super::prefetch::prefetched;
use crate::check::check_not_negative;
use crate::device_options::Optimization;
use crate::{Error, Result, random};

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Inputs, `[N, …]`.
    pub x: Tensor,
    /// Targets, `[N]` or `[N, classes]`. Those of [`Samples`] are on the CPU.
    pub y: Tensor,
    /// Sample weights of the loss, `[N]`. Default: all 1.
    pub weights: Option<Tensor>,
}

impl From<(Tensor, Tensor)> for Batch {
    fn from((x, y): (Tensor, Tensor)) -> Batch {
        Batch { x, y, weights: None }
    }
}

/// Data that a model can be trained on.
pub trait Dataset {
    /// The number of batches in an epoch. `fit`, `evaluate` and `predict` take this number of batches from
    /// [`Dataset::epoch`]; fewer are an error.
    fn batches(&self) -> usize;

    /// Starts an epoch and returns its batches. Shuffles the samples first if shuffling is on.
    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>>;

    /// The names of the classes, class 0 first. Empty if they are unknown. `evaluate` returns an error if the names
    /// differ from those of the training data. `fit` returns an error if those of the validation data differ, or if a
    /// class has another number than in the earlier training.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// Disables shuffling, for predictions.
    fn keep_order(&mut self) {}

    /// Sets the batch size. Data that come in batches ignore it.
    fn set_batch_size(&mut self, batch_size: usize) {
        let _ = batch_size;
    }

    /// Returns the samples, if they are the same in each epoch.
    fn samples(&self) -> Option<&Samples> {
        None
    }

    /// Whether the samples are augmented at random.
    fn is_augmented(&self) -> bool {
        false
    }

    /// Whether each sample is mixed with another one, as by MixUp. Only `fit` takes such data.
    fn is_mixed(&self) -> bool {
        false
    }
}

/// Input of `fit`: a dataset, or inputs and targets.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as training data: pass inputs and targets, both tensors, as a pair, `(&x, &y)`, or a generator's `datagen.flow(&x, &y, 32)?`"
)]
pub trait IntoDataset {
    /// Converts to a dataset. Data that come in batches keep their batch size and order.
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>>;

    /// Whether the data come in batches. `fit` does not change their batch size.
    fn has_batches(&self) -> bool {
        false
    }
}

impl IntoDataset for (&Tensor, &Tensor) {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Samples::new(self.0, self.1, batch_size, shuffle)?))
    }
}

/// Inputs, targets and sample weights, `[N]`: Keras's `sample_weight`.
impl IntoDataset for (&Tensor, &Tensor, &Tensor) {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Samples::new(self.0, self.1, batch_size, shuffle)?.weighted(self.2)?))
    }
}

/// Keeps the batch size and the order.
impl IntoDataset for Samples {
    fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(self))
    }

    fn has_batches(&self) -> bool {
        true
    }
}

/// Keeps the batch size and the order.
impl IntoDataset for Box<dyn Dataset> {
    fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
        Ok(self)
    }

    fn has_batches(&self) -> bool {
        true
    }
}

/// Inputs and targets, split into batches. The last batch may be smaller.
#[derive(Clone, Debug)]
pub struct Samples {
    pub(super) x: Inputs,
    y: Tensor,
    weights: Option<Tensor>,
    batch_size: usize,
    shuffle: bool,
    class_names: Arc<[String]>,
}

impl Samples {
    /// Creates samples from inputs `[N, …]` and their targets.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no samples, the numbers of inputs and targets differ, or the
    /// batch size is 0.
    pub fn new(x: &Tensor, y: &Tensor, batch_size: usize, shuffle: bool) -> Result<Samples> {
        let count = |t: &Tensor| t.dims().first().copied().unwrap_or(0);
        if count(x) != count(y) || count(x) == 0 {
            let expected =
                if count(x) == count(y) { "at least one sample" } else { "as many targets as inputs" };
            let found = format!("{} inputs and {} targets", count(x), count(y));
            return Err(Error::Argument { name: "x and y", expected: expected.into(), found });
        }
        if batch_size == 0 {
            return Err(Error::Argument {
                name: "batch_size",
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        // Each batch of targets is checked on the CPU. Targets on a GPU are copied once, not for each batch.
        let y = match Optimization::Targets.is_on() {
            true => y.to_device(&Device::Cpu)?,
            false => y.clone(),
        };
        // Made contiguous once, not for each batch.
        let (x, y, class_names) = (Inputs::Memory(x.contiguous()?), y.contiguous()?, Arc::default());
        Ok(Samples { x, y, weights: None, batch_size, shuffle, class_names })
    }

    /// Creates samples from image files. `decoding` says how they are decoded.
    pub(crate) fn from_files(
        paths: Vec<PathBuf>,
        decoding: Decoding,
        y: Tensor,
        batch_size: usize,
        shuffle: bool,
    ) -> Result<Samples> {
        let samples = Samples::new(&y, &y, batch_size, shuffle)?;
        Ok(Samples { x: Inputs::Images(Arc::new(paths), decoding), ..samples })
    }

    /// Returns the same samples with sample weights, `[N]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one weight per sample; [`Error::Argument`] if a weight is negative or
    /// not finite.
    pub fn weighted(self, weights: &Tensor) -> Result<Samples> {
        if weights.dims() != [self.count()] {
            return Err(Error::shape("sample weights", format!("[{}]", self.count()), weights.dims(), ""));
        }
        let weights = weights.to_dtype(DType::F32)?;
        check_weights(&weights)?;
        Ok(Samples { weights: Some(weights), ..self })
    }

    /// Returns the same samples with class names.
    pub(crate) fn named(self, class_names: &[String]) -> Samples {
        Samples { class_names: class_names.into(), ..self }
    }

    /// Returns the same samples without shuffling.
    pub(crate) fn in_order(self) -> Samples {
        Samples { shuffle: false, ..self }
    }

    /// Returns the same samples with other inputs.
    pub(crate) fn with_x(&self, x: Tensor) -> Samples {
        Samples { x: Inputs::Memory(x), ..self.clone() }
    }

    /// Returns the same samples with inputs from a file of `f32` values that begin at an offset. `shape` is
    /// the shape of one input.
    pub(crate) fn with_file(&self, file: File, begin: u64, shape: Vec<usize>) -> Samples {
        Samples { x: Inputs::File(Arc::new(file), begin, shape), ..self.clone() }
    }

    /// The size of the inputs in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.x {
            Inputs::Memory(x) => x.elem_count() * x.dtype().size_in_bytes(),
            Inputs::Images(_, Decoding { size: (height, width), .. }) => {
                self.count() * 3 * height * width * size_of::<f32>()
            }
            Inputs::File(_, _, shape) => self.count() * shape.iter().product::<usize>() * size_of::<f32>(),
        }
    }

    /// Splits off the last `share` of the samples: Keras's `validation_split`.
    pub(crate) fn split(&self, share: f64) -> Result<(Samples, Samples)> {
        let first = (self.count() as f64 * (1.0 - share)).floor() as usize;
        if !(0.0..1.0).contains(&share) || first == 0 || first == self.count() {
            let expected =
                format!("a share between 0 and 1 that leaves some of {} samples in both parts", self.count());
            return Err(Error::Argument { name: "validation_split", expected, found: share.to_string() });
        }
        let part = |start: usize, length: usize| -> Result<Samples> {
            Ok(Samples {
                x: self.x.narrow(start, length)?,
                y: self.y.narrow(0, start, length)?,
                weights: self.weights.as_ref().map(|weights| weights.narrow(0, start, length)).transpose()?,
                ..self.clone()
            })
        };
        Ok((part(0, first)?, part(first, self.count() - first)?))
    }

    /// The inputs, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<&Tensor> {
        match &self.x {
            Inputs::Memory(x) => Some(x),
            Inputs::File(..) | Inputs::Images(..) => None,
        }
    }

    /// The targets.
    pub(crate) fn y(&self) -> &Tensor {
        &self.y
    }

    /// The number of samples.
    pub(crate) fn count(&self) -> usize {
        self.y.dims()[0]
    }

    /// The number of samples in the last batch.
    pub(crate) fn last_batch(&self) -> usize {
        self.count() - (self.batches() - 1) * self.batch_size
    }

    /// Returns the sample indices of one epoch, batch by batch.
    pub(crate) fn order(&self) -> Vec<Vec<u32>> {
        let order = match self.shuffle {
            true => random::permutation(&mut random::stream(), self.count()),
            false => (0..self.count()).collect(),
        };
        order.chunks(self.batch_size).map(|batch| batch.iter().map(|i| *i as u32).collect()).collect()
    }

    /// Returns the samples with these indices, the inputs as `f32`.
    pub(crate) fn take(&self, numbers: &[u32]) -> Result<Batch> {
        let (y, weights) = self.targets(numbers)?;
        Ok(Batch { x: self.x.pick(numbers)?, y, weights })
    }

    /// Returns the targets and weights of the samples with these indices.
    pub(crate) fn targets(&self, numbers: &[u32]) -> Result<(Tensor, Option<Tensor>)> {
        // Weights can be on another device than the targets.
        let pick = |all: &Tensor| all.contiguous()?.index_select(&Tensor::new(numbers, all.device())?, 0);
        Ok((pick(&self.y)?, self.weights.as_ref().map(pick).transpose()?))
    }

    /// Returns an `f32` tensor on the CPU that contains the inputs with these indices, and their rows in
    /// it. Avoids a copy if possible.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<(Tensor, Vec<usize>)> {
        match &self.x {
            Inputs::Memory(x) if x.device().is_cpu() && x.dtype() == DType::F32 && x.is_contiguous() => {
                Ok((x.clone(), numbers.iter().map(|at| *at as usize).collect()))
            }
            x => Ok((x.pick(numbers)?.to_device(&Device::Cpu)?, (0..numbers.len()).collect())),
        }
    }
}

/// Checks that sample weights are finite and not negative.
pub(crate) fn check_weights(weights: &Tensor) -> Result<()> {
    let mut weights = weights.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter();
    weights.try_for_each(|weight| check_not_negative("sample weights", f64::from(weight)))
}

impl Dataset for Samples {
    fn batches(&self) -> usize {
        self.count().div_ceil(self.batch_size)
    }

    /// A background thread reads image files ahead. It ends with the iterator.
    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
        let order = self.order();
        if !matches!(self.x, Inputs::Images(..)) {
            return Ok(Box::new(order.into_iter().map(|numbers| self.take(&numbers))));
        }
        let samples = self.clone();
        Ok(Box::new(prefetched(order, move |numbers| samples.take(numbers))?))
    }

    fn samples(&self) -> Option<&Samples> {
        Some(self)
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn keep_order(&mut self) {
        self.shuffle = false;
    }

    fn set_batch_size(&mut self, batch_size: usize) {
        self.batch_size = batch_size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_contains_every_sample_once() {
        let x = Tensor::arange(0f32, 10.0, &Device::Cpu).unwrap().reshape((10, 1)).unwrap();
        let y = Tensor::arange(0u32, 10, &Device::Cpu).unwrap();
        let mut data = Samples::new(&x, &y, 4, true).unwrap();
        assert_eq!(data.batches(), 3);
        let batches: Vec<Batch> = data.epoch().unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.x.dims()[0]).collect::<Vec<_>>(), [4, 4, 2]);
        let mut seen = Vec::new();
        for Batch { x, y, .. } in batches {
            let x = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let y = y.to_vec1::<u32>().unwrap();
            assert!(x.iter().zip(&y).all(|(x, y)| *x == *y as f32), "a sample lost its target");
            seen.extend(y);
        }
        assert_ne!(seen, (0..10).collect::<Vec<_>>(), "not shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }
}
