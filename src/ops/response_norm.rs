//! Global response normalisation (Woo et al. 2023, ConvNeXt V2) with its gradients.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::tensor_values::{storage_values, values};
use super::thread_pool::{parallel_chunks_mut, parallel_map};

/// `gamma · x · n + beta + x`, where `n` is the norm of each channel over the positions, divided by the mean of all
/// norms. It is an op for [`Tensor::apply_op3`] of `[N, …, C]`, `[C]` and `[C]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseNorm {
    pub(crate) epsilon: f32,
}

/// Norm of each channel of an image, and their mean plus epsilon.
fn norms(image: &[f32], channels: usize, epsilon: f32) -> (Vec<f32>, f32) {
    let mut norms = vec![0f32; channels];
    for position in image.chunks(channels) {
        norms.iter_mut().zip(position).for_each(|(sum, value)| *sum += value * value);
    }
    norms.iter_mut().for_each(|sum| *sum = sum.sqrt());
    let mean = norms.iter().sum::<f32>() / channels as f32 + epsilon;
    (norms, mean)
}

/// Gradients of one image.
struct Gradients {
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl ResponseNorm {
    fn image_gradients(&self, x: &[f32], gamma: &[f32], gradient: &[f32]) -> Gradients {
        let channels = gamma.len();
        let (norms, mean) = norms(x, channels, self.epsilon);
        // Sums over the positions of gradient · x, and of the gradient.
        let (mut products, mut beta) = (vec![0f32; channels], vec![0f32; channels]);
        for (x, g) in x.chunks(channels).zip(gradient.chunks(channels)) {
            for channel in 0..channels {
                products[channel] += g[channel] * x[channel];
                beta[channel] += g[channel];
            }
        }
        let weighted: f32 = (0..channels).map(|c| products[c] * gamma[c] * norms[c]).sum();
        let shared = weighted / (mean * mean * channels as f32);
        // The gradient of a norm, divided by the norm; the norm of zeros has no gradient.
        let of_norms: Vec<f32> = (0..channels)
            .map(|c| match norms[c] {
                0.0 => 0.0,
                norm => (products[c] * gamma[c] / mean - shared) / norm,
            })
            .collect();
        let factors: Vec<f32> = (0..channels).map(|c| gamma[c] * norms[c] / mean + 1.0).collect();
        let dx = x.chunks(channels).zip(gradient.chunks(channels)).flat_map(|(x, g)| {
            let (of_norms, factors) = (&of_norms, &factors);
            (0..channels).map(move |c| g[c] * factors[c] + of_norms[c] * x[c])
        });
        let x = dx.collect();
        Gradients { x, gamma: (0..channels).map(|c| products[c] * norms[c] / mean).collect(), beta }
    }
}

impl CustomOp3 for ResponseNorm {
    fn name(&self) -> &'static str {
        "response-norm"
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
        let channels = xl.dims().last().copied().unwrap_or_default();
        if gamma_layout.dims() != [channels] || beta_layout.dims() != [channels] {
            bail!("response norm: expected scale and shift of {channels} channels, found {gamma_layout:?}");
        }
        let x = storage_values(x, xl)?;
        let (gamma, beta) = (storage_values(gamma, gamma_layout)?, storage_values(beta, beta_layout)?);
        let image_len = xl.dims()[1..].iter().product();
        let mut output = vec![0f32; x.len()];
        parallel_chunks_mut(&mut output, image_len, |index, output| {
            let image = &x[index * image_len..][..image_len];
            let (norms, mean) = norms(image, channels, self.epsilon);
            let factors: Vec<f32> =
                gamma.iter().zip(norms).map(|(gamma, norm)| gamma * norm / mean + 1.0).collect();
            for (output, x) in output.chunks_mut(channels).zip(image.chunks(channels)) {
                for channel in 0..channels {
                    output[channel] = x[channel] * factors[channel] + beta[channel];
                }
            }
        });
        Ok((CpuStorage::F32(output), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (x_values, gamma_values, g) = (values(x)?, values(gamma)?, values(&gradient)?);
        let image_len: usize = x.dims()[1..].iter().product();
        let images = parallel_map(x.dim(0)?, |index| {
            let range = index * image_len..(index + 1) * image_len;
            self.image_gradients(&x_values[range.clone()], &gamma_values, &g[range])
        });
        let channels = gamma_values.len();
        let (mut dx, mut dgamma, mut dbeta) =
            (Vec::with_capacity(x_values.len()), vec![0f32; channels], vec![0f32; channels]);
        for image in images {
            dx.extend(image.x);
            dgamma.iter_mut().zip(image.gamma).for_each(|(sum, value)| *sum += value);
            dbeta.iter_mut().zip(image.beta).for_each(|(sum, value)| *sum += value);
        }
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dgamma, channels, x.device())?),
            Some(Tensor::from_vec(dbeta, channels, x.device())?),
        ))
    }
}
