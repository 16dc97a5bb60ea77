//! Sum of two tensors of one shape, with an optional ReLU, in one pass on the thread pool. candle's own
//! addition uses threads of its own, which wait by spinning.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::collect::parallel_collect;
use super::relu::{relu, relu_gradient};
use super::tensor_values::storage_values;

/// f32 values per task (16,384: 64 KiB, which fits an L2 cache with both operands).
const CHUNK: usize = 1 << 14;

/// `a + b`, or `max(a + b, 0)`, as an op for [`Tensor::apply_op2`].
#[derive(Clone, Copy, Debug)]
pub struct Addition {
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl CustomOp2 for Addition {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if al.shape() != bl.shape() {
            bail!("expected two tensors of one shape to add, found {:?} and {:?}", al.shape(), bl.shape());
        }
        let (a, b) = (storage_values(a, al)?, storage_values(b, bl)?);
        let output = parallel_collect(a.len(), CHUNK, |_, chunk| {
            let sums = a[chunk.clone()].iter().zip(&b[chunk]).map(|(a, b)| a + b);
            sums.map(|sum| if self.relu { relu(sum) } else { sum })
        });
        Ok((CpuStorage::F32(output), al.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = match self.relu {
            true => relu_gradient(output, gradient, f32::INFINITY)?,
            false => gradient.clone(),
        };
        Ok((Some(gradient.clone()), Some(gradient)))
    }
}
