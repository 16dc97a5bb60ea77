//! The sum of two tensors of one shape in one pass, on the threads that all of these ops share:
//! candle's own has threads beside them, which wait by spinning.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::relu::{rectified, relu_gradient};
use super::slices::{contiguous, made};

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;

/// `a + b`, or `max(a + b, 0)`, as an op for [`Tensor::apply_op2`].
#[derive(Clone, Copy, Debug)]
pub struct Plus {
    /// Whether a ReLU follows.
    pub relu: bool,
}

impl CustomOp2 for Plus {
    fn name(&self) -> &'static str {
        "plus"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if al.shape() != bl.shape() {
            bail!("the sum of {:?} and {:?}", al.shape(), bl.shape());
        }
        let (a, b) = (contiguous(a, al)?, contiguous(b, bl)?);
        let output = made(a.len(), CHUNK, |_, chunk| {
            let sums = a[chunk.clone()].iter().zip(&b[chunk]).map(|(a, b)| a + b);
            sums.map(|sum| if self.relu { rectified(sum) } else { sum })
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
