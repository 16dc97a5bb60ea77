//! The convolution layer.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::window_size::{WindowSize, window_output};
use super::{Activation, Build, Context, Initializer, Layer, Mode, Padding, Param};
use crate::check::check;
use crate::device::takes_cpu_path;
use crate::ops::{
    Conv, DeviceConv, Epilogue, FusedConv, InferenceConv, KernelLayout, PackedKernels, apply2, apply3,
    to_nchw,
};
use crate::{Error, Result};

/// Largest height and width of a window with the gaps of its dilation, so that positions of pixels do not overflow.
const MAX_EXTENT: usize = i32::MAX as usize;

/// 2D convolution: `activation(W * x + b)`.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, filters, H', W']`; the weight is `[filters, C / groups, height, width]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Conv2D {
    filters: usize,
    pub(super) kernel_size: WindowSize,
    pub(super) strides: WindowSize,
    pub(super) padding: Padding,
    pub(super) activation: Activation,
    use_bias: bool,
    initializer: Initializer,
    /// One kernel per channel.
    pub(super) depthwise: bool,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) groups: usize,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) dilation_rate: usize,
}

/// Default of fields that older files do not have.
fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

impl Conv2D {
    /// `filters` kernels of `kernel_size` pixels: a number for a square, or `(height, width)`. Defaults: stride 1, no
    /// padding, linear, with bias.
    pub fn new(filters: usize, kernel_size: impl Into<WindowSize>) -> Conv2D {
        Conv2D {
            filters,
            kernel_size: kernel_size.into(),
            strides: WindowSize::Square(1),
            padding: Padding::Valid,
            activation: Activation::Linear,
            use_bias: true,
            initializer: Initializer::GlorotUniform,
            depthwise: false,
            groups: 1,
            dilation_rate: 1,
        }
    }

    /// Depthwise convolution, like Keras's `DepthwiseConv2D`: one kernel of `kernel_size` pixels per channel,
    /// applied to that channel only. The weight is `[C, 1, height, width]`.
    pub fn depthwise(kernel_size: impl Into<WindowSize>) -> Conv2D {
        Conv2D { depthwise: true, ..Conv2D::new(0, kernel_size) }
    }

    /// Sets the number of groups into which channels and filters are divided, each convolved on its own. Default: 1.
    pub fn groups(self, groups: usize) -> Conv2D {
        Conv2D { groups, ..self }
    }

    /// Sets the distance of neighbouring pixels in the window, for a larger window with as many weights. Default: 1.
    pub fn dilation_rate(self, dilation_rate: usize) -> Conv2D {
        Conv2D { dilation_rate, ..self }
    }

