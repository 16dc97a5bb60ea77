//! Scale and shift of each channel.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::device::takes_cpu_path;
use crate::ops::{ScaleShift, apply3};
use crate::{Error, Result};

/// Scales and shifts each channel by trainable numbers: `gamma · x + beta`. Imported models contain it
/// where the exporter merged the statistics of a batch normalisation into its scale and shift.
///
/// ```
/// use headstart::prelude::*;
/// let images = sequential![Input::new((3, 8, 8)), Affine::default()]?;
/// let tokens = sequential![Input::new((5, 16)), Affine::default().axis(-1).scale(false)]?;
/// assert_eq!((images.params()[0].count(), tokens.params()[0].count()), (3, 16));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Affine {
    pub(super) axis: isize,
    pub(super) scale: bool,
    pub(super) center: bool,
}

impl Default for Affine {
    /// Axis 1, with scale and shift.
    fn default() -> Affine {
        Affine { axis: 1, scale: true, center: true }
    }
}

impl Affine {
    /// Sets the dimension of the channels, where 0 is the batch and -1 the last one. Default: 1, the channels of images.
    pub fn axis(self, axis: isize) -> Affine {
        Affine { axis, ..self }
    }

    /// Sets whether channels are scaled by `gamma`. Default: true.
    pub fn scale(self, scale: bool) -> Affine {
        Affine { scale, ..self }
    }

    /// Sets whether channels are shifted by `beta`. Default: true.
    pub fn center(self, center: bool) -> Affine {
        Affine { center, ..self }
    }

    /// The dimension of the channels, where 0 is the batch. `None` if there is no such dimension in inputs of this rank.
    pub(super) fn dimension(&self, rank: usize) -> Option<usize> {
        let dimension = if self.axis < 0 { self.axis + rank as isize + 1 } else { self.axis };
        usize::try_from(dimension).ok().filter(|dimension| (1..=rank).contains(dimension))
    }
}

impl Build for Affine {
    fn default_name(&self) -> &str {
        "affine"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let shape = context.inputs[0];
        let Some(dimension) = self.dimension(shape.len()) else {
            let expected = format!("1 to {}, or -1, for inputs of shape {shape:?}", shape.len());
            return Err(Error::Argument { name: "axis", expected, found: self.axis.to_string() });
        };
        let channels = shape[dimension - 1];
        let ones = Initializer::Ones.draw(&[channels], context.random, context.device)?;
        let zeros = Initializer::Zeros.draw(&[channels], context.random, context.device)?;
        Ok(Arc::new(Built {
            gamma: self.scale.then(|| Param::weight("gamma", &ones)).transpose()?,
            beta: self.center.then(|| Param::weight("beta", &zeros)).transpose()?,
            units: [ones, zeros],
            dimension,
            shape: shape.to_vec(),
        }))
    }
}

struct Built {
    gamma: Option<Param>,
    beta: Option<Param>,
    /// Scale and shift that change nothing: ones and zeros.
    units: [Tensor; 2],
    dimension: usize,
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Affine"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = inputs[0];
        let value = |param: &Option<Param>| param.as_ref().map(|param| param.value(mode));
        let (gamma, beta) = (value(&self.gamma), value(&self.beta));
        if takes_cpu_path(x) && self.dimension == 1 {
            let [ones, zeros] = &self.units;
            let (gamma, beta) = (gamma.as_ref().unwrap_or(ones), beta.as_ref().unwrap_or(zeros));
            return Ok(apply3(&x.contiguous()?, gamma, beta, ScaleShift)?);
        }
        let mut channels = vec![1; x.rank()];
        channels[self.dimension] = self.shape[self.dimension - 1];
        let mut y = x.clone();
        if let Some(gamma) = gamma {
            y = y.broadcast_mul(&gamma.reshape(channels.as_slice())?)?;
        }
        if let Some(beta) = beta {
            y = y.broadcast_add(&beta.reshape(channels)?)?;
        }
        Ok(y)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        self.gamma.iter().chain(&self.beta).cloned().collect()
    }
}
