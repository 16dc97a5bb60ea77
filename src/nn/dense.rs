//! The fully connected layer.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Activation, Build, Context, Initializer, Layer, LayerConfig, Mode, Param};
use crate::device::takes_cpu_path;
use crate::{Error, Result, ops};

/// A fully connected layer: `activation(x · Wᵀ + b)`.
///
/// # Shapes
/// From `[N, inputs]` to `[N, units]`; the weight is `[units, inputs]`.
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
}

impl Dense {
    /// A layer of `units` outputs. Defaults: linear, Glorot uniform weights, bias 0, as in Keras.
    pub fn new(units: usize) -> Dense {
        Dense { units, activation: Activation::Linear, initializer: Initializer::GlorotUniform }
    }

    /// Sets the activation. Default: linear.
    pub fn activation(self, activation: Activation) -> Dense {
        Dense { activation, ..self }
    }

    /// Sets the initializer of the weight. Default: [`Initializer::GlorotUniform`].
    pub fn kernel_initializer(self, initializer: Initializer) -> Dense {
        Dense { initializer, ..self }
    }
}

impl Build for Dense {
    fn stem(&self) -> &str {
        "dense"
    }

    fn config(&self) -> Option<LayerConfig> {
        Some(LayerConfig::Dense(self.clone()))
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [inputs] = *context.inputs[0] else {
            let hint = "put `Flatten` or `GlobalAveragePooling2D` before the first Dense";
            return Err(Error::shape(context.name, "[inputs]", context.inputs[0], hint));
        };
        if self.units == 0 {
            return Err(Error::Argument { name: "units", expected: "at least 1".into(), found: "0".into() });
        }
        let kernel = self.initializer.draw(&[self.units, inputs], context.random, context.device)?;
        let bias = Initializer::Zeros.draw(&[self.units], context.random, context.device)?;
        Ok(Arc::new(Built {
            kernel: Param::weight("kernel", &kernel)?,
            bias: Param::weight("bias", &bias)?,
            activation: self.activation,
            shape: [self.units],
        }))
    }
}

pub(super) struct Built {
    kernel: Param,
    bias: Param,
    pub(super) activation: Activation,
    shape: [usize; 1],
}

impl Built {
    /// The output without the activation.
    pub(super) fn forward_linear(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let (x, kernel, bias) = (inputs[0], self.kernel.value(mode), self.bias.value(mode));
        if takes_cpu_path(x) {
            return Ok(ops::apply3(&x.contiguous()?, &kernel, &bias, ops::Dense)?);
        }
        Ok(x.matmul(&kernel.t()?)?.broadcast_add(&bias)?)
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
        vec![self.kernel.clone(), self.bias.clone()]
    }
}
