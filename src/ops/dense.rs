//! Dense layer with bias and all gradients, each computed only where required. candle adds each
//! gradient to a tensor of zeros, and that of the kernel also transposed.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::matmul::{channel_blocks, matmul, matmul_strided};
use super::output_ptr::OutputPtr;
use super::tensor_values::{storage_values, values};
use super::thread_pool::{parallel_for_each, parallel_map};

/// Units (output features) per task (16: whole vectors of a matrix product).
const TASK_UNITS: usize = 16;
/// Input features per task of the input gradient (1,024: enough work for one task).
const TASK_INPUTS: usize = 1024;
/// Number of rows above which a task is a block of rows (128: packing the operands takes less than one hundredth of
/// the product).
const MAX_UNBLOCKED_ROWS: usize = 128;
/// Rows per task if there are many (96: as many registers' heights as divide into it, and enough tasks).
const TASK_ROWS: usize = 96;

/// `x · w' + b` of `[…, inputs]`, `[units, inputs]` and `[units]`, as an op for [`Tensor::apply_op3`].
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

/// Tasks of a matrix product with many rows: blocks of rows times blocks of columns.
fn tasks(rows: usize, columns: usize, column_block: usize) -> Vec<(Range<usize>, Range<usize>)> {
    // With few rows, a task takes all of them and few columns. With many, the operands of a task are packed for
    // enough rows.
    let columns = match rows > MAX_UNBLOCKED_ROWS {
        true => channel_blocks(columns, columns),
        false => channel_blocks(columns, column_block),
    };
    let row_blocks = channel_blocks(rows, TASK_ROWS.max(if rows > MAX_UNBLOCKED_ROWS { 0 } else { rows }));
    row_blocks.iter().flat_map(|rows| columns.iter().map(|columns| (rows.clone(), columns.clone()))).collect()
}

fn input_gradient(gradient: &[f32], w: &[f32], [rows, inputs, units]: [usize; 3]) -> Vec<f32> {
    let write = |target: &OutputPtr| {
        parallel_for_each(&tasks(rows, inputs, TASK_INPUTS), |(rows, block)| {
            // SAFETY: no two tasks write the same columns of a row.
            unsafe {
                matmul(
                    [rows.len(), block.len(), units],
                    (target.at(rows.start * inputs + block.start), inputs, false),
                    (&gradient[rows.start * units..], units, 1),
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
    let units_of_task = if rows > MAX_UNBLOCKED_ROWS { TASK_ROWS } else { TASK_UNITS };
    let write = |target: &OutputPtr| {
        parallel_for_each(&channel_blocks(units, units_of_task), |block| {
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

/// The sum of each column of `[rows, units]`.
fn bias_gradient(gradient: &[f32], units: usize) -> Vec<f32> {
    let chunk = TASK_ROWS * units;
    let sums = parallel_map(gradient.len().div_ceil(chunk.max(1)), |task| {
        let mut sums = vec![0f32; units];
        for row in gradient[task * chunk..gradient.len().min((task + 1) * chunk)].chunks(units) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums
    });
    let mut total = vec![0f32; units];
    for sums in sums {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    total
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
        let (units, inputs) = wl.shape().dims2()?;
        let Some((&last, front)) = xl.dims().split_last().filter(|(last, _)| **last == inputs) else {
            bail!("dense layer: kernel {:?} does not fit input {:?}", wl.shape(), xl.shape())
        };
        if bias_layout.dims() != [units] {
            bail!("dense layer: bias {:?} does not fit kernel {:?}", bias_layout.shape(), wl.shape());
        }
        let rows = front.iter().product::<usize>();
        let (x, w, bias) =
            (storage_values(x, xl)?, storage_values(w, wl)?, storage_values(bias, bias_layout)?);
        let write = |target: &OutputPtr| {
            parallel_for_each(&tasks(rows, units, TASK_UNITS), |(rows, block)| {
                // SAFETY: no two tasks write the same columns of a row.
                unsafe {
                    matmul_strided(
                        [block.len(), rows.len(), last],
                        (target.at(rows.start * units + block.start), 1, units),
                        (&w[block.start * inputs..], inputs, 1),
                        (&x[rows.start * inputs..], 1, inputs),
                    );
                    for row in rows.clone() {
                        let first = target.at(row * units + block.start);
                        let row = std::slice::from_raw_parts_mut(first, block.len());
                        row.iter_mut().zip(&bias[block.clone()]).for_each(|(sum, bias)| *sum += bias);
                    }
                }
            });
        };
        // SAFETY: the tasks cover all columns of all rows.
        let output = unsafe { collect_with(rows * units, write) };
        Ok((CpuStorage::F32(output), [front, &[units]].concat().into()))
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
        let (units, inputs) = w.dims2()?;
        let sizes = [x.elem_count() / inputs.max(1), inputs, units];
        let g = values(&gradient)?;
        let dx = || Tensor::from_vec(input_gradient(&g, &values(w)?, sizes), x.shape(), x.device());
        let dw = || Tensor::from_vec(kernel_gradient(&g, &values(x)?, sizes), w.shape(), w.device());
        let dbias = || Tensor::from_vec(bias_gradient(&g, units), units, x.device());
        Ok((
            x.track_op().then(dx).transpose()?,
            w.track_op().then(dw).transpose()?,
            bias.track_op().then(dbias).transpose()?,
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
        for (rows, inputs, units) in [(4, 3000, 37), (1, 5, 1), (33, 64, 16), (300, 70, 50)] {
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
