//! The fully connected layer.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::param::with_adapters;
use super::{Activation, Build, Context, Initializer, Layer, Mode, Param};
use crate::device::takes_cpu_path;
use crate::{Error, Result, ops};

/// A fully connected layer: `activation(x · Wᵀ + b)`.
///
/// # Shapes
/// From `[N, inputs]` to `[N, units]`, or from `[N, …, inputs]` to `[N, …, units]`; the weight is `[units, inputs]`.
/// Inputs `[N, height, width, channels]` need [`Dense::channels_last`].
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(4), Dense::new(3).activation(Softmax)]?;
/// let out = model.predict(&Tensor::zeros((2, 4), DType::F32, &device())?)?;
/// assert_eq!(out[1], [1.0 / 3.0; 3]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dense {
    units: usize,
    pub(super) activation: Activation,
    initializer: Initializer,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    channels_last: bool,
    /// Missing in older files: true.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    use_bias: bool,
}

fn yes() -> bool {
    true
}

impl Dense {
    /// A layer of `units` outputs. Defaults: linear, Glorot uniform weights, bias 0, as in Keras.
    pub fn new(units: usize) -> Dense {
        Dense {
            units,
            activation: Activation::Linear,
            initializer: Initializer::GlorotUniform,
            channels_last: false,
            use_bias: true,
        }
    }

    /// Sets the activation. Default: linear.
    pub fn activation(self, activation: Activation) -> Dense {
        Dense { activation, ..self }
    }

    /// Sets the initializer of the weight. Default: [`Initializer::GlorotUniform`].
    pub fn kernel_initializer(self, initializer: Initializer) -> Dense {
        Dense { initializer, ..self }
    }

    /// Sets whether a bias is added. Default: true.
    pub fn use_bias(self, use_bias: bool) -> Dense {
        Dense { use_bias, ..self }
    }

    /// Sets whether inputs of three dimensions are `[height, width, channels]`, for a layer on each pixel. Default:
    /// false, such inputs are an error, because images are `[channels, height, width]` here.
    pub fn channels_last(self, channels_last: bool) -> Dense {
        Dense { channels_last, ..self }
    }
}

impl Build for Dense {
    fn default_name(&self) -> &str {
        "dense"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let (inputs, rest) = match *context.inputs[0] {
            [_, _, _] if !self.channels_last => {
                let hint = "put `Flatten` or `GlobalAveragePooling2D` before the first Dense; \
                            for [height, width, channels] call `.channels_last(true)`";
                return Err(Error::shape(context.name, "[inputs]", context.inputs[0], hint));
            }
            [ref rest @ .., inputs] => (inputs, rest),
            [] => return Err(Error::shape(context.name, "[inputs]", context.inputs[0], "")),
        };
        if self.units == 0 {
            return Err(Error::Argument { name: "units", expected: "at least 1".into(), found: "0".into() });
        }
        let kernel = self.initializer.draw(&[self.units, inputs], context.random, context.device)?;
        let bias = Initializer::Zeros.draw(&[self.units], context.random, context.device)?;
        Ok(Arc::new(Built {
            kernel: Param::weight("kernel", &kernel)?,
            bias: self.use_bias.then(|| Param::weight("bias", &bias)).transpose()?,
            zeros: bias,
            activation: self.activation,
            shape: [rest, &[self.units]].concat(),
        }))
    }
}

/// `x · Wᵀ + b` over the last dimension.
pub(super) fn linear(x: &Tensor, kernel: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if takes_cpu_path(x) {
        return Ok(ops::apply3(&x.contiguous()?, kernel, bias, ops::Dense)?);
    }
    let shape = [&x.dims()[..x.rank() - 1], &kernel.dims()[..1]].concat();
    let rows = x.contiguous()?.reshape(((), kernel.dim(1)?))?;
    Ok(rows.matmul(&kernel.t()?)?.broadcast_add(bias)?.reshape(shape)?)
}

pub(super) struct Built {
    kernel: Param,
    bias: Option<Param>,
    /// Zeros in place of a missing bias.
    zeros: Tensor,
    pub(super) activation: Activation,
    shape: Vec<usize>,
}

impl Built {
    /// The output without the activation.
    pub(super) fn forward_linear(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let bias = self.bias.as_ref().map_or_else(|| self.zeros.clone(), |bias| bias.value(mode));
        linear(inputs[0], &self.kernel.adapted(mode)?, &bias)
    }
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Dense"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.activation.apply(&self.forward_linear(inputs, mode)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        with_adapters(std::iter::once(&self.kernel).chain(&self.bias).cloned().collect())
    }
}
