//! The sum of two tensors of one shape in one pass, on the threads that all of these ops share:
//! candle's own has threads beside them, which wait by spinning.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::slices::contiguous;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;

/// `a + b`, as an op for [`Tensor::apply_op2`].
#[derive(Clone, Copy, Debug)]
pub struct Plus;

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
        let mut output = vec![0f32; a.len()];
        let chunks = output.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK));
        chunks.for_each(|((output, a), b)| {
            output.iter_mut().zip(a).zip(b).for_each(|((output, a), b)| *output = a + b);
        });
        Ok((CpuStorage::F32(output), al.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.clone()), Some(gradient.clone())))
    }
}
