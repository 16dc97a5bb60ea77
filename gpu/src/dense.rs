//! Fully connected layers, by cuBLAS.

use crate::raw::{Array, Gpu, Product};
use crate::{Output, Result};

/// The sizes of a fully connected layer. Its weights are `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape {
    /// Samples.
    pub rows: usize,
    /// Inputs of a sample.
    pub inputs: usize,
    /// Outputs of a sample.
    pub outputs: usize,
}

impl Gpu {
    /// `y = x · wᵀ`, without a bias.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if an array is too short; [`crate::Error::Cuda`].
    pub fn dense(&self, x: &Array, w: &Array, y: &Array, shape: DenseShape) -> Result<()> {
        let DenseShape { rows, inputs, outputs } = shape;
        let product =
            Product { rows, columns: outputs, inner: inputs, transpose_a: false, transpose_b: true };
        self.multiply(product, [x, w, y], Output::Replace)
    }

    /// The gradient of the input: `dy · w`.
    ///
    /// # Errors
    /// As [`Gpu::dense`].
    pub fn dense_backward_data(
        &self,
        dy: &Array,
        w: &Array,
        dx: &Array,
        shape: DenseShape,
        output: Output,
    ) -> Result<()> {
        let DenseShape { rows, inputs, outputs } = shape;
        let product =
            Product { rows, columns: inputs, inner: outputs, transpose_a: false, transpose_b: false };
        self.multiply(product, [dy, w, dx], output)
    }

    /// The gradient of the weights: `dyᵀ · x`.
    ///
    /// # Errors
    /// As [`Gpu::dense`].
    pub fn dense_backward_weights(
        &self,
        x: &Array,
        dy: &Array,
        dw: &Array,
        shape: DenseShape,
        output: Output,
    ) -> Result<()> {
        let DenseShape { rows, inputs, outputs } = shape;
        let product =
            Product { rows: outputs, columns: inputs, inner: rows, transpose_a: true, transpose_b: false };
        self.multiply(product, [dy, x, dw], output)
    }
}
