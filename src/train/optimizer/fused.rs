//! The arithmetic of the optimizers. On the CPU, each operation is one in-place pass over the tensors.

use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Tensor, bail};

use crate::Result;
use crate::device::takes_cpu_path;
use crate::ops::{parallel_chunks_mut, storage_values};

/// Computes `mean = keep · mean + scale · gradient`, or with the square of the gradient. Returns the
/// mean.
pub(super) fn blend(mean: Tensor, gradient: &Tensor, keep: f64, scale: f64, square: bool) -> Result<Tensor> {
    if takes_cpu_path(&mean) {
        mean.inplace_op2(gradient, &Blend { keep, scale, square })?;
        return Ok(mean);
    }
    let gradient = if square { gradient.sqr()? } else { gradient.clone() };
    Ok(((mean * keep)? + (gradient * scale)?)?)
}

/// Where epsilon is added to the denominator.
#[derive(Clone, Copy)]
pub(super) enum Epsilon {
    /// `√v + ε`
    Outside(f64),
    /// `√(v + ε)`
    Inside(f64),
}

/// Computes `value = keep · value - rate · first / √second`, with an epsilon. Returns the value.
pub(super) fn divide(
    value: Tensor,
    first: &Tensor,
    second: &Tensor,
    keep: f64,
    rate: f64,
    epsilon: Epsilon,
) -> Result<Tensor> {
    if takes_cpu_path(&value) {
        value.inplace_op3(first, second, &Divide { keep, rate, epsilon })?;
        return Ok(value);
    }
    let root = match epsilon {
        Epsilon::Outside(epsilon) => (second.sqrt()? + epsilon)?,
        Epsilon::Inside(epsilon) => (second + epsilon)?.sqrt()?,
    };
    Ok(((value * keep)? - ((first * rate)? / root)?)?)
}

/// Number of values in one parallel task.
const CHUNK: usize = 1 << 14;

struct Blend {
    keep: f64,
    scale: f64,
    square: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "moment"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        ml: &Layout,
        gradient: &CpuStorage,
        gl: &Layout,
    ) -> candle_core::Result<()> {
        let (keep, scale) = (self.keep as f32, self.scale as f32);
        let gradient = storage_values(gradient, gl)?;
        let mean = contiguous_mut(mean, ml)?;
        parallel_chunks_mut(mean, CHUNK, |at, mean| {
            let pairs = mean.iter_mut().zip(&gradient[at * CHUNK..]);
            match self.square {
                true => pairs.for_each(|(mean, g)| *mean = keep * *mean + scale * (g * g)),
                false => pairs.for_each(|(mean, g)| *mean = keep * *mean + scale * g),
            }
        });
        Ok(())
    }
}

struct Divide {
    keep: f64,
    rate: f64,
    epsilon: Epsilon,
}

impl InplaceOp3 for Divide {
    fn name(&self) -> &'static str {
        "divide"
    }

    fn cpu_fwd(
        &self,
        value: &mut CpuStorage,
        vl: &Layout,
        first: &CpuStorage,
        fl: &Layout,
        second: &CpuStorage,
        sl: &Layout,
    ) -> candle_core::Result<()> {
        let (rate, keep) = (self.rate as f32, self.keep as f32);
        let (inside, outside) = match self.epsilon {
            Epsilon::Inside(epsilon) => (epsilon as f32, 0.0),
            Epsilon::Outside(epsilon) => (0.0, epsilon as f32),
        };
        let (first, second) = (storage_values(first, fl)?, storage_values(second, sl)?);
        parallel_chunks_mut(contiguous_mut(value, vl)?, CHUNK, |at, value| {
            let moments = first[at * CHUNK..].iter().zip(&second[at * CHUNK..]);
            for (value, (m, v)) in value.iter_mut().zip(moments) {
                *value = keep * *value - rate * m / ((v + inside).sqrt() + outside);
            }
        });
        Ok(())
    }
}

fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("expected contiguous f32 values, found {layout:?} of another type"),
    }
}
