//! Augmentation that mixes the images of a batch: MixUp and CutMix.

use std::ops::Range;

use candle_core::{DType, Tensor};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

use super::ImageDataGenerator;
use crate::data::Batch;
use crate::{Error, Result, random};

impl ImageDataGenerator {
    /// Applies MixUp or CutMix. If both are set, each batch gets one of them at random.
    pub(super) fn mix(&self, batch: Batch, random: &mut ChaCha8Rng) -> Result<Batch> {
        if !self.mixes() {
            return Ok(batch);
        }
        let (mixup, cutmix) = (self.mixup > 0.0, self.cutmix > 0.0);
        let targets = batch.y.to_dtype(DType::F32)?;
        if targets.flatten_all()?.to_vec1::<f32>()?.iter().any(|target| !(0.0..=1.0).contains(target)) {
            let (expected, found) = ("targets of 0 and 1, or one-hot".into(), "class numbers".into());
            return Err(Error::Argument { name: "mixup and cutmix", expected, found });
        }
        let batch = Batch { y: targets, ..batch };
        let by_part = cutmix && (!mixup || random.random_bool(0.5));
        let (count, _, height, width) = batch.x.dims4()?;
        let others: Vec<u32> = random::permutation(random, count).into_iter().map(|at| at as u32).collect();
        let share = beta(if by_part { self.cutmix } else { self.mixup })?.sample(random);
        match by_part {
            false => blend(batch, &others, share),
            true => {
                let centre = [random.random_range(0..height), random.random_range(0..width)];
                paste(batch, &others, part([height, width], centre, share))
            }
        }
    }
}

/// The distribution Beta(alpha, alpha).
fn beta(alpha: f64) -> Result<Beta<f64>> {
    Beta::new(alpha, alpha).map_err(|_| {
        let (expected, found) = ("a number above 0".into(), alpha.to_string());
        Error::Argument { name: "alpha", expected, found }
    })
}

/// MixUp: `share · own + (1 - share) · other`, for images and targets.
fn blend(batch: Batch, others: &[u32], share: f64) -> Result<Batch> {
    let others = Tensor::new(others, batch.x.device())?;
    let blend = |own: &Tensor| (own * share)? + (own.index_select(&others, 0)? * (1.0 - share))?;
    let (y, weights) = match &batch.weights {
        None => (blend(&batch.y)?, None),
        Some(weights) => {
            let (y, weights) = blend_weighted(&batch.y, weights, blend)?;
            (y, Some(weights))
        }
    };
    Ok(Batch { x: blend(&batch.x)?, y, weights })
}

/// Blends targets and sample weights so that the loss of a mixed sample is
/// `share · weight · loss(target) + (1 - share) · weight' · loss(target')`. Both crossentropies are linear in the
/// target, so that the mean target by weight and the blended weight give this loss.
fn blend_weighted(
    y: &Tensor,
    weights: &Tensor,
    blend: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let count = weights.dims1()?;
    let column = |weights: &Tensor| weights.reshape([&[count][..], &vec![1; y.rank() - 1]].concat());
    let blended = blend(weights)?;
    // Two samples of weight 0 have no mean by weight; their target has no effect.
    let divisor = blended.maximum(f64::from(f32::MIN_POSITIVE))?;
    let targets = blend(&y.broadcast_mul(&column(weights)?)?)?.broadcast_div(&column(&divisor)?)?;
    Ok((targets, blended))
}

/// Returns the rows and columns of a box around a centre that covers `1 - share` of the image, clipped
/// to the image.
fn part(sides: [usize; 2], centre: [usize; 2], share: f64) -> [Range<usize>; 2] {
    [0, 1].map(|axis| {
        let half = (0.5 * (1.0 - share).sqrt() * sides[axis] as f64) as usize;
        centre[axis].saturating_sub(half)..(centre[axis] + half).min(sides[axis])
    })
}

