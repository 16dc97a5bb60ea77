//! Batch normalisation on the CPU in few passes, with its gradient (Ioffe and Szegedy 2015).

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::crew::all;
use super::relu::rectified;
use super::slices::{contiguous, made, made_by_channel, sum_of, sums_of, values};

/// Normalises each channel of `[N, C, …]` by the batch's own mean and variance, scales by gamma and
/// shifts by beta, then takes the ReLU if so told: for [`Tensor::apply_op3`] with gamma and beta, each `[C]`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Added to the variance before its root is taken.
    pub epsilon: f32,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// What the forward pass finds in the batch.
    pub found: Arc<OnceLock<BatchStatistics>>,
}

/// The mean and the variance (divided by N, not N-1) of each channel of one batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`.
    pub variance: Vec<f32>,
}

/// The maps of one channel in a batch `[N, C, …]`.
fn maps(
    values: &[f32],
    channel: usize,
    channels: usize,
    pixels: usize,
) -> impl Iterator<Item = &[f32]> + Clone {
    values.chunks(pixels).skip(channel).step_by(channels)
}

fn sides(shape: &Shape) -> Result<(usize, usize)> {
    match shape.dims() {
        [_, channels, rest @ ..] => Ok((*channels, rest.iter().product())),
        _ => bail!("batch normalisation expects [N, C, …], found {shape:?}"),
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        gamma: &CpuStorage,
        gl: &Layout,
        beta: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, gamma, beta) = (contiguous(x, xl)?, contiguous(gamma, gl)?, contiguous(beta, bl)?);
        let (channels, pixels) = sides(xl.shape())?;
        let count = (x.len() / channels.max(1)) as f32;
        let (output, found) = made_by_channel(x.len(), channels, pixels, |channel| {
            let maps = maps(x, channel, channels, pixels);
            let mean = maps.clone().map(|map| sum_of(map, map, |value, _| value)).sum::<f32>() / count;
            let squares = maps.map(|map| sum_of(map, map, |value, _| (value - mean) * (value - mean)));
            let variance = squares.sum::<f32>() / count;
            let (scale, beta) = (gamma[channel] / (variance + self.epsilon).sqrt(), beta[channel]);
            let values = move |map: Range<usize>| {
                x[map].iter().map(move |x| {
                    let value = (x - mean) * scale + beta;
                    if self.relu { rectified(value) } else { value }
                })
            };
            ((mean, variance), values)
        });
        let (mean, variance) = found.into_iter().unzip();
        let _ = self.found.set(BatchStatistics { mean, variance });
        Ok((CpuStorage::F32(output), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(BatchStatistics { mean, variance }) = self.found.get() else {
            bail!("batch normalisation: there was no forward pass");
        };
        let gradient = gradient.contiguous()?;
        let (x_values, g, gamma, beta) = (values(x)?, values(&gradient)?, values(gamma)?, values(beta)?);
        let (x_values, g) = (&*x_values, &*g);
        let (channels, pixels) = sides(x.shape())?;
        let count = (x_values.len() / channels.max(1)) as f32;
        // Without a gradient of the input, the sums alone.
        let made = if x.track_op() { x_values.len() } else { 0 };
        let (of_input, sums) = made_by_channel(made, channels, pixels, |channel| {
            let (mean, root) = (mean[channel], (variance[channel] + self.epsilon).sqrt());
            let (scale, beta) = (gamma[channel] / root, beta[channel]);
            // Before the ReLU, which was on where the output was above 0.
            let before = move |x: f32, g: f32| {
                if !self.relu || (x - mean) * scale + beta > 0.0 { g } else { 0.0 }
            };
            let pairs = maps(x_values, channel, channels, pixels).zip(maps(g, channel, channels, pixels));
            let [of_gamma, of_beta] = pairs
                .map(|(x, g)| sums_of(x, g, |x, g| [(x - mean) * before(x, g), before(x, g)]))
                .fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
            let (of_gamma, mean_gradient) = (of_gamma / root, of_beta / count);
            let along = of_gamma / count / root;
            let values = move |map: Range<usize>| {
                let pairs = x_values[map.clone()].iter().zip(&g[map]);
                pairs.map(move |(x, g)| scale * (before(*x, *g) - mean_gradient - (x - mean) * along))
            };
            ((of_gamma, of_beta), values)
        });
        let of_input = x.track_op().then(|| Tensor::from_vec(of_input, x.shape(), x.device()));
        let (of_gamma, of_beta) = sums.into_iter().unzip();
        let vector = |values: Vec<f32>| Tensor::from_vec(values, channels, x.device()).map(Some);
        Ok((of_input.transpose()?, vector(of_gamma)?, vector(of_beta)?))
    }
}

/// `x · scale + shift`, channel by channel, as an op for [`Tensor::apply_op3`]: what batch
/// normalisation is when its statistics stand.
#[derive(Clone, Copy, Debug)]
pub struct ScaleShift;

impl CustomOp3 for ScaleShift {
    fn name(&self) -> &'static str {
        "scale-shift"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        scale: &CpuStorage,
        cl: &Layout,
        shift: &CpuStorage,
        fl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (channels, pixels) = sides(xl.shape())?;
        let (scale, shift) = (contiguous(scale, cl)?, contiguous(shift, fl)?);
        Ok((
            CpuStorage::F32(scaled(contiguous(x, xl)?, scale, Some(shift), channels, pixels)),
            xl.shape().clone(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (channels, pixels) = sides(gradient.shape())?;
        let g = values(&gradient)?;
        let of_x = x.track_op().then(|| {
            let result = scaled(&g, &values(scale)?, None, channels, pixels);
            Tensor::from_vec(result, gradient.shape(), gradient.device())
        });
        let sums = |of: &(dyn Fn(usize) -> f32 + Sync)| {
            Tensor::from_vec(all(channels, of), channels, gradient.device())
        };
        let of_scale = scale.track_op().then(|| {
            let x = values(x)?;
            sums(&|channel| {
                let pairs = maps(&x, channel, channels, pixels).zip(maps(&g, channel, channels, pixels));
                pairs.map(|(x, g)| sum_of(x, g, |x, g| x * g)).sum()
            })
        });
        let of_shift = shift.track_op().then(|| {
            sums(&|channel| maps(&g, channel, channels, pixels).map(|g| sum_of(g, g, |g, _| g)).sum())
        });
        Ok((of_x.transpose()?, of_scale.transpose()?, of_shift.transpose()?))
    }
}

fn scaled(x: &[f32], scale: &[f32], shift: Option<&[f32]>, channels: usize, pixels: usize) -> Vec<f32> {
    made(x.len(), pixels, |at, map| {
        let scale = scale[at % channels];
        let shift = shift.map_or(0.0, |shift| shift[at % channels]);
        x[map].iter().map(move |x| x * scale + shift)
    })
}
