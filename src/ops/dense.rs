//! A dense layer with its bias and both gradients, each computed only where it is wanted. candle adds
//! each to zeros of its own, that of the kernel twice, once turned.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::by_columns::{blocks, product, product_at};
use super::crew::each_of;
use super::slices::{Shared, channel_sums, contiguous, values};

/// Units of a task.
const UNITS: usize = 16;
/// Inputs of a task.
const INPUTS: usize = 1024;

/// `x · w' + b` of `[N, inputs]`, `[units, inputs]` and `[units]`, as an op for [`Tensor::apply_op3`].
#[derive(Clone, Copy, Debug)]
pub struct Dense;

/// So many numbers.
///
/// # Safety
/// The function writes each of them.
unsafe fn written(count: usize, write: impl FnOnce(&Shared)) -> Vec<f32> {
    let mut numbers = Vec::with_capacity(count);
    write(&Shared(numbers.as_mut_ptr()));
    // SAFETY: the caller's promise.
    unsafe { numbers.set_len(count) };
    numbers
}

fn input_gradient(gradient: &[f32], w: &[f32], [rows, inputs, units]: [usize; 3]) -> Vec<f32> {
    let write = |target: &Shared| {
        each_of(&blocks(inputs, INPUTS), |block| {
            // SAFETY: each task has columns of its own.
            unsafe {
                product(
                    [rows, block.len(), units],
                    (target.at(block.start), inputs, false),
                    (gradient, units, 1),
                    (&w[block.start..], inputs, 1),
                );
            }
        });
    };
    // SAFETY: the products are all columns of all rows.
    unsafe { written(rows * inputs, write) }
}

fn kernel_gradient(gradient: &[f32], x: &[f32], [rows, inputs, units]: [usize; 3]) -> Vec<f32> {
    if rows == 0 {
        return vec![0.0; units * inputs];
    }
    let write = |target: &Shared| {
        each_of(&blocks(units, UNITS), |block| {
            // SAFETY: each task has rows of its own.
            unsafe {
                product(
                    [block.len(), inputs, rows],
                    (target.at(block.start * inputs), inputs, false),
                    (&gradient[block.start..], 1, units),
                    (x, inputs, 1),
                );
            }
        });
    };
    // SAFETY: the products are all rows.
    unsafe { written(units * inputs, write) }
}

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (units, width)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if width != inputs || bias_layout.shape().dims() != [units] {
            bail!("{:?} for a dense layer of {:?}, bias {:?}", xl.shape(), wl.shape(), bias_layout.shape());
        }
        let (x, w, bias) = (contiguous(x, xl)?, contiguous(w, wl)?, contiguous(bias, bias_layout)?);
        let write = |target: &Shared| {
            each_of(&blocks(units, UNITS), |block| {
                // SAFETY: each task has columns of its own.
                unsafe {
                    product_at(
                        [block.len(), rows, inputs],
                        (target.at(block.start), 1, units),
                        (&w[block.start * inputs..], inputs, 1),
                        (x, 1, inputs),
                    );
                }
            });
        };
        // SAFETY: the products are all columns of all rows.
        let mut output = unsafe { written(rows * units, write) };
        for row in output.chunks_mut(units.max(1)) {
            row.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
        }
        Ok((CpuStorage::F32(output), (rows, units).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let ((rows, inputs), units) = (x.dims2()?, w.dim(0)?);
        let (sizes, g) = ([rows, inputs, units], values(&gradient)?);
        let of_x = || Tensor::from_vec(input_gradient(&g, &values(w)?, sizes), x.shape(), x.device());
        let of_w = || Tensor::from_vec(kernel_gradient(&g, &values(x)?, sizes), w.shape(), w.device());
        Ok((
            x.track_op().then(of_x).transpose()?,
            w.track_op().then(of_w).transpose()?,
            bias.track_op().then(|| channel_sums(&gradient)).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{flat, values};
    use candle_core::Var;

    #[test]
    fn outputs_and_gradients_are_candles() -> Result<()> {
        for (rows, inputs, units) in [(4, 3000, 37), (1, 5, 1), (33, 64, 16)] {
            let var = |seed, shape: &[usize]| Var::from_tensor(&values(seed, shape));
            let (x, w, b) = (var(1, &[rows, inputs])?, var(2, &[units, inputs])?, var(3, &[units])?);
            let weight = values(4, &[rows, units]);
            let ours = x.apply_op3(&w, &b, Dense)?;
            let candles = x.matmul(&w.t()?)?.broadcast_add(&b)?;
            let gradients = |y: &Tensor| (y * &weight)?.sum_all()?.backward();
            let (found, expected) = (gradients(&ours)?, gradients(&candles)?);
            let mut pairs = vec![(flat(&ours), flat(&candles))];
            for var in [&x, &w, &b] {
                let of = |gradients: &candle_core::backprop::GradStore| flat(gradients.get(var).unwrap());
                pairs.push((of(&found), of(&expected)));
            }
            for (found, expected) in pairs {
                let most = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-5 * most, "{found} for {expected} of {most}");
                }
            }
        }
        assert_eq!(kernel_gradient(&[], &[], [0, 3, 2]), [0.0; 6]);
        Ok(())
    }
}
