//! What mixes the pictures of a batch with one another.

use candle_core::{DType, Tensor};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use super::ImageDataGenerator;
use crate::data::Batch;
use crate::{Error, Result, random};

impl ImageDataGenerator {
    /// MixUp or CutMix; of both, each batch has one.
    pub(super) fn mix(&self, batch: Batch, random: &mut ChaCha8Rng) -> Result<Batch> {
        let by_part = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (false, false) => return Ok(batch),
            (true, true) => random.random_bool(0.5),
            (_, cutmix) => cutmix,
        };
        let (count, channels, height, width) = batch.x.dims4()?;
        let order: Vec<u32> = random::permutation(random, count).into_iter().map(|at| at as u32).collect();
        let share = beta(if by_part { self.cutmix } else { self.mixup }, random);
        let targets = batch.y.to_dtype(DType::F32)?;
        if targets.flatten_all()?.to_vec1::<f32>()?.iter().any(|target| !(0.0..=1.0).contains(target)) {
            let (expected, found) = ("targets of 0 and 1, or one-hot".into(), "class numbers".into());
            return Err(Error::Argument { name: "mixup and cutmix", expected, found });
        }
        let others = Tensor::new(order.as_slice(), batch.x.device())?;
        let (x, kept) = match by_part {
            false => ((&batch.x * share)?.add(&(batch.x.index_select(&others, 0)? * (1.0 - share))?)?, share),
            true => {
                let side = (1.0 - share).sqrt();
                let (rows, columns) = ((height as f64 * side) as usize, (width as f64 * side) as usize);
                let top = random.random_range(0..=height - rows);
                let left = random.random_range(0..=width - columns);
                let mut values = batch.x.flatten_all()?.to_vec1::<f32>()?;
                let from = values.clone();
                for (picture, other) in order.iter().enumerate() {
                    for channel in 0..channels {
                        for row in top..top + rows {
                            let at = |picture: usize| {
                                ((picture * channels + channel) * height + row) * width + left
                            };
                            let other = &from[at(*other as usize)..][..columns];
                            values[at(picture)..][..columns].copy_from_slice(other);
                        }
                    }
                }
                let kept = 1.0 - (rows * columns) as f64 / (height * width) as f64;
                (Tensor::from_vec(values, batch.x.dims(), batch.x.device())?, kept)
            }
        };
        let y = ((&targets * kept)? + (targets.index_select(&others, 0)? * (1.0 - kept))?)?;
        Ok(Batch { x, y, ..batch })
    }
}

/// Beta(alpha, alpha), by Jöhnk's method.
fn beta(alpha: f64, random: &mut ChaCha8Rng) -> f64 {
    loop {
        let a = random.random::<f64>().powf(1.0 / alpha);
        let b = random.random::<f64>().powf(1.0 / alpha);
        if a + b > 0.0 && a + b <= 1.0 {
            return a / (a + b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_for_one_and_extreme_for_little() {
        let spread = |alpha: f64| {
            let mut random = random::seeded(1);
            let values: Vec<f64> = (0..4000).map(|_| beta(alpha, &mut random)).collect();
            let mean = values.iter().sum::<f64>() / 4000.0;
            assert!((mean - 0.5).abs() < 0.02, "{mean}");
            values.iter().map(|value| (value - 0.5).powi(2)).sum::<f64>() / 4000.0
        };
        // The variance of Beta(a, a) is 1 / (4 · (2a + 1)).
        for alpha in [1.0, 0.2] {
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((spread(alpha) - expected).abs() < 0.01, "{alpha}");
        }
    }

    #[test]
    fn mixed_targets_tell_what_is_in_the_picture() -> Result<()> {
        let device = crate::device();
        let x = Tensor::cat(
            &[
                Tensor::zeros((4, 3, 8, 8), DType::F32, &device)?,
                Tensor::ones((4, 3, 8, 8), DType::F32, &device)?,
            ],
            0,
        )?;
        let y = Tensor::new(&[0f32, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], &device)?;
        for generator in [ImageDataGenerator::new().mixup(1.0), ImageDataGenerator::new().cutmix(1.0)] {
            let mixed = generator.mix((x.clone(), y.clone()).into(), &mut random::seeded(5))?;
            let content = mixed.x.mean((1, 2, 3))?.to_vec1::<f32>()?;
            let targets = mixed.y.to_vec1::<f32>()?;
            assert!(
                content.iter().zip(&targets).all(|(a, b)| (a - b).abs() < 1e-5),
                "{content:?} {targets:?}"
            );
            assert!(targets.iter().any(|target| *target > 0.0 && *target < 1.0));
        }
        Ok(())
    }
}
