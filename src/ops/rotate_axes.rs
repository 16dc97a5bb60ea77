//! Rotation of a tensor's axes with its gradient, as a transposition in blocks.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::tensor_values::storage_values;
use super::transpose::transpose;

/// Moves the first `front` axes of each sample behind its others, as from `[N, C, H, W]` to `[N, H, W, C]` with
/// `front` = 1. It is an op for [`Tensor::apply_op1`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotateAxes {
    pub(crate) front: usize,
}

impl CustomOp1 for RotateAxes {
    fn name(&self) -> &'static str {
        "rotate-axes"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = layout.dims();
        let (front, back) = dims[1..].split_at(self.front);
        let sizes = [dims[0], front.iter().product(), back.iter().product()];
        let output = transpose(storage_values(x, layout)?, sizes);
        Ok((CpuStorage::F32(output), [&dims[..1], back, front].concat().into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let back = RotateAxes { front: x.rank() - 1 - self.front };
        Ok(Some(gradient.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}
