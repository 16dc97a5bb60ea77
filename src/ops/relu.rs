//! ReLU, `max(x, 0)`, and its gradient, each in one pass on all cores.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::collect::parallel_collect;
use super::tensor_values::{storage_values, values};

/// f32 values per task (16,384: 64 KiB, which fits an L2 cache).
const CHUNK: usize = 1 << 14;

/// `min(max(x, 0), max)` as an op for [`Tensor::apply_op1`]. Its gradient at 0 is 0, as in Keras
/// and PyTorch; candle's is 1.
#[derive(Clone, Copy, Debug)]
pub struct Relu {
    /// The largest output: infinity, or 6 for ReLU6.
    pub max: f32,
}

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = storage_values(storage, layout)?;
        let output = parallel_collect(values.len(), CHUNK, |_, chunk| {
            values[chunk].iter().map(|value| {
                let value = relu(*value);
                if value > self.max { self.max } else { value }
            })
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(relu_gradient(output, gradient, self.max)?))
    }
}

/// `max(value, 0)`; unlike [`f32::max`] it propagates NaN.
#[inline(always)]
pub(super) fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// The gradient before a ReLU, from its output and the gradient after it.
pub(crate) fn relu_gradient(output: &Tensor, gradient: &Tensor, max: f32) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let (y, g) = (values(output)?, values(&gradient)?);
    let result = parallel_collect(g.len(), CHUNK, |_, chunk| {
        let pairs = y[chunk.clone()].iter().zip(&g[chunk]);
        // `&` instead of `&&`: without a branch the loop is vectorised.
        pairs.map(|(y, g)| if (*y > 0.0) & (*y < max) { *g } else { 0.0 })
    });
    Tensor::from_vec(result, output.shape(), output.device())
}
