//! `max(x, 0)` in one pass, and its gradient in another, on all cores.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::slices::{contiguous, made, values};

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;

/// `min(max(x, 0), most)` as an op for [`Tensor::apply_op1`]. Its gradient at 0 is 0, as in Keras
/// and PyTorch, where candle's is 1.
#[derive(Clone, Copy, Debug)]
pub struct Relu {
    /// The largest output: infinity, or 6 for ReLU6.
    pub most: f32,
}

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous(storage, layout)?;
        let output = made(values.len(), CHUNK, |_, chunk| {
            values[chunk].iter().map(|value| {
                let value = rectified(*value);
                if value > self.most { self.most } else { value }
            })
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(relu_gradient(output, gradient, self.most)?))
    }
}

/// `max(value, 0)`, written so that a NaN stays one.
#[inline(always)]
pub(super) fn rectified(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// The gradient before a ReLU, from its output and the gradient after it.
pub(crate) fn relu_gradient(output: &Tensor, gradient: &Tensor, most: f32) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let (y, g) = (values(output)?, values(&gradient)?);
    let result = made(g.len(), CHUNK, |_, chunk| {
        let pairs = y[chunk.clone()].iter().zip(&g[chunk]);
        // Both compared, so that no branch is in the way of many at once.
        pairs.map(|(y, g)| if (*y > 0.0) & (*y < most) { *g } else { 0.0 })
    });
    Tensor::from_vec(result, output.shape(), output.device())
}
