//! Scaling of the last dimension by one factor per feature, with its gradients.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::collect::parallel_collect;
use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_map;

/// Rows per task (64: enough work per task; sums over rows do not depend on the number of threads).
const TASK_ROWS: usize = 64;

/// `x · gamma` of `[…, C]` and `[C]`, as an op for [`Tensor::apply_op2`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeatureScale;

fn scale_rows(x: &[f32], gamma: &[f32]) -> Vec<f32> {
    parallel_collect(x.len(), TASK_ROWS * gamma.len(), |_, chunk| {
        x[chunk].iter().enumerate().map(|(index, value)| value * gamma[index % gamma.len()])
    })
}

impl CustomOp2 for FeatureScale {
    fn name(&self) -> &'static str {
        "feature-scale"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if xl.dims().last() != gamma_layout.dims().first() || gamma_layout.dims().len() != 1 {
            bail!("feature scale: {gamma_layout:?} does not fit {xl:?}");
        }
        let (x, gamma) = (storage_values(x, xl)?, storage_values(gamma, gamma_layout)?);
        Ok((CpuStorage::F32(scale_rows(x, gamma)), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, gamma_values, g) = (values(x)?, values(gamma)?, values(&gradient)?);
        let features = gamma_values.len();
        let dx = || Tensor::from_vec(scale_rows(&g, &gamma_values), x.shape(), x.device());
        let dgamma = || {
            let chunk = TASK_ROWS * features;
            let sums = parallel_map(g.len().div_ceil(chunk), |task| {
                let range = task * chunk..g.len().min((task + 1) * chunk);
                let mut sums = vec![0f32; features];
                for (x, g) in x_values[range.clone()].chunks(features).zip(g[range].chunks(features)) {
                    sums.iter_mut().zip(x).zip(g).for_each(|((sum, x), g)| *sum += x * g);
                }
                sums
            });
            let mut total = vec![0f32; features];
            for sums in sums {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
            Tensor::from_vec(total, features, x.device())
        };
        Ok((x.track_op().then(dx).transpose()?, gamma.track_op().then(dgamma).transpose()?))
    }
}
