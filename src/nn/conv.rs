//! The convolution layer.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Activation, Build, Context, Initializer, Layer, LayerConfig, Mode, Param};
use crate::device::takes_cpu_path;
use crate::ops::{
    Conv, DeviceConv, Epilogue, FusedConv, InferenceConv, KernelLayout, PackedKernels, apply2, apply3,
    to_nchw,
};
use crate::{Error, Result};

/// Padding of an image at its borders for a sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// No padding: the window stays inside the image.
    #[default]
    Valid,
    /// Zeros so that the output size is `ceil(input / stride)`. The extra one of an odd number goes right and below.
    Same,
    /// This many zeros on each side, as in torchvision; less than the window's size.
    Explicit(usize),
}

impl Padding {
    /// Padding before and after a side of `length` pixels, for a window of `size` pixels and the given stride.
    pub(crate) fn amount(self, length: usize, size: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Valid => (0, 0),
            Padding::Same => {
                let outputs = length.div_ceil(stride);
                let total = ((outputs - 1) * stride + size).saturating_sub(length);
                (total / 2, total - total / 2)
            }
            Padding::Explicit(n) => (n, n),
        }
    }
}

/// Output shape `[C, H', W']` of a window that slides over `[C, H, W]`.
pub(crate) fn window_output(
    context: &Context,
    size: usize,
    stride: usize,
    padding: Padding,
) -> Result<[usize; 3]> {
    let [channels, height, width] = *context.inputs[0] else {
        return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
    };
    if size == 0 || stride == 0 {
        let found = format!("window {size}, stride {stride}");
        return Err(Error::Argument { name: "window and stride", expected: "at least 1".into(), found });
    }
    // A window that lies entirely in the padding has no input.
    if let Padding::Explicit(padding) = padding
        && padding >= size
    {
        let (expected, found) = (format!("less than the window, {size}"), padding.to_string());
        return Err(Error::Argument { name: "padding", expected, found });
    }
    let side = |length: usize| {
        let (before, after) = padding.amount(length, size, stride);
        (length + before + after).checked_sub(size).map(|rest| rest / stride + 1)
    };
    match (side(height), side(width)) {
        (Some(h), Some(w)) => Ok([channels, h, w]),
        _ => {
            let expected = format!("at least {size}x{size} pixels");
            Err(Error::shape(context.name, expected, context.inputs[0], "use a larger input_shape"))
        }
    }
}

/// 2D convolution: `activation(W * x + b)`.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, filters, H', W']`; the weight is `[filters, C, size, size]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conv2D {
    filters: usize,
    pub(super) kernel_size: usize,
    pub(super) strides: usize,
    pub(super) padding: Padding,
    pub(super) activation: Activation,
    use_bias: bool,
    initializer: Initializer,
    /// One kernel per channel.
    pub(super) depthwise: bool,
}

impl Conv2D {
    /// `filters` square kernels of `kernel_size` pixels. Defaults: stride 1, no padding, linear, with bias.
    pub fn new(filters: usize, kernel_size: usize) -> Conv2D {
        Conv2D {
            filters,
            kernel_size,
            strides: 1,
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
            initializer: Initializer::GlorotUniform,
            depthwise: false,
        }
    }

    /// Depthwise convolution, like Keras's `DepthwiseConv2D`: one square kernel of `kernel_size` pixels per channel,
    /// applied to that channel only. The weight is `[C, 1, size, size]`.
    pub fn depthwise(kernel_size: usize) -> Conv2D {
        Conv2D { depthwise: true, ..Conv2D::new(0, kernel_size) }
    }

