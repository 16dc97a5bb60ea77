//! Pooling.

use crate::kernels::int;
use crate::raw::Argument::{self, Array as A, Indices as I, Int, Values as V};
use crate::raw::{Array, Element, Gpu, Indices};
use crate::{Error, Output, Result};

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Samples.
    pub batch: usize,
    /// Channels of a sample.
    pub channels: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    /// Side of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows above and columns left of the input that the first window covers.
    pub before: [usize; 2],
}

impl PoolShape {
    fn inputs(&self) -> usize {
        self.batch * self.channels * self.input[0] * self.input[1]
    }

    fn outputs(&self) -> usize {
        self.batch * self.channels * self.output[0] * self.output[1]
    }

    /// Checks that each window contains a pixel of the input.
    fn check(&self, operation: &'static str) -> Result<()> {
        let fits = |axis: usize| {
            let (side, count) = (self.input[axis], self.output[axis]);
            let last = count.saturating_sub(1) * self.stride;
            self.before[axis] < self.size && (count == 0 || last < side + self.before[axis])
        };
        if self.stride > 0 && fits(0) && fits(1) {
            return Ok(());
        }
        Err(Error::argument(operation, "windows with a pixel of the input each", format!("{self:?}")))
    }

    /// The sizes as the arguments of kernels for values of a type.
    fn arguments(
        &self,
        operation: &'static str,
        count: usize,
        element: Element,
    ) -> Result<[Argument<'static>; 10]> {
        self.check(operation)?;
        int(operation, self.inputs().max(self.outputs()))?;
        let sizes = [
            count,
            element.interleaved(self.channels),
            self.input[0],
            self.input[1],
            self.output[0],
            self.output[1],
            self.size,
            self.stride,
            self.before[0],
            self.before[1],
        ];
        let mut arguments = [Int(0); 10];
        for (argument, size) in arguments.iter_mut().zip(sizes) {
            *argument = Int(int(operation, size)?);
        }
        Ok(arguments)
    }
}

impl Gpu {
    /// Maximum pooling. `indices` receives the position of each maximum, which the backward pass reads.
    ///
    /// # Errors
    /// [`Error::Length`] if an array is too short; [`Error::Argument`] if a window has no pixel; [`Error::Cuda`].
    pub fn max_pool(&self, x: &Array, y: &Array, indices: &Indices, shape: &PoolShape) -> Result<()> {
        const NAME: &str = "max_pool";
        let count = shape.outputs();
        let operands = [V(x, shape.inputs()), V(y, count), I(indices, count)];
        let sizes = shape.arguments(NAME, count, y.element())?;
        self.launch_each(NAME, count, &[&operands[..], &sizes].concat())
    }

    /// The gradient of [`Gpu::max_pool`]'s input. The gradient of an output is added at the recorded maximum.
    ///
    /// # Errors
    /// As [`Gpu::max_pool`].
    pub fn max_pool_backward(
        &self,
        dy: &Array,
        indices: &Indices,
        dx: &Array,
        shape: &PoolShape,
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "max_pool_backward";
        let (inputs, outputs) = (shape.inputs(), shape.outputs());
        let operands = [V(dy, outputs), I(indices, outputs), V(dx, inputs)];
        let sizes = shape.arguments(NAME, inputs, dx.element())?;
        self.launch_each(NAME, inputs, &[&operands[..], &sizes, &[Int(output.adds())]].concat())
    }

    /// Average pooling. The padding is excluded from the mean.
    ///
    /// # Errors
    /// As [`Gpu::max_pool`].
    pub fn average_pool(&self, x: &Array, y: &Array, shape: &PoolShape) -> Result<()> {
        const NAME: &str = "average_pool";
        let count = shape.outputs();
        let operands = [V(x, shape.inputs()), V(y, count)];
        let sizes = shape.arguments(NAME, count, y.element())?;
        self.launch_each(NAME, count, &[&operands[..], &sizes].concat())
    }

    /// The gradient of [`Gpu::average_pool`]'s input.
    ///
    /// # Errors
    /// As [`Gpu::max_pool`].
    pub fn average_pool_backward(
        &self,
        dy: &Array,
        dx: &Array,
        shape: &PoolShape,
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "average_pool_backward";
        let inputs = shape.inputs();
        let operands = [V(dy, shape.outputs()), V(dx, inputs)];
        let sizes = shape.arguments(NAME, inputs, dx.element())?;
        self.launch_each(NAME, inputs, &[&operands[..], &sizes, &[Int(output.adds())]].concat())
    }

    /// The mean of each feature map of `[N, channels, inner]`, as float32.
    ///
    /// # Errors
    /// As [`Gpu::max_pool`].
    pub fn global_mean(&self, x: &Array, y: &Array, [channels, inner]: [usize; 2]) -> Result<()> {
        const NAME: &str = "global_mean";
        if x.element() == Element::BFloat16 {
            return self.means_of_samples(x, y, [channels, inner]);
        }
        let count = y.len() * inner;
        int(NAME, count)?;
        self.launch_blocks(NAME, y.len(), &[A(x, count), A(y, y.len()), Int(int(NAME, inner)?)])
    }

    /// The gradient of [`Gpu::global_mean`]'s input, from the float32 gradient of its output.
    ///
    /// # Errors
    /// As [`Gpu::max_pool`].
    pub fn global_mean_backward(
        &self,
        dy: &Array,
        dx: &Array,
        [channels, inner]: [usize; 2],
        output: Output,
    ) -> Result<()> {
        const NAME: &str = "global_mean_backward";
        let count = dx.len();
        let arguments = [
            A(dy, count.div_ceil(inner.max(1))),
            V(dx, count),
            Int(int(NAME, count)?),
            Int(int(NAME, dx.element().interleaved(channels))?),
            Int(int(NAME, inner)?),
            Int(output.adds()),
        ];
        self.launch_each(NAME, count, &arguments)
    }
}
