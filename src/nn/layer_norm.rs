//! Layer normalisation (Ba et al. 2016) and group normalisation (Wu and He 2018).

use std::sync::Arc;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::check::check_positive;
use crate::device::takes_cpu_path;
use crate::ops::{LayerNorm, ScaleShift, apply3};
use crate::{Error, Result};

/// Layer normalisation: normalises each vector of features to mean 0 and variance 1, then scales and shifts each
/// feature. It is the same in training and inference.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new((3, 8, 8)), LayerNormalization::default().axis(1), Flatten]?;
/// let tokens = sequential![Input::new((5, 16)), LayerNormalization::default().epsilon(1e-6)]?;
/// assert_eq!((model.output_shape(), tokens.output_shape()), (&[192][..], &[5, 16][..]));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LayerNormalization {
    pub(super) axis: isize,
    pub(super) epsilon: f64,
}

impl Default for LayerNormalization {
    /// Keras's defaults: axis -1, epsilon 0.001.
    fn default() -> LayerNormalization {
        LayerNormalization { axis: -1, epsilon: 1e-3 }
    }
}

impl LayerNormalization {
    /// Sets the dimension of the features, where 0 is the batch: -1, the last one, or 1, the channels of images
    /// `[N, C, H, W]`. Default: -1.
    pub fn axis(self, axis: isize) -> LayerNormalization {
        LayerNormalization { axis, ..self }
    }

    /// Sets epsilon, which is added to the variance before the square root. Default: 0.001.
    pub fn epsilon(self, epsilon: f64) -> LayerNormalization {
        LayerNormalization { epsilon, ..self }
    }
}

impl Build for LayerNormalization {
    fn default_name(&self) -> &str {
        "layer_normalization"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check_positive("epsilon", self.epsilon)?;
        let shape = context.inputs[0];
        let last = shape.len() as isize;
        let (features, channels_first) = match self.axis {
            -1 => (shape[shape.len() - 1], false),
            1 => (shape[0], last > 1),
            axis if axis == last => (shape[shape.len() - 1], false),
            axis => {
                let expected = format!("-1 or 1, for inputs of shape {shape:?}");
                return Err(Error::Argument { name: "axis", expected, found: axis.to_string() });
            }
        };
        let gamma = Initializer::Ones.draw(&[features], context.random, context.device)?;
        let beta = Initializer::Zeros.draw(&[features], context.random, context.device)?;
        Ok(Arc::new(BuiltLayerNorm {
            op: LayerNorm { epsilon: self.epsilon as f32, channels_first },
            gamma: Param::weight("gamma", &gamma)?,
            beta: Param::weight("beta", &beta)?,
            shape: shape.to_vec(),
        }))
    }
}

struct BuiltLayerNorm {
    op: LayerNorm,
    gamma: Param,
    beta: Param,
    shape: Vec<usize>,
}

/// Normalises the last dimension with candle's operations.
fn normalise_last(x: &Tensor, epsilon: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + f64::from(epsilon))?.sqrt()?)?)
}

impl Layer for BuiltLayerNorm {
    fn kind(&self) -> &'static str {
        "LayerNormalization"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let (x, gamma, beta) = (inputs[0], self.gamma.value(mode), self.beta.value(mode));
        if takes_cpu_path(x) {
            return Ok(apply3(&x.contiguous()?, &gamma, &beta, self.op)?);
        }
        let last = x.rank() - 1;
        let x = if self.op.channels_first { x.transpose(1, last)?.contiguous()? } else { x.clone() };
        let y = normalise_last(&x, self.op.epsilon)?.broadcast_mul(&gamma)?.broadcast_add(&beta)?;
        Ok(if self.op.channels_first { y.transpose(1, last)?.contiguous()? } else { y })
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.gamma.clone(), self.beta.clone()]
    }
}

/// Group normalisation: divides the channels of each sample into groups and normalises each group to mean 0 and
/// variance 1. It then scales and shifts each channel. It does not depend on the other samples of the batch.
///
/// # Shapes
/// From `[N, C, …]` to the same shape.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GroupNormalization {
    pub(super) groups: usize,
    pub(super) epsilon: f64,
}

impl GroupNormalization {
    /// A layer with this number of groups, a divisor of the number of channels. Default epsilon: 0.001, as in Keras.
    pub fn new(groups: usize) -> GroupNormalization {
        GroupNormalization { groups, epsilon: 1e-3 }
    }

    /// Sets epsilon, which is added to the variance before the square root. Default: 0.001.
    pub fn epsilon(self, epsilon: f64) -> GroupNormalization {
        GroupNormalization { epsilon, ..self }
    }
}

impl Build for GroupNormalization {
    fn default_name(&self) -> &str {
        "group_normalization"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check_positive("epsilon", self.epsilon)?;
        let shape = context.inputs[0];
        let channels = shape[0];
        if self.groups == 0 || !channels.is_multiple_of(self.groups) {
            let expected = format!("a divisor of {channels} channels");
            return Err(Error::Argument { name: "groups", expected, found: self.groups.to_string() });
        }
        let gamma = Initializer::Ones.draw(&[channels], context.random, context.device)?;
        let beta = Initializer::Zeros.draw(&[channels], context.random, context.device)?;
        let group_size = shape.iter().product::<usize>() / self.groups;
        Ok(Arc::new(BuiltGroupNorm {
            config: *self,
            units: [
                Initializer::Ones.draw(&[group_size], context.random, context.device)?,
                Initializer::Zeros.draw(&[group_size], context.random, context.device)?,
            ],
            gamma: Param::weight("gamma", &gamma)?,
            beta: Param::weight("beta", &beta)?,
            shape: shape.to_vec(),
        }))
    }
}

struct BuiltGroupNorm {
    config: GroupNormalization,
    /// Scale and shift that change nothing: ones and zeros.
    units: [Tensor; 2],
    gamma: Param,
    beta: Param,
    shape: Vec<usize>,
}

impl Layer for BuiltGroupNorm {
    fn kind(&self) -> &'static str {
        "GroupNormalization"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let (x, gamma, beta) = (inputs[0], self.gamma.value(mode), self.beta.value(mode));
        let (epsilon, [ones, zeros]) = (self.config.epsilon as f32, &self.units);
        let groups = x.contiguous()?.reshape((x.dim(0)?, self.config.groups, ()))?;
        if takes_cpu_path(x) {
            let normalised = apply3(&groups, ones, zeros, LayerNorm { epsilon, channels_first: false })?;
            return Ok(apply3(&normalised.reshape(x.shape())?, &gamma, &beta, ScaleShift)?);
        }
        let mut channels = vec![1; x.rank()];
        channels[1] = self.shape[0];
        let normalised = normalise_last(&groups, epsilon)?.reshape(x.shape())?;
        let scaled = normalised.broadcast_mul(&gamma.reshape(channels.as_slice())?)?;
        Ok(scaled.broadcast_add(&beta.reshape(channels)?)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.gamma.clone(), self.beta.clone()]
    }
}
