//! Depthwise separable convolution (Chollet 2016).

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::conv::on_device;
use super::window_size::{WindowSize, window_output};
use super::{Activation, Build, Context, Initializer, Layer, Mode, Padding, Param};
use crate::Result;
use crate::check::check;
use crate::device::takes_cpu_path;
use crate::ops::{Conv, apply2, apply3};

/// Depthwise separable convolution: one kernel per channel, then a 1x1 convolution across the channels.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, filters, H', W']`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SeparableConv2D {
    filters: usize,
    pub(super) kernel_size: WindowSize,
    pub(super) strides: WindowSize,
    pub(super) padding: Padding,
    pub(super) activation: Activation,
    pub(super) use_bias: bool,
}

impl SeparableConv2D {
    /// `filters` outputs, and a window of `kernel_size` pixels: a number for a square, or `(height, width)`. Defaults:
    /// stride 1, no padding, linear, with bias.
    pub fn new(filters: usize, kernel_size: impl Into<WindowSize>) -> SeparableConv2D {
        SeparableConv2D {
            filters,
            kernel_size: kernel_size.into(),
            strides: WindowSize::Square(1),
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
        }
    }

    /// Sets the stride in pixels, the same along both sides: `2`, or `(2, 2)` as in Keras. Default: 1.
    pub fn strides(self, strides: impl Into<WindowSize>) -> SeparableConv2D {
        SeparableConv2D { strides: strides.into(), ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`].
    pub fn padding(self, padding: Padding) -> SeparableConv2D {
        SeparableConv2D { padding, ..self }
    }

    /// Sets the activation. Default: linear.
    pub fn activation(self, activation: Activation) -> SeparableConv2D {
        SeparableConv2D { activation, ..self }
    }

    /// Sets whether a bias is added. Default: true.
    pub fn use_bias(self, use_bias: bool) -> SeparableConv2D {
        SeparableConv2D { use_bias, ..self }
    }
}

impl Build for SeparableConv2D {
    fn default_name(&self) -> &str {
        "separable_conv2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [rows, columns] = self.kernel_size.sides();
        self.strides.check_square("strides")?;
        let stride = self.strides.side();
        let [channels, height, width] = window_output(&context, [rows, columns], stride, self.padding)?;
        check("filters", self.filters, self.filters > 0, "at least 1")?;
        let mut draw = |initializer: Initializer, shape: &[usize]| {
            initializer.draw(shape, context.random, context.device)
        };
        let depthwise = draw(Initializer::GlorotUniform, &[channels, 1, rows, columns])?;
        let pointwise = draw(Initializer::GlorotUniform, &[self.filters, channels, 1, 1])?;
        let bias = draw(Initializer::Zeros, &[self.filters])?;
        Ok(Arc::new(Built {
            config: *self,
            depthwise: Param::weight("depthwise_kernel", &depthwise)?,
            pointwise: Param::weight("pointwise_kernel", &pointwise)?,
            bias: if self.use_bias { Some(Param::weight("bias", &bias)?) } else { None },
            shape: [self.filters, height, width],
        }))
    }
}

pub(super) struct Built {
    config: SeparableConv2D,
    depthwise: Param,
    pointwise: Param,
    bias: Option<Param>,
    shape: [usize; 3],
}

impl Built {
    /// The layer's own activation.
    pub(super) fn activation(&self) -> Activation {
        self.config.activation
    }

    /// The output without the activation.
    pub(super) fn forward_linear(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let SeparableConv2D { strides, padding, .. } = self.config;
        let x = x.contiguous()?;
        let (depthwise, pointwise) = (self.depthwise.value(mode), self.pointwise.value(mode));
        let (_, channels, height, width) = x.dims4()?;
        let [rows, columns] = self.config.kernel_size.sides();
        let stride = strides.side();
        let around = [padding.amount(height, rows, stride), padding.amount(width, columns, stride)];
        let bias = self.bias.as_ref().map(|bias| bias.value(mode));
        if !takes_cpu_path(&x) {
            let filtered = on_device(&x, &depthwise, stride, 1, channels, around)?;
            let y = on_device(&filtered, &pointwise, 1, 1, 1, [(0, 0); 2])?;
            return Ok(match bias {
                Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
                None => y,
            });
        }
        let output = [self.shape[1], self.shape[2]];
        let before = [around[0].0, around[1].0];
        let conv = Conv { stride, dilation: 1, groups: channels, before, output, relu: false };
        let filtered = apply2(&x, &depthwise, conv)?;
        let conv = Conv { stride: 1, groups: 1, before: [0; 2], ..conv };
        Ok(match bias {
            Some(bias) => apply3(&filtered, &pointwise, &bias, conv)?,
            None => apply2(&filtered, &pointwise, conv)?,
        })
    }
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "SeparableConv2D"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.activation().apply(&self.forward_linear(inputs[0], mode)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        [&self.depthwise, &self.pointwise].into_iter().chain(&self.bias).cloned().collect()
    }
}