    /// Sets the stride in pixels. Default: 1.
    pub fn strides(self, strides: usize) -> Conv2D {
        Conv2D { strides, ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`].
    pub fn padding(self, padding: Padding) -> Conv2D {
        Conv2D { padding, ..self }
    }

    /// Sets the activation. Default: linear.
    pub fn activation(self, activation: Activation) -> Conv2D {
        Conv2D { activation, ..self }
    }

    /// Sets whether a bias is added. Default: true.
    pub fn use_bias(self, use_bias: bool) -> Conv2D {
        Conv2D { use_bias, ..self }
    }

    /// Sets the initializer of the weight. Default: [`Initializer::GlorotUniform`].
    pub fn kernel_initializer(self, initializer: Initializer) -> Conv2D {
        Conv2D { initializer, ..self }
    }
}

impl Build for Conv2D {
    fn stem(&self) -> &str {
        if self.depthwise { "depthwise_conv2d" } else { "conv2d" }
    }

    fn config(&self) -> Option<LayerConfig> {
        Some(LayerConfig::Conv2D(self.clone()))
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [channels, height, width] =
            window_output(&context, self.kernel_size, self.strides, self.padding)?;
        let (filters, inputs) = if self.depthwise { (channels, 1) } else { (self.filters, channels) };
        if filters == 0 {
            return Err(Error::Argument {
                name: "filters",
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        let shape = [filters, inputs, self.kernel_size, self.kernel_size];
        let kernel = self.initializer.draw(&shape, context.random, context.device)?;
        let bias = Initializer::Zeros.draw(&[filters], context.random, context.device)?;
        Ok(Arc::new(Built {
            config: self.clone(),
            kernel: Param::weight("kernel", &kernel)?,
            bias: if self.use_bias { Some(Param::weight("bias", &bias)?) } else { None },
            shape: [filters, height, width],
            packed: Mutex::new(None),
        }))
    }
}

pub(super) struct Built {
    config: Conv2D,
    kernel: Param,
    bias: Option<Param>,
    shape: [usize; 3],
    /// Cached packed kernels of the last inference.
    packed: Mutex<Option<Arc<PackedKernels>>>,
}

impl Built {
    fn groups(&self) -> usize {
        if self.config.depthwise { self.shape[0] } else { 1 }
    }

    fn op(&self, x: &Tensor) -> Result<Conv> {
        let Conv2D { kernel_size, strides, padding, activation, .. } = self.config;
        let (_, _, height, width) = x.dims4()?;
        let before = [height, width].map(|side| padding.amount(side, kernel_size, strides).0);
        let (output, relu) = ([self.shape[1], self.shape[2]], activation == Activation::Relu);
        Ok(Conv { stride: strides, dilation: 1, groups: self.groups(), before, output, relu })
    }

    /// CPU path, with a fused ReLU.
    fn convolve(&self, x: &Tensor, kernel: &Tensor, bias: Option<Tensor>) -> Result<Tensor> {
        let conv = self.op(x)?;
        let is_inference = !requires_gradient([Some(x), Some(kernel), bias.as_ref()]);
        let y = match (KernelLayout::choose(&conv, kernel, x).filter(|_| is_inference), bias) {
            (Some(layout), bias) => {
                let epilogue = Epilogue { bias, relu: conv.relu, ..Epilogue::default() };
                to_nchw(&self.convolve_packed(x, kernel, layout, conv, epilogue)?)?
            }
            (None, Some(bias)) => apply3(x, kernel, &bias, conv)?,
            (None, None) => apply2(x, kernel, conv)?,
        };
        if conv.relu { Ok(y) } else { self.config.activation.apply(&y) }
    }

    /// Convolves with cached packed kernels.
    fn convolve_packed(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        layout: KernelLayout,
        conv: Conv,
        epilogue: Epilogue,
    ) -> Result<Tensor> {
        let kernels = {
            let mut cached = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
            let kernels = PackedKernels::get_or_pack(kernel, self.kernel.version(), layout, cached.as_ref())?;
            *cached = Some(kernels.clone());
            kernels
        };
        Ok(InferenceConv { conv, kernels, epilogue }.apply(x)?)
    }

    /// Whether the plan may fuse the convolution with the operations after it. A frozen convolution is fused; one
    /// that requires a gradient is not.
    pub(super) fn is_fusible(&self) -> bool {
        matches!(self.config.activation, Activation::Linear | Activation::Relu) && !self.config.depthwise
    }

    /// Whether the layer's own activation is ReLU, which precedes the operations after the convolution.
    pub(super) fn has_relu(&self) -> bool {
        self.config.activation == Activation::Relu
    }

    /// Whether the layer prefers channels-last inputs, views of `[N, H, W, C]` as inference convolutions return them.
    pub(super) fn takes_channels_last(&self) -> bool {
        !self.config.depthwise
    }

    /// The convolution fused with an epilogue, on the CPU and without gradients. The output may be channels last.
    /// With its own ReLU, a layer takes no other operation before it: see [`Built::has_relu`].
    pub(super) fn forward_fused(&self, x: &Tensor, mode: Mode, epilogue: Epilogue) -> Result<Tensor> {
        let (kernel, bias) = (self.kernel.value(mode), self.bias.as_ref().map(|bias| bias.value(mode)));
        let conv = self.op(x)?;
        let epilogue = Epilogue { bias, relu: epilogue.relu || conv.relu, ..epilogue };
        match KernelLayout::choose(&conv, &kernel, x) {
            Some(layout) => self.convolve_packed(x, &kernel, layout, conv, epilogue),
            None => Ok(FusedConv { conv, epilogue }.apply(x, &kernel)?),
        }
    }
}

/// Whether an operand requires a gradient.
fn requires_gradient(operands: [Option<&Tensor>; 3]) -> bool {
    operands.into_iter().flatten().any(Tensor::track_op)
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        if self.config.depthwise { "DepthwiseConv2D" } else { "Conv2D" }
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let x = to_nchw(inputs[0])?;
        let (kernel, bias) = (self.kernel.value(mode), self.bias.as_ref().map(|bias| bias.value(mode)));
        if takes_cpu_path(&x) {
            return self.convolve(&x, &kernel, bias);
        }
        let Conv2D { kernel_size, strides, padding, .. } = self.config;
        let padding = [2, 3].map(|axis| x.dim(axis).map(|side| padding.amount(side, kernel_size, strides)));
        let [rows, columns] = padding;
        let device_conv = DeviceConv { stride: strides, groups: self.groups(), padding: [rows?, columns?] };
        let y = device_conv.apply(&x, &kernel)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
            None => y,
        };
        self.config.activation.apply(&y)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        std::iter::once(&self.kernel).chain(&self.bias).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_matches_tensorflow() {
        // Arguments: length, window, stride. Expected: the padding that TensorFlow computes.
        assert_eq!(Padding::Same.amount(224, 3, 1), (1, 1));
        assert_eq!(Padding::Same.amount(224, 3, 2), (0, 1));
        assert_eq!(Padding::Same.amount(7, 3, 2), (1, 1));
        assert_eq!(Padding::Same.amount(5, 1, 2), (0, 0));
    }
}
