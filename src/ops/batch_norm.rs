//! Batch normalisation on the CPU, with its gradient (Ioffe and Szegedy 2015, "Batch normalization:
//! accelerating deep network training by reducing internal covariate shift").
//!
//! Statistics and outputs are computed channel by channel, so that a channel stays in the cache between
//! the passes.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::collect::{parallel_collect, parallel_collect_by_channel};
use super::relu::relu;
use super::sums::{pair_sum, pair_sums};
use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_map;

/// Batch normalisation in training mode: normalises each channel of `[N, C, …]` by the mean and variance of
/// the batch, scales by gamma, shifts by beta, and applies an optional ReLU. It is an op for
/// [`Tensor::apply_op3`] with gamma and beta, each `[C]`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// Added to the variance before the square root.
    pub epsilon: f32,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// The batch statistics, set by the forward pass.
    pub statistics: Arc<OnceLock<BatchStatistics>>,
}

/// The mean and the variance (divided by N, not N-1) of each channel of one batch.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`.
    pub variance: Vec<f32>,
}

/// The feature maps of one channel in a batch `[N, C, …]`.
fn channel_maps(
    values: &[f32],
    channel: usize,
    channels: usize,
    pixels: usize,
) -> impl Iterator<Item = &[f32]> + Clone {
    values.chunks(pixels).skip(channel).step_by(channels)
}

/// The number of channels, and the pixels of a feature map.
fn channels_and_pixels(shape: &Shape) -> Result<(usize, usize)> {
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
        let (x, gamma, beta) =
            (storage_values(x, xl)?, storage_values(gamma, gl)?, storage_values(beta, bl)?);
        let (channels, pixels) = channels_and_pixels(xl.shape())?;
        let count = (x.len() / channels.max(1)) as f32;
        let (output, found) = parallel_collect_by_channel(x.len(), channels, pixels, |channel| {
            let maps = channel_maps(x, channel, channels, pixels);
            let mean = maps.clone().map(|map| pair_sum(map, map, |value, _| value)).sum::<f32>() / count;
            let squares = maps.map(|map| pair_sum(map, map, |value, _| (value - mean) * (value - mean)));
            let variance = squares.sum::<f32>() / count;
            let (scale, beta) = (gamma[channel] / (variance + self.epsilon).sqrt(), beta[channel]);
            let values = move |map: Range<usize>| {
                x[map].iter().map(move |x| {
                    let value = (x - mean) * scale + beta;
                    if self.relu { relu(value) } else { value }
                })
            };
            ((mean, variance), values)
        });
        let (mean, variance) = found.into_iter().unzip();
        let _ = self.statistics.set(BatchStatistics { mean, variance });
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
        let Some(BatchStatistics { mean, variance }) = self.statistics.get() else {
            bail!("batch normalisation: the backward pass needs a forward pass before it");
        };
        let gradient = gradient.contiguous()?;
        let (x_values, g, gamma, beta) = (values(x)?, values(&gradient)?, values(gamma)?, values(beta)?);
        let (x_values, g) = (&*x_values, &*g);
        let (channels, pixels) = channels_and_pixels(x.shape())?;
        let count = (x_values.len() / channels.max(1)) as f32;
        // If the input needs no gradient, only the sums are computed.
        let input_len = if x.track_op() { x_values.len() } else { 0 };
        let (input_gradient, sums) = parallel_collect_by_channel(input_len, channels, pixels, |channel| {
            let (mean, std) = (mean[channel], (variance[channel] + self.epsilon).sqrt());
            let (scale, beta) = (gamma[channel] / std, beta[channel]);
            // The gradient before the ReLU, which passes it where the output is above 0.
            let relu_gradient = move |x: f32, g: f32| {
                if !self.relu || (x - mean) * scale + beta > 0.0 { g } else { 0.0 }
            };
            let pairs = channel_maps(x_values, channel, channels, pixels)
                .zip(channel_maps(g, channel, channels, pixels));
            let [gamma_gradient, beta_gradient] = pairs
                .map(|(x, g)| pair_sums(x, g, |x, g| [(x - mean) * relu_gradient(x, g), relu_gradient(x, g)]))
                .fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d]);
            let (gamma_gradient, mean_gradient) = (gamma_gradient / std, beta_gradient / count);
            let variance_term = gamma_gradient / count / std;
            let values = move |map: Range<usize>| {
                let pairs = x_values[map.clone()].iter().zip(&g[map]);
                pairs.map(move |(x, g)| {
                    scale * (relu_gradient(*x, *g) - mean_gradient - (x - mean) * variance_term)
                })
            };
            ((gamma_gradient, beta_gradient), values)
        });
        let input_gradient = x.track_op().then(|| Tensor::from_vec(input_gradient, x.shape(), x.device()));
        let (gamma_gradient, beta_gradient) = sums.into_iter().unzip();
        let vector = |values: Vec<f32>| Tensor::from_vec(values, channels, x.device()).map(Some);
        Ok((input_gradient.transpose()?, vector(gamma_gradient)?, vector(beta_gradient)?))
    }
}

/// `x · scale + shift` per channel, as an op for [`Tensor::apply_op3`]: batch normalisation in inference
/// mode.
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
        let (channels, pixels) = channels_and_pixels(xl.shape())?;
        let (scale, shift) = (storage_values(scale, cl)?, storage_values(shift, fl)?);
        Ok((
            CpuStorage::F32(scale_shift(storage_values(x, xl)?, scale, Some(shift), channels, pixels)),
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
        let (channels, pixels) = channels_and_pixels(gradient.shape())?;
        let g = values(&gradient)?;
        let input_gradient = x.track_op().then(|| {
            let result = scale_shift(&g, &values(scale)?, None, channels, pixels);
            Tensor::from_vec(result, gradient.shape(), gradient.device())
        });
        let sums = |sum: &(dyn Fn(usize) -> f32 + Sync)| {
            Tensor::from_vec(parallel_map(channels, sum), channels, gradient.device())
        };
        let scale_gradient = scale.track_op().then(|| {
            let x = values(x)?;
            sums(&|channel| {
                let pairs = channel_maps(&x, channel, channels, pixels)
                    .zip(channel_maps(&g, channel, channels, pixels));
                pairs.map(|(x, g)| pair_sum(x, g, |x, g| x * g)).sum()
            })
        });
        let shift_gradient = shift.track_op().then(|| {
            sums(&|channel| {
                channel_maps(&g, channel, channels, pixels).map(|g| pair_sum(g, g, |g, _| g)).sum()
            })
        });
        Ok((input_gradient.transpose()?, scale_gradient.transpose()?, shift_gradient.transpose()?))
    }
}

/// `x · scale + shift` per channel.
fn scale_shift(x: &[f32], scale: &[f32], shift: Option<&[f32]>, channels: usize, pixels: usize) -> Vec<f32> {
    parallel_collect(x.len(), pixels, |index, map| {
        let scale = scale[index % channels];
        let shift = shift.map_or(0.0, |shift| shift[index % channels]);
        x[map].iter().map(move |x| x * scale + shift)
    })
}
