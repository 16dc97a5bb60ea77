//! Samples in batches, epoch by epoch.

use candle_core::{DType, Tensor};

use crate::{Error, Result, random};

/// A batch: inputs `[N, …]` and targets `[N]` or `[N, classes]`.
pub type Batch = (Tensor, Tensor);

/// What a model can be trained on.
pub trait Dataset {
    /// How many batches an epoch has.
    fn batches(&self) -> usize;

    /// Begins an epoch: shuffles anew, if that is to be done, and gives its batches.
    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>>;
}

/// What `fit` takes: a dataset, or inputs and targets that it makes batches of.
pub trait IntoDataset {
    /// The dataset; data that come in batches already keep their own size and order.
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>>;
}

impl IntoDataset for (&Tensor, &Tensor) {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Samples::new(self.0, self.1, batch_size, shuffle)?))
    }
}

/// Inputs and targets, cut into batches; the last one is as small as what is left.
#[derive(Clone, Debug)]
pub struct Samples {
    x: Tensor,
    y: Tensor,
    batch_size: usize,
    shuffle: bool,
}

impl Samples {
    /// # Errors
    /// [`Error::Argument`] if there are not as many targets as inputs, or none, or the batch size is 0.
    pub fn new(x: &Tensor, y: &Tensor, batch_size: usize, shuffle: bool) -> Result<Samples> {
        let count = |t: &Tensor| t.dims().first().copied().unwrap_or(0);
        if count(x) != count(y) || count(x) == 0 {
            let found = format!("{} inputs and {} targets", count(x), count(y));
            return Err(Error::Argument {
                name: "x and y",
                expected: "as many targets as inputs".into(),
                found,
            });
        }
        if batch_size == 0 {
            return Err(Error::Argument {
                name: "batch_size",
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        Ok(Samples { x: x.clone(), y: y.clone(), batch_size, shuffle })
    }

    /// How many samples there are.
    pub(crate) fn count(&self) -> usize {
        self.y.dims()[0]
    }

    /// The order of one epoch, batch by batch.
    pub(crate) fn order(&self) -> Vec<Vec<u32>> {
        let order = match self.shuffle {
            true => random::permutation(&mut random::stream(), self.count()),
            false => (0..self.count()).collect(),
        };
        order.chunks(self.batch_size).map(|batch| batch.iter().map(|i| *i as u32).collect()).collect()
    }

    /// The samples of those numbers, the inputs as `f32`.
    pub(crate) fn take(&self, numbers: &[u32]) -> Result<Batch> {
        let numbers = Tensor::new(numbers, self.x.device())?;
        let x = self.x.contiguous()?.index_select(&numbers, 0)?.to_dtype(DType::F32)?;
        Ok((x, self.y.contiguous()?.index_select(&numbers, 0)?))
    }
}

impl Dataset for Samples {
    fn batches(&self) -> usize {
        self.count().div_ceil(self.batch_size)
    }

    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
        Ok(Box::new(self.order().into_iter().map(|numbers| self.take(&numbers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn an_epoch_holds_every_sample_once_and_the_last_batch_is_small() {
        let x = Tensor::arange(0f32, 10.0, &Device::Cpu).unwrap().reshape((10, 1)).unwrap();
        let y = Tensor::arange(0u32, 10, &Device::Cpu).unwrap();
        let mut data = Samples::new(&x, &y, 4, true).unwrap();
        assert_eq!(data.batches(), 3);
        let batches: Vec<Batch> = data.epoch().unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|(x, _)| x.dims()[0]).collect::<Vec<_>>(), [4, 4, 2]);
        let mut seen = Vec::new();
        for (x, y) in batches {
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
