//! `max(x, 0)` in one pass, and its gradient in another, on all cores.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::slices::{contiguous, values};

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
        let mut output = vec![0f32; values.len()];
        output.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(output, values)| {
            for (output, value) in output.iter_mut().zip(values) {
                // Written so that a NaN stays one.
                let value = if *value < 0.0 { 0.0 } else { *value };
                *output = if value > self.most { self.most } else { value };
            }
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(relu_gradient(output, gradient, self.most)?))
    }
}

/// The gradient before a ReLU, from its output and the gradient after it.
pub(crate) fn relu_gradient(output: &Tensor, gradient: &Tensor, most: f32) -> Result<Tensor> {
    let gradient = gradient.contiguous()?;
    let (y, g) = (values(output)?, values(&gradient)?);
    let mut result = vec![0f32; g.len()];
    result.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).zip(g.par_chunks(CHUNK)).for_each(
        |((result, y), g)| {
            for ((result, y), g) in result.iter_mut().zip(y).zip(g) {
                *result = if *y > 0.0 && *y < most { *g } else { 0.0 };
            }
        },
    );
    Tensor::from_vec(result, output.shape(), output.device())
}
