//! Weights of samples and classes in the loss.

use candle_core::Tensor;

use crate::Result;
use crate::data::check_weights;
use crate::nn::{ClassLayout, class_of};

/// Computes the weight of each sample, or of each of its positions: the sample's weight times the weight of the class.
pub(super) fn weigh(
    targets: &Tensor,
    own: Option<Tensor>,
    classes: &[(usize, f64)],
    layout: &ClassLayout,
) -> Result<Option<Tensor>> {
    if let Some(own) = &own {
        check_weights(own)?;
    }
    if classes.is_empty() {
        return Ok(own);
    }
    let weight = |row: Vec<f32>| {
        let class = class_of(&row);
        classes.iter().find(|(known, _)| *known == class).map_or(1.0, |(_, weight)| *weight as f32)
    };
    let weights: Vec<f32> = layout.rows(targets)?.to_vec2::<f32>()?.into_iter().map(weight).collect();
    let weights = Tensor::from_vec(weights, (targets.dim(0)?, layout.positions), targets.device())?;
    let weights = match own {
        Some(own) => weights.broadcast_mul(&own.unsqueeze(1)?)?,
        None => weights,
    };
    Ok(Some(weights.flatten_all()?))
}