    /// Whether there is one kernel per channel.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.depthwise
    }

    /// Height and width of the image section under the window, with the gaps of the dilation.
    pub(super) fn extent(&self) -> [usize; 2] {
        let extent = |side: usize| side.saturating_sub(1).saturating_mul(self.dilation_rate);
        self.kernel_size.sides().map(|side| extent(side).saturating_add(side.min(1)))
    }

    /// Sets the stride in pixels, the same along both sides: `2`, or `(2, 2)` as in Keras. Default: 1.
    pub fn strides(self, strides: impl Into<WindowSize>) -> Conv2D {
        Conv2D { strides: strides.into(), ..self }
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
    fn default_name(&self) -> &str {
        if self.depthwise { "depthwise_conv2d" } else { "conv2d" }
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        if self.groups == 0 || self.dilation_rate == 0 || self.depthwise && self.groups != 1 {
            let expected = if self.depthwise { "1, in a depthwise convolution" } else { "at least 1" };
            let found = format!("groups {}, dilation {}", self.groups, self.dilation_rate);
            return Err(Error::Argument {
                name: "groups and dilation_rate",
                expected: expected.into(),
                found,
            });
        }
        let [rows, columns] = self.extent();
        let fits = rows.max(columns) <= MAX_EXTENT;
        check("window", format!("{rows}x{columns}"), fits, "at most 2147483647 pixels, with its gaps")?;
        self.strides.check_square("strides")?;
        let stride = self.strides.side();
        let [channels, height, width] = window_output(&context, self.extent(), stride, self.padding)?;
        if !channels.is_multiple_of(self.groups) || !self.filters.is_multiple_of(self.groups) {
            let expected = format!("a divisor of {channels} channels and {} filters", self.filters);
            return Err(Error::Argument { name: "groups", expected, found: self.groups.to_string() });
        }
        let (filters, inputs) =
            if self.depthwise { (channels, 1) } else { (self.filters, channels / self.groups) };
        if filters == 0 {
            return Err(Error::Argument {
                name: "filters",
                expected: "at least 1".into(),
                found: "0".into(),
            });
        }
        let [rows, columns] = self.kernel_size.sides();
        let shape = [filters, inputs, rows, columns];
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
    pub(super) fn groups(&self) -> usize {
        if self.config.depthwise { self.shape[0] } else { self.config.groups }
    }

    /// The layer's own activation.
    pub(super) fn activation(&self) -> Activation {
        self.config.activation
    }

    fn op(&self, x: &Tensor, activation: Activation) -> Result<Conv> {
        let Conv2D { strides, padding, dilation_rate: dilation, .. } = self.config;
        let ((_, _, height, width), extent) = (x.dims4()?, self.config.extent());
        let stride = strides.side();
        let before = |side: usize, size: usize| padding.amount(side, size, stride).0;
        let before = [before(height, extent[0]), before(width, extent[1])];
        let (output, relu) = ([self.shape[1], self.shape[2]], activation == Activation::Relu);
        Ok(Conv { stride, dilation, groups: self.groups(), before, output, relu })
    }

    /// CPU path, with a fused ReLU.
    fn convolve(
        &self,
        x: &Tensor,
        kernel: &Tensor,
        bias: Option<Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let conv = self.op(x, activation)?;
        let is_inference = !requires_gradient([Some(x), Some(kernel), bias.as_ref()]);
        let y = match (KernelLayout::choose(&conv, kernel, x).filter(|_| is_inference), bias) {
            (Some(layout), bias) => {
                let epilogue = Epilogue { bias, relu: conv.relu, ..Epilogue::default() };
                to_nchw(&self.convolve_packed(x, kernel, layout, conv, epilogue)?)?
            }
            (None, Some(bias)) => apply3(x, kernel, &bias, conv)?,
            (None, None) => apply2(x, kernel, conv)?,
        };
        if conv.relu { Ok(y) } else { activation.apply(&y) }
    }

    /// The output with another activation than the layer's own.
    pub(super) fn forward_with(&self, x: &Tensor, mode: Mode, activation: Activation) -> Result<Tensor> {
        let x = to_nchw(x)?;
        let (kernel, bias) = (self.kernel.value(mode), self.bias.as_ref().map(|bias| bias.value(mode)));
        if takes_cpu_path(&x) {
            return self.convolve(&x, &kernel, bias, activation);
        }
        let (Conv2D { strides, padding, dilation_rate, .. }, extent) = (&self.config, self.config.extent());
        let stride = strides.side();
        let amount = |axis: usize| x.dim(axis + 2).map(|side| padding.amount(side, extent[axis], stride));
        let padding = [amount(0)?, amount(1)?];
        let y = on_device(&x, &kernel, stride, *dilation_rate, self.groups(), padding)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?,
            None => y,
        };
        activation.apply(&y)
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
        matches!(self.config.activation, Activation::Linear | Activation::Relu) && self.groups() == 1
    }

    /// Whether the layer's own activation is ReLU, which precedes the operations after the convolution.
    pub(super) fn has_relu(&self) -> bool {
        self.config.activation == Activation::Relu
    }

    /// Whether the layer prefers channels-last inputs, views of `[N, H, W, C]` as inference convolutions return them.
    pub(super) fn takes_channels_last(&self) -> bool {
        self.groups() == 1
    }

    /// The convolution fused with an epilogue, on the CPU and without gradients. The output may be channels last.
    /// With its own ReLU, a layer takes no other operation before it: see [`Built::has_relu`].
    pub(super) fn forward_fused(&self, x: &Tensor, mode: Mode, epilogue: Epilogue) -> Result<Tensor> {
        let (kernel, bias) = (self.kernel.value(mode), self.bias.as_ref().map(|bias| bias.value(mode)));
        let conv = self.op(x, self.config.activation)?;
        let epilogue = Epilogue { bias, relu: epilogue.relu || conv.relu, ..epilogue };
        match KernelLayout::choose(&conv, &kernel, x) {
            Some(layout) => self.convolve_packed(x, &kernel, layout, conv, epilogue),
            None => Ok(FusedConv { conv, epilogue }.apply(x, &kernel)?),
        }
    }
}

/// Convolution by candle's operations, for any device.
pub(super) fn on_device(
    x: &Tensor,
    kernel: &Tensor,
    stride: usize,
    dilation: usize,
    groups: usize,
    padding: [(usize, usize); 2],
) -> Result<Tensor> {
    let kernel = dilated(kernel, dilation)?;
    let (filters, inputs) = (kernel.dim(0)?, kernel.dim(1)?);
    let conv = |groups: usize| DeviceConv { stride, groups, padding };
    if groups == 1 || inputs == 1 && filters == groups {
        return Ok(conv(groups).apply(x, &kernel)?);
    }
    let group = |index: usize| -> Result<Tensor> {
        let x = x.narrow(1, index * inputs, inputs)?.contiguous()?;
        let kernel = kernel.narrow(0, index * (filters / groups), filters / groups)?.contiguous()?;
        Ok(conv(1).apply(&x, &kernel)?)
    };
    Ok(Tensor::cat(&(0..groups).map(group).collect::<Result<Vec<_>>>()?, 1)?)
}

/// A kernel with zeros in the gaps of the dilation.
fn dilated(kernel: &Tensor, dilation: usize) -> Result<Tensor> {
    let mut kernel = kernel.clone();
    for axis in [2, 3] {
        let side = kernel.dim(axis)?;
        if dilation > 1 && side > 1 {
            let mut shape = kernel.dims().to_vec();
            shape[axis] = side * dilation;
            let spread =
                kernel.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, dilation - 1)?.reshape(shape)?;
            kernel = spread.narrow(axis, 0, (side - 1) * dilation + 1)?.contiguous()?;
        }
    }
    Ok(kernel)
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
        self.forward_with(inputs[0], mode, self.config.activation)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        std::iter::once(&self.kernel).chain(&self.bias).cloned().collect()
    }
}
