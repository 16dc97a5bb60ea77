//! Activations, sums, products with one factor per feature map, and padding.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Float, Int, Optional, Values as V};
use crate::raw::{Array, Element, Gpu};
use crate::{Output, Result};

/// An activation. The derivatives up to `HardSigmoid` are computed from the output, those after it from the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the functions")]
pub enum Activation {
    #[default]
    Linear,
    Relu,
    Relu6,
    Sigmoid,
    Tanh,
    HardSigmoid,
    Silu,
    Gelu,
    GeluTanh,
    HardSwish,
}

impl Activation {
    /// The number in the kernels' source.
    pub(crate) fn number(self) -> i32 {
        self as i32
    }

    /// Whether the derivative is computed from the output, so that the backward pass does not need the input.
    pub fn has_slope_of_output(self) -> bool {
        self as i32 <= Activation::HardSigmoid as i32
    }
}

impl Gpu {
    /// `y = f(x + bias)`, with one bias for each channel of `[N, channels, inner]`.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if an array is too short; [`crate::Error::Cuda`].
    pub fn bias_activation(
        &self,
        x: &Array,
        bias: Option<&Array>,
        y: &Array,
        [channels, inner]: [usize; 2],
        function: Activation,
    ) -> Result<()> {
        const NAME: &str = "bias_activation";
        let count = y.len();
        let [channels, inner] = y.element().sides([channels, inner]);
        let arguments = [
            V(x, count),
            Optional(bias, channels),
            V(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Int(function.number()),
        ];
        self.launch_each(NAME, count, &arguments)
    }

    /// `dx = dy · f'`. `known` is the activation's output if [`Activation::has_slope_of_output`], else its input.
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn activation_backward(
        &self,
        dy: &Array,
        known: &Array,
        dx: &Array,
        function: Activation,
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "activation_backward";
        let count = dx.len();
        let arguments = [
            V(dy, count),
            V(known, count),
            V(dx, count),
            Int(int(NAME, count)?),
            Int(function.number()),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }

    /// The gradient of a bias: the sums of `dy`, `[N, channels, inner]`, over samples and pixels.
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn bias_backward(
        &self,
        dy: &Array,
        db: &Array,
        [batch, channels, inner]: [usize; 3],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "bias_backward";
        if dy.element() == Element::BFloat16 {
            return self.bias_backward_of_rows(dy, db, [batch * inner, channels], output);
        }
        let count = batch * channels * inner;
        int(NAME, count)?;
        let arguments = [
            A(dy, count),
            A(db, channels),
            Int(int(NAME, batch)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Int(output.adds()),
        ];
        self.launch_blocks(NAME, channels, &arguments)
    }

    /// `y = f(a + b)`
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn add(&self, a: &Array, b: &Array, y: &Array, function: Activation) -> Result<()> {
        const NAME: &str = "add_activation";
        let count = y.len();
        let arguments =
            [V(a, count), V(b, count), V(y, count), Int(int(NAME, count)?), Int(function.number())];
        self.launch_each(NAME, count, &arguments)
    }

    /// `y = x · scale + offset`
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn affine(&self, x: &Array, y: &Array, scale: f32, offset: f32, output: Output) -> Result<()> {
        const NAME: &str = "affine";
        let count = y.len();
        let arguments = [
            V(x, count),
            V(y, count),
            Int(int(NAME, count)?),
            Float(scale),
            Float(offset),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }

    /// `y = x · factors`, with one factor for each feature map of `[N, channels, inner]`: squeeze-and-excitation, or the
    /// gradient of its input.
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn scale_maps(
        &self,
        x: &Array,
        factors: &Array,
        y: &Array,
        [channels, inner]: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "scale_maps";
        let count = y.len();
        let arguments = [
            V(x, count),
            V(factors, count.div_ceil(inner.max(1))),
            V(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, y.element().interleaved(channels))?),
            Int(int(NAME, inner)?),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }

    /// The gradient of the factors of [`Gpu::scale_maps`].
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    pub fn scale_maps_backward(
        &self,
        dy: &Array,
        x: &Array,
        factors: &Array,
        [channels, inner]: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "scale_maps_backward";
        if dy.element() == Element::BFloat16 {
            return self.products_of_samples([dy, x], factors, [channels, inner], output);
        }
        let (maps, count) = (factors.len(), factors.len() * inner);
        int(NAME, count)?;
        let arguments =
            [A(dy, count), A(x, count), A(factors, maps), Int(int(NAME, inner)?), Int(output.adds())];
        self.launch_blocks(NAME, maps, &arguments)
    }

    /// Pads feature maps of `channels` channels with zeros, or crops them: pixel (0, 0) of `y` is pixel `(-top, -left)` of `x`.
    ///
    /// # Errors
    /// As [`Gpu::bias_activation`].
    #[allow(clippy::too_many_arguments, reason = "the sizes of two feature maps")]
    pub fn pad_maps(
        &self,
        x: &Array,
        y: &Array,
        channels: usize,
        [input, out]: [[usize; 2]; 2],
        [top, left]: [i32; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "pad_maps";
        let maps = y.len() / (out[0] * out[1]).max(1);
        let count = maps * out[0] * out[1];
        int(NAME, maps * input[0] * input[1])?;
        let arguments = [
            V(x, maps * input[0] * input[1]),
            V(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, y.element().interleaved(channels))?),
            Int(int(NAME, input[0])?),
            Int(int(NAME, input[1])?),
            Int(int(NAME, out[0])?),
            Int(int(NAME, out[1])?),
            Int(top),
            Int(left),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }
}
