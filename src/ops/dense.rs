//! Dense layer with bias and all gradients, each computed only where required. candle adds each
//! gradient to a tensor of zeros, and that of the kernel also transposed.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::matmul::{channel_blocks, matmul, matmul_strided};
use super::output_ptr::OutputPtr;
use super::sums::channel_sums;
use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_for_each;

/// Units (output features) per task (16: whole vectors of a matrix product).
const TASK_UNITS: usize = 16;
/// Input features per task of the input gradient (1,024: enough work for one task).
const TASK_INPUTS: usize = 1024;

/// `x · w' + b` of `[N, inputs]`, `[units, inputs]` and `[units]`, as an op for [`Tensor::apply_op3`].
#[derive(Clone, Copy, Debug)]
pub struct Dense;

/// A vector of `count` values that `write` fills.
///
/// # Safety
/// `write` writes every value.
unsafe fn collect_with(count: usize, write: impl FnOnce(&OutputPtr)) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    write(&OutputPtr(values.as_mut_ptr()));
    // SAFETY: the caller's contract.
    unsafe { values.set_len(count) };
    values
}

fn input_gradient(gradient: &[f32], w: &[f32], [rows, inputs, units]: [usize; 3]) -> Vec<f32> {
    let write = |target: &OutputPtr| {
        parallel_for_each(&channel_blocks(inputs, TASK_INPUTS), |block| {
            // SAFETY: no two tasks write the same columns.
            unsafe {
                matmul(
                    [rows, block.len(), units],
                    (target.at(block.start), inputs, false),
                    (gradient, units, 1),
                    (&w[block.start..], inputs, 1),
                );
            }
        });
    };
    // SAFETY: the tasks cover all columns of all rows.
    unsafe { collect_with(rows * inputs, write) }
}

fn kernel_gradient(gradient: &[f32], x: &[f32], [rows, inputs, units]: [usize; 3]) -> Vec<f32> {
    if rows == 0 {
        return vec![0.0; units * inputs];
    }
    let write = |target: &OutputPtr| {
        parallel_for_each(&channel_blocks(units, TASK_UNITS), |block| {
            // SAFETY: no two tasks write the same rows.
            unsafe {
                matmul(
                    [block.len(), inputs, rows],
                    (target.at(block.start * inputs), inputs, false),
                    (&gradient[block.start..], 1, units),
                    (x, inputs, 1),
                );
            }
        });
    };
    // SAFETY: the tasks cover all rows.
    unsafe { collect_with(units * inputs, write) }
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
        let ((rows, inputs), (units, kernel_inputs)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        if kernel_inputs != inputs || bias_layout.shape().dims() != [units] {
            bail!(
                "dense layer: kernel {:?} and bias {:?} do not fit input {:?}",
                wl.shape(),
                bias_layout.shape(),
                xl.shape()
            );
        }
        let (x, w, bias) =
            (storage_values(x, xl)?, storage_values(w, wl)?, storage_values(bias, bias_layout)?);
        let write = |target: &OutputPtr| {
            parallel_for_each(&channel_blocks(units, TASK_UNITS), |block| {
                // SAFETY: no two tasks write the same columns.
                unsafe {
                    matmul_strided(
                        [block.len(), rows, inputs],
                        (target.at(block.start), 1, units),
                        (&w[block.start * inputs..], inputs, 1),
                        (x, 1, inputs),
                    );
                }
            });
        };
        // SAFETY: the tasks cover all columns of all rows.
        let mut output = unsafe { collect_with(rows * units, write) };
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
        let dx = || Tensor::from_vec(input_gradient(&g, &values(w)?, sizes), x.shape(), x.device());
        let dw = || Tensor::from_vec(kernel_gradient(&g, &values(x)?, sizes), w.shape(), w.device());
        Ok((
            x.track_op().then(dx).transpose()?,
            w.track_op().then(dw).transpose()?,
            bias.track_op().then(|| channel_sums(&gradient)).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::{flat, random_tensor};
    use candle_core::Var;

    #[test]
    fn outputs_and_gradients_match_candle() -> Result<()> {
        for (rows, inputs, units) in [(4, 3000, 37), (1, 5, 1), (33, 64, 16)] {
            let var = |seed, shape: &[usize]| Var::from_tensor(&random_tensor(seed, shape));
            let (x, w, b) = (var(1, &[rows, inputs])?, var(2, &[units, inputs])?, var(3, &[units])?);
            let weight = random_tensor(4, &[rows, units]);
            let output = x.apply_op3(&w, &b, Dense)?;
            let candle_output = x.matmul(&w.t()?)?.broadcast_add(&b)?;
            let gradients = |y: &Tensor| (y * &weight)?.sum_all()?.backward();
            let (found, expected) = (gradients(&output)?, gradients(&candle_output)?);
            let mut pairs = vec![(flat(&output), flat(&candle_output))];
            for var in [&x, &w, &b] {
                let gradient =
                    |gradients: &candle_core::backprop::GradStore| flat(gradients.get(var).unwrap());
                pairs.push((gradient(&found), gradient(&expected)));
            }
            for (found, expected) in pairs {
                let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() < 1e-5 * largest,
                        "found {found}, expected {expected}, largest {largest}"
                    );
                }
            }
        }
        assert_eq!(kernel_gradient(&[], &[], [0, 3, 2]), [0.0; 6]);
        Ok(())
    }
}