/// CutMix: replaces a box of each image by that of another image, and mixes the targets by the area of
/// the box.
fn paste(batch: Batch, others: &[u32], [rows, columns]: [Range<usize>; 2]) -> Result<Batch> {
    let (_, channels, height, width) = batch.x.dims4()?;
    let from = batch.x.flatten_all()?.to_vec1::<f32>()?;
    let mut values = from.clone();
    for (image, other) in others.iter().enumerate() {
        for channel in 0..channels {
            for row in rows.clone() {
                let line = |image: usize| {
                    let begin = ((image * channels + channel) * height + row) * width;
                    begin + columns.start..begin + columns.end
                };
                values[line(image)].copy_from_slice(&from[line(*other as usize)]);
            }
        }
    }
    let x = Tensor::from_vec(values, batch.x.dims(), batch.x.device())?;
    let share = 1.0 - (rows.len() * columns.len()) as f64 / (height * width) as f64;
    Ok(Batch { x, ..blend(batch, others, share)? })
}

#[cfg(test)]
mod tests {
    use candle_core::IndexOp;

    use super::*;

    #[test]
    fn shares_follow_the_beta_distribution() -> Result<()> {
        // The variance of Beta(a, a) is 1 / (4 · (2a + 1)).
        for alpha in [1.0, 0.2, 50.0] {
            let values: Vec<f64> = beta(alpha)?.sample_iter(random::seeded(1)).take(4000).collect();
            let mean = values.iter().sum::<f64>() / 4000.0;
            assert!((mean - 0.5).abs() < 0.02, "{mean}");
            let spread = values.iter().map(|value| (value - 0.5).powi(2)).sum::<f64>() / 4000.0;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((spread - expected).abs() < 0.01, "{alpha}: {spread} for {expected}");
        }
        Ok(())
    }

    /// tests/fixtures/mixing.py computed the expected values with torchvision, with the same shares,
    /// centres and pairs.
    #[test]
    fn mixing_matches_torchvision() -> Result<()> {
        let fixture = include_bytes!("../../../tests/fixtures/mixing.safetensors");
        let fixture = candle_core::safetensors::load_buffer(fixture, &crate::device())?;
        let batch = || Batch::from((fixture["x"].clone(), fixture["y"].clone()));
        let (count, _, height, width) = fixture["x"].dims4()?;
        // torchvision mixes each image with the previous one.
        let others: Vec<u32> = (0..count as u32).map(|at| (at + count as u32 - 1) % count as u32).collect();
        let same = |found: &Tensor, name: String| -> Result<()> {
            let difference = (found - &fixture[&name])?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-6, "{name}: {difference}");
            Ok(())
        };
        for (at, drawn) in fixture["drawn"].to_vec2::<f64>()?.into_iter().enumerate() {
            let blended = blend(batch(), &others, drawn[0])?;
            same(&blended.x, format!("mixup.{at}.x"))?;
            same(&blended.y, format!("mixup.{at}.y"))?;
            let part = part([height, width], [drawn[1] as usize, drawn[2] as usize], drawn[0]);
            let pasted = paste(batch(), &others, part)?;
            same(&pasted.x, format!("cutmix.{at}.x"))?;
            same(&pasted.y, format!("cutmix.{at}.y"))?;
        }
        Ok(())
    }

    /// The loss of a mixed sample is the sum of the losses for both targets, each by its share and weight.
    #[test]
    fn sample_weights_are_mixed_with_their_samples() -> Result<()> {
        let device = crate::device();
        let x = Tensor::zeros((3, 3, 4, 4), DType::F32, &device)?;
        let (own, others, share) = ([2f32, 0.5, 0.0], [1u32, 2, 0], 0.7f64);
        let weights = Tensor::new(&own, &device)?;
        let one_hot = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 0.0]], &device)?;
        for y in [one_hot.clone(), one_hot.i((.., 0))?.contiguous()?] {
            let batch = Batch { x: x.clone(), y: y.clone(), weights: Some(weights.clone()) };
            let mixed = blend(batch, &others, share)?;
            let found = mixed.weights.unwrap();
            let rows = |y: &Tensor| y.reshape((3, ()))?.to_vec2::<f32>();
            let (y, mixed) = (rows(&y)?, rows(&mixed.y)?);
            for (at, weight) in found.to_vec1::<f32>()?.into_iter().enumerate() {
                let other = others[at] as usize;
                for (column, target) in mixed[at].iter().enumerate() {
                    let expected = share as f32 * own[at] * y[at][column]
                        + (1.0 - share as f32) * own[other] * y[other][column];
                    assert!((weight * target - expected).abs() < 1e-6, "{weight} · {target}, not {expected}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn mixed_targets_match_the_image_content() -> Result<()> {
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
