//! Convolutions and their gradients, by cuDNN.

use crate::kernels::int;
use crate::raw::{Array, ConvKey, Direction, Element, Gpu};
use crate::{Error, Output, Precision, Result};

const NAME: &str = "convolution";

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Samples.
    pub batch: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Channels of the output.
    pub filters: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Zero rows above and below the input, and zero columns left and right of it.
    pub padding: [(usize, usize); 2],
    /// Distance between windows.
    pub stride: usize,
    /// Distance between a window's pixels.
    pub dilation: usize,
    /// Number of channel groups. Each group is convolved separately.
    pub groups: usize,
}

impl ConvShape {
    /// Rows and columns of the output.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let (before, after) = self.padding[axis];
            let extent = self.dilation * self.kernel[axis].saturating_sub(1) + 1;
            match (self.input[axis] + before + after).checked_sub(extent) {
                Some(rest) => rest / self.stride.max(1) + 1,
                None => 0,
            }
        })
    }

    /// The number of values of the input.
    pub fn inputs(&self) -> usize {
        self.batch * self.channels * self.input[0] * self.input[1]
    }

    /// The number of values of the output.
    pub fn outputs(&self) -> usize {
        let [rows, columns] = self.output();
        self.batch * self.filters * rows * columns
    }

    /// The number of weights.
    pub fn weights(&self) -> usize {
        self.filters * (self.channels / self.groups.max(1)) * self.kernel[0] * self.kernel[1]
    }

    fn check(&self) -> Result<()> {
        let divides = |count: usize| self.groups > 0 && count > 0 && count.is_multiple_of(self.groups);
        let sizes = [self.batch, self.stride, self.dilation, self.kernel[0], self.kernel[1]];
        let output = self.output();
        if divides(self.channels) && divides(self.filters) && !sizes.contains(&0) && !output.contains(&0) {
            return Ok(());
        }
        Err(Error::argument(
            NAME,
            "sizes of at least 1, and numbers of channels that are multiples of the groups",
            format!("{self:?}"),
        ))
    }

    /// The same convolution with equal padding on both sides, as cuDNN requires, and whether the input must be padded
    /// first.
    fn symmetric(&self) -> (ConvShape, bool) {
        if self.padding.iter().all(|(before, after)| before == after) {
            return (*self, false);
        }
        let side = |axis: usize| self.input[axis] + self.padding[axis].0 + self.padding[axis].1;
        (ConvShape { input: [side(0), side(1)], padding: [(0, 0); 2], ..*self }, true)
    }

    fn key(&self, precision: Precision) -> Result<ConvKey> {
        let int = |size: usize| int(NAME, size);
        let ([rows, columns], [kernel_rows, kernel_columns]) = (self.output(), self.kernel);
        let batch = int(self.batch)?;
        Ok(ConvKey {
            input: [batch, int(self.channels)?, int(self.input[0])?, int(self.input[1])?],
            kernel: [
                int(self.filters)?,
                int(self.channels / self.groups)?,
                int(kernel_rows)?,
                int(kernel_columns)?,
            ],
            output: [batch, int(self.filters)?, int(rows)?, int(columns)?],
            padding: [int(self.padding[0].0)?, int(self.padding[1].0)?],
            stride: int(self.stride)?,
            dilation: int(self.dilation)?,
            groups: int(self.groups)?,
            precision,
        })
    }
}

impl Gpu {
    /// `y = x ∗ w`, without a bias. `x` and `y` have the same type. If it is bfloat16, the convolution is computed in
    /// bfloat16; `w` is float32 in each case.
    ///
    /// # Errors
    /// [`Error::Length`] if an array is too short; [`Error::Argument`] for sizes of 0; [`Error::Cuda`].
    pub fn convolution(&self, x: &Array, w: &Array, y: &Array, shape: &ConvShape) -> Result<()> {
        shape.check()?;
        let (symmetric, pads) = shape.symmetric();
        let padded = if pads { Some(self.padded(x, shape, &symmetric)?) } else { None };
        let operands = [padded.as_ref().unwrap_or(x), w, y];
        self.convolve_in_precision(&symmetric, Direction::Forward, operands, Output::Replace)
    }

    /// The gradient of the input.
    ///
    /// # Errors
    /// As [`Gpu::convolution`].
    pub fn convolution_backward_data(
        &self,
        dy: &Array,
        w: &Array,
        dx: &Array,
        shape: &ConvShape,
        output: Output,
    ) -> Result<()> {
        shape.check()?;
        let (symmetric, pads) = shape.symmetric();
        if !pads {
            return self.convolve_in_precision(&symmetric, Direction::BackwardData, [dx, w, dy], output);
        }
        let padded = self.array_of(dx.element(), symmetric.inputs())?;
        self.convolve_in_precision(&symmetric, Direction::BackwardData, [&padded, w, dy], Output::Replace)?;
        let before = [-int(NAME, shape.padding[0].0)?, -int(NAME, shape.padding[1].0)?];
        let dx = dx.part(0, shape.inputs())?;
        self.pad_maps(&padded, &dx, shape.channels, [symmetric.input, shape.input], before, output)
    }

    /// The gradient of the kernel.
    ///
    /// # Errors
    /// As [`Gpu::convolution`].
    pub fn convolution_backward_filter(
        &self,
        x: &Array,
        dy: &Array,
        dw: &Array,
        shape: &ConvShape,
        output: Output,
    ) -> Result<()> {
        shape.check()?;
        let (symmetric, pads) = shape.symmetric();
        let padded = if pads { Some(self.padded(x, shape, &symmetric)?) } else { None };
        let operands = [padded.as_ref().unwrap_or(x), dw, dy];
        self.convolve_in_precision(&symmetric, Direction::BackwardFilter, operands, output)
    }

    /// Computes one direction: float32 values in the GPU's precision, but not in bfloat16, which would need a conversion.
    fn convolve_in_precision(
        &self,
        shape: &ConvShape,
        direction: Direction,
        operands: [&Array; 3],
        output: Output,
    ) -> Result<()> {
        if operands[0].element() == Element::BFloat16 {
            let key = shape.key(Precision::BFloat16)?;
            return self.convolve_in_bfloat16(&key, direction, operands, output);
        }
        let precision = match self.precision() {
            Precision::Float32 => Precision::Float32,
            Precision::TensorFloat32 | Precision::BFloat16 => Precision::TensorFloat32,
        };
        self.convolve(&shape.key(precision)?, direction, operands, output)
    }

    fn padded(&self, x: &Array, shape: &ConvShape, symmetric: &ConvShape) -> Result<Array> {
        let padded = self.array_of(x.element(), symmetric.inputs())?;
        let before = [int(NAME, shape.padding[0].0)?, int(NAME, shape.padding[1].0)?];
        self.pad_maps(x, &padded, shape.channels, [shape.input, symmetric.input], before, Output::Replace)?;
        Ok(padded)
    }
}
