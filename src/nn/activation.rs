//! Activations, as layers or as arguments of `Dense` and `Conv2D`.

use std::sync::Arc;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::device::takes_cpu_path;
use crate::ops::Pointwise;
use crate::{Result, ops};

/// An activation, applied elementwise or (softmax) over the classes: the channels of feature maps `[N, C, H, W]`,
/// otherwise the last dimension.
///
/// ```
/// use headstart::prelude::*;
/// let y = Activation::Sigmoid.apply(&Tensor::new(&[0f32, 2.0], &device())?)?;
/// assert_eq!(y.to_vec1::<f32>()?, [0.5, 0.880797]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// The identity.
    #[default]
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `1 / (1 + e^-x)`, between 0 and 1.
    Sigmoid,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// Softmax over the channels of feature maps `[N, C, H, W]`, otherwise over the last dimension: probabilities
    /// that sum to 1. Keras's is over the last dimension, where it has the channels.
    Softmax,
    /// `tanh(x)`, between -1 and 1.
    Tanh,
    /// Gaussian error linear unit, `x · Φ(x)`: Keras's `gelu` (Hendrycks and Gimpel 2016).
    Gelu,
    /// [`Activation::Gelu`] with an approximation by tanh: Keras's `gelu` with `approximate=True`.
    GeluTanh,
    /// `relu6(x + 3) / 6`, a piecewise linear sigmoid.
    HardSigmoid,
    /// `x · relu6(x + 3) / 6`: Keras's `hard_silu` (Howard et al. 2019, MobileNetV3).
    HardSwish,
}

impl Activation {
    /// Applies the activation to a tensor of any shape.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Linear => x.clone(),
            Activation::Relu | Activation::Relu6 if takes_cpu_path(x) => {
                let max = if self == Activation::Relu6 { 6.0 } else { f32::INFINITY };
                ops::apply1(&x.contiguous()?, ops::Relu { max })?
            }
            // candle's `relu` and `clamp` also propagate a gradient at exactly 0 and 6.
            Activation::Relu => x.gt(0f32)?.where_cond(x, &x.zeros_like()?)?,
            Activation::Relu6 => {
                let between = (x.gt(0f32)? * x.lt(6f32)?)?;
                between.where_cond(x, &x.detach().clamp(0f32, 6f32)?)?
            }
            Activation::Silu => (x * candle_nn::ops::sigmoid(x)?)?,
            Activation::Sigmoid => candle_nn::ops::sigmoid(x)?,
            Activation::Softmax if x.rank() == 4 => {
                // candle's softmax on the CPU needs the classes last.
                let rows = x.permute((0, 2, 3, 1))?.contiguous()?;
                candle_nn::ops::softmax(&rows, D::Minus1)?.permute((0, 3, 1, 2))?.contiguous()?
            }
            Activation::Softmax => candle_nn::ops::softmax(x, D::Minus1)?,
            Activation::Tanh => x.tanh()?,
            Activation::Gelu => pointwise(x, Pointwise::Gelu, |x| x.gelu_erf())?,
            Activation::GeluTanh => pointwise(x, Pointwise::GeluTanh, |x| x.gelu())?,
            Activation::HardSigmoid => pointwise(x, Pointwise::HardSigmoid, hard_sigmoid)?,
            Activation::HardSwish => pointwise(x, Pointwise::HardSwish, |x| x * hard_sigmoid(x)?)?,
        })
    }
}

/// Applies `op` on the CPU path, and `on_device` on other devices.
fn pointwise(
    x: &Tensor,
    op: Pointwise,
    on_device: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    if takes_cpu_path(x) { ops::apply1(&x.contiguous()?, op) } else { on_device(x) }
}

/// `relu6(x + 3) / 6` by candle's operations, with gradient 0 at and beyond the bounds.
fn hard_sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    let inside = (x.gt(-3f32)? * x.lt(3f32)?)?;
    let bounds = ((x.detach() + 3.0)?.clamp(0f32, 6f32)? / 6.0)?;
    inside.where_cond(&((x + 3.0)? / 6.0)?, &bounds)
}

impl Build for Activation {
    fn default_name(&self) -> &str {
        "activation"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(Built { function: *self, shape: context.inputs[0].to_vec() }))
    }
}

pub(super) struct Built {
    pub(super) function: Activation,
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Activation"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        self.function.apply(inputs[0])
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
