//! Layer normalisation (Ba et al. 2016) with its gradients.

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use pulp::NullaryFnOnce;

use super::sums::{pair_sum, pair_sums};
use super::tensor_values::{storage_values, values};
use super::thread_pool::{parallel_chunks_mut, parallel_map};
use super::transpose::transpose;

/// Rows per task (64: enough work per task; sums over rows do not depend on the number of threads).
const TASK_ROWS: usize = 64;

/// Normalises vectors of features, then scales and shifts each feature. It is an op for
/// [`Tensor::apply_op3`] of `[…, C]`, or of `[N, C, …]` if `channels_first`, with `gamma` and `beta` of
/// shape `[C]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerNorm {
    pub(crate) epsilon: f32,
    /// Whether the features are dimension 1 instead of the last one.
    pub(crate) channels_first: bool,
}

/// Rows of `features` values each.
struct Rows<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    epsilon: f32,
}

/// Mean of a row, and the reciprocal of its standard deviation.
#[inline(always)]
fn statistics(row: &[f32], epsilon: f32) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = pair_sum(row, row, |value, _| value) / count;
    let variance = pair_sum(row, row, |value, _| (value - mean) * (value - mean)) / count;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

struct Forward<'a> {
    rows: &'a Rows<'a>,
    beta: &'a [f32],
    /// Values of the rows.
    range: Range<usize>,
    target: &'a mut [MaybeUninit<f32>],
}

impl NullaryFnOnce for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Rows { x, gamma, epsilon } = *self.rows;
        let features = gamma.len();
        for (row, target) in x[self.range].chunks(features).zip(self.target.chunks_mut(features)) {
            let (mean, scale) = statistics(row, epsilon);
            for (((target, x), gamma), beta) in target.iter_mut().zip(row).zip(gamma).zip(self.beta) {
                target.write((x - mean) * scale * gamma + beta);
            }
        }
    }
}

struct Backward<'a> {
    rows: &'a Rows<'a>,
    gradient: &'a [f32],
    range: Range<usize>,
    target: &'a mut [MaybeUninit<f32>],
    /// Gradients of gamma, then of beta.
    sums: &'a mut [f32],
}

impl NullaryFnOnce for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Rows { x, gamma, epsilon } = *self.rows;
        let features = gamma.len();
        let (gamma_sums, beta_sums) = self.sums.split_at_mut(features);
        let mut weighted = vec![0f32; features];
        let rows = x[self.range.clone()].chunks(features).zip(self.gradient[self.range].chunks(features));
        for ((row, gradient), target) in rows.zip(self.target.chunks_mut(features)) {
            let (mean, scale) = statistics(row, epsilon);
            for (index, weighted) in weighted.iter_mut().enumerate() {
                let normalised = (row[index] - mean) * scale;
                *weighted = gradient[index] * gamma[index];
                gamma_sums[index] += gradient[index] * normalised;
                beta_sums[index] += gradient[index];
            }
            let sums = pair_sums(&weighted, row, |weighted, x| [weighted, weighted * (x - mean) * scale]);
            let [sum, product] = sums.map(|sum| sum / features as f32);
            for ((target, x), weighted) in target.iter_mut().zip(row).zip(&weighted) {
                target.write(scale * (weighted - sum - (x - mean) * scale * product));
            }
        }
    }
}

impl LayerNorm {
    /// Number of images, features and positions, where positions follow the features in memory.
    fn sizes(&self, shape: &Shape) -> [usize; 3] {
        let dims = shape.dims();
        let axis = if self.channels_first { 1 } else { dims.len() - 1 };
        [dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
    }

    /// The values with the features last.
    fn features_last(x: &[f32], sizes: [usize; 3]) -> Option<Vec<f32>> {
        (sizes[2] > 1).then(|| transpose(x, sizes))
    }

    fn features_back(values: Vec<f32>, [images, features, positions]: [usize; 3]) -> Vec<f32> {
        if positions > 1 { transpose(&values, [images, positions, features]) } else { values }
    }
}

/// Runs `task` on blocks of rows, which writes a chunk of the result each.
fn collect_rows(
    count: usize,
    features: usize,
    task: impl Fn(Range<usize>, &mut [MaybeUninit<f32>]) + Sync,
) -> Vec<f32> {
    let mut output = Vec::with_capacity(count);
    let chunk = TASK_ROWS * features;
    parallel_chunks_mut(&mut output.spare_capacity_mut()[..count], chunk, |index, target| {
        task(index * chunk..index * chunk + target.len(), target);
    });
    // SAFETY: every task writes its whole chunk.
    unsafe { output.set_len(count) };
    output
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(xl.shape());
        if gamma_layout.dims() != [sizes[1]] || beta_layout.dims() != [sizes[1]] {
            bail!("layer norm: expected scale and shift of {} features, found {gamma_layout:?}", sizes[1]);
        }
        let x = storage_values(x, xl)?;
        let (gamma, beta) = (storage_values(gamma, gamma_layout)?, storage_values(beta, beta_layout)?);
        let transposed = LayerNorm::features_last(x, sizes);
        let x = transposed.as_deref().unwrap_or(x);
        let (rows, arch) = (Rows { x, gamma, epsilon: self.epsilon }, pulp::Arch::new());
        let output = collect_rows(x.len(), sizes[1], |range, target| {
            arch.dispatch(Forward { rows: &rows, beta, range, target });
        });
        Ok((CpuStorage::F32(LayerNorm::features_back(output, sizes)), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let sizes = self.sizes(x.shape());
        let features = sizes[1];
        let (x_values, gamma_values, gradient) = (values(x)?, values(gamma)?, values(&gradient)?);
        let transposed = [&*x_values, &*gradient].map(|values| LayerNorm::features_last(values, sizes));
        let x_rows = transposed[0].as_deref().unwrap_or(&x_values);
        let gradient = transposed[1].as_deref().unwrap_or(&gradient);
        let rows = Rows { x: x_rows, gamma: &gamma_values, epsilon: self.epsilon };
        let (chunk, arch) = (TASK_ROWS * features, pulp::Arch::new());
        let mut input_gradient: Vec<f32> = Vec::with_capacity(x_rows.len());
        let target = super::output_ptr::OutputPtr(input_gradient.as_mut_ptr());
        let sums = parallel_map(x_rows.len().div_ceil(chunk.max(1)), |index| {
            let range = index * chunk..x_rows.len().min((index + 1) * chunk);
            let mut sums = vec![0f32; 2 * features];
            // SAFETY: the range lies inside the buffer, and no other task has it.
            let target =
                unsafe { std::slice::from_raw_parts_mut(target.at(range.start).cast(), range.len()) };
            arch.dispatch(Backward { rows: &rows, gradient, range, target, sums: &mut sums });
            sums
        });
        // SAFETY: every task wrote its whole range.
        unsafe { input_gradient.set_len(x_rows.len()) };
        let mut total = vec![0f32; 2 * features];
        for sums in sums {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let vector = |values: &[f32]| Tensor::from_slice(values, features, x.device());
        let dx = || {
            let values = LayerNorm::features_back(std::mem::take(&mut input_gradient), sizes);
            Tensor::from_vec(values, x.shape(), x.device())
        };
        Ok((
            x.track_op().then(dx).transpose()?,
            gamma.track_op().then(|| vector(&total[..features])).transpose()?,
            beta.track_op().then(|| vector(&total[features..])).transpose()?,
        ))
    }
}
