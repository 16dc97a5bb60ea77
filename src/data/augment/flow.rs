//! Batches of augmented images, prepared in the background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use candle_core::Tensor;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use super::ImageDataGenerator;
use super::statistics::Statistics;
use crate::data::dataset::{Batch, Dataset, IntoDataset, Samples};
use crate::ops::values;
use crate::{Error, Result, random};

/// Number of batches that the queue holds.
const QUEUE_LENGTH: usize = 2;

/// Batches of augmented images: the result of [`ImageDataGenerator::flow`], and input of `fit`.
#[derive(Clone, Debug)]
pub struct Flow {
    samples: Samples,
    generator: ImageDataGenerator,
    statistics: Option<Statistics>,
}

impl Flow {
    pub(super) fn of(samples: Samples, generator: ImageDataGenerator) -> Result<Flow> {
        let y = samples.y().dims();
        if y.len() > 2 && generator.moves_pixels() {
            let hint = "the generator moves the pixels of the images, and not those of the targets; \
                        change colours only, or write a dataset that moves both";
            return Err(Error::shape("the targets of augmented images", "[N] or [N, classes]", y, hint));
        }
        let statistics = generator.statistics();
        generator.say_that_it_centres();
        Ok(Flow { samples, generator, statistics })
    }

    /// Returns the batch of the samples with these indices, augmented.
    fn batch(&self, numbers: &[u32], seed: u64) -> Result<Batch> {
        let (all, rows) = self.samples.rows(numbers)?;
        let (_, channels, height, width) = all.dims4()?;
        let size = channels * height * width;
        if self.statistics.as_ref().is_some_and(|found| !found.suit(channels, size)) {
            let expected = "images of the size that `fit` received".into();
            let found = format!("{channels} by {height} by {width}");
            return Err(Error::Argument { name: "featurewise statistics", expected, found });
        }
        let mut varied = vec![0f32; rows.len() * size];
        {
            let all = values(&all)?;
            varied.par_chunks_mut(size).zip(&rows).enumerate().for_each(|(i, (varied, row))| {
                // Each image has its own random stream, so that the result does not depend on the
                // threads.
                let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(i as u64));
                // The copy is read in order. The transform then reads it in any order from the L1 cache.
                let image = all[row * size..][..size].to_vec();
                self.generator.vary(&image, varied, (height, width), &mut random, self.statistics.as_ref());
            });
        }
        let (y, weights) = self.samples.targets(numbers)?;
        let x = Tensor::from_vec(varied, (rows.len(), channels, height, width), y.device())?;
        self.generator.mix(Batch { x, y, weights }, &mut ChaCha8Rng::seed_from_u64(!seed))
    }
}

impl Dataset for Flow {
    fn batches(&self) -> usize {
        self.samples.batches()
    }

    fn is_augmented(&self) -> bool {
        self.generator.varies()
    }

    fn is_mixed(&self) -> bool {
        self.generator.mixes()
    }

    /// Known for images from folders or a table.
    fn class_names(&self) -> &[String] {
        self.samples.class_names()
    }

    fn keep_order(&mut self) {
        self.samples.keep_order();
    }

    /// A background thread prepares the batches. It ends with the iterator.
    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
        let order = self.samples.order();
        let mut seeds = random::stream();
        let flow = self.clone();
        let (made, batches) = sync_channel(QUEUE_LENGTH);
        let make = move || {
            for (at, numbers) in order.into_iter().enumerate() {
                let batch = catch_unwind(AssertUnwindSafe(|| flow.batch(&numbers, seeds.next_u64())));
                let batch = batch.unwrap_or_else(|panic| {
                    let place = format!("the augmentation of batch {}", at + 1);
                    let hint =
                        "check the generator's `preprocessing_function`, and that its ranges fit the images";
                    Err(Error::panicked(place, &*panic, hint))
                });
                let is_error = batch.is_err();
                if made.send(batch).is_err() || is_error {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("augmentation".into()).spawn(make);
        thread.map_err(|error| Error::io("a thread for the augmentation")(error))?;
        Ok(Box::new(batches.into_iter()))
    }
}

impl IntoDataset for Flow {
    fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(self))
    }

    fn has_batches(&self) -> bool {
        true
    }
}
