//! Scaled dot-product attention (Vaswani et al. 2017) with its gradient.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use pulp::NullaryFnOnce;

use super::matmul::{matmul, matmul_strided};
use super::output_ptr::OutputPtr;
use super::pointwise::exp;
use super::tensor_values::{storage_values, values};
use super::thread_pool::parallel_for;

/// `softmax(q · kᵀ / √d) · v` for each head, as an op for [`Tensor::apply_op1`]. The input
/// `[N, T, 3 · heads · d]` has queries, keys and values, in this order. The output is `[N, T, heads · d]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
}

/// Sizes of one attention.
#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    /// Features of a head.
    features: usize,
}

impl Sizes {
    /// Distance of two tokens in the input.
    fn stride(&self) -> usize {
        3 * self.output_stride()
    }

    /// Distance of two tokens in the output.
    fn output_stride(&self) -> usize {
        self.heads * self.features
    }

    fn scale(&self) -> f32 {
        1.0 / (self.features as f32).sqrt()
    }

    /// Offsets of a head's query, key and value in an input token, for the head with this index among all images.
    fn offsets(&self, task: usize) -> [usize; 3] {
        let (image, head) = (task / self.heads, task % self.heads);
        let first = image * self.tokens * self.stride() + head * self.features;
        [first, first + self.output_stride(), first + 2 * self.output_stride()]
    }

    /// Offset of a head's result in the output.
    fn output_offset(&self, task: usize) -> usize {
        task / self.heads * self.tokens * self.output_stride() + task % self.heads * self.features
    }

    /// The attention weights `[T, T]` of one head: softmax of the scaled products of queries and keys.
    fn weights(&self, input: &[f32], [query, key, _]: [usize; 3]) -> Vec<f32> {
        let mut weights = vec![0f32; self.tokens * self.tokens];
        // SAFETY: the target has room, and is not shared.
        unsafe {
            matmul(
                [self.tokens, self.tokens, self.features],
                (weights.as_mut_ptr(), self.tokens, false),
                (&input[query..], self.stride(), 1),
                (&input[key..], 1, self.stride()),
            );
        }
        pulp::Arch::new().dispatch(Softmax { rows: &mut weights, length: self.tokens, scale: self.scale() });
        weights
    }
}

/// Softmax of each row times `scale`, in place.
struct Softmax<'a> {
    rows: &'a mut [f32],
    length: usize,
    scale: f32,
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for row in self.rows.chunks_mut(self.length) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |largest, value| largest.max(*value));
            let mut lanes = [0f32; 16];
            for chunk in row.chunks_mut(16) {
                for (value, lane) in chunk.iter_mut().zip(&mut lanes) {
                    *value = exp((*value - largest) * self.scale);
                    *lane += *value;
                }
            }
            let factor = 1.0 / lanes.iter().sum::<f32>();
            row.iter_mut().for_each(|value| *value *= factor);
        }
    }
}

/// The gradient before the softmax and the scaling, in place of the gradient of the weights.
struct SoftmaxGradient<'a> {
    weights: &'a [f32],
    gradient: &'a mut [f32],
    length: usize,
    scale: f32,
}

impl NullaryFnOnce for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, gradient) in self.weights.chunks(self.length).zip(self.gradient.chunks_mut(self.length)) {
            let sum = super::sums::pair_sum(row, gradient, |weight, gradient| weight * gradient);
            for (gradient, weight) in gradient.iter_mut().zip(row) {
                *gradient = weight * (*gradient - sum) * self.scale;
            }
        }
    }
}

impl Attention {
    fn sizes(&self, shape: &Shape) -> Result<(usize, Sizes)> {
        let (images, tokens, width) = shape.dims3()?;
        if self.heads == 0 || !width.is_multiple_of(3 * self.heads) {
            bail!("attention of {} heads: expected [N, T, 3 · heads · d], found {shape:?}", self.heads);
        }
        Ok((images, Sizes { tokens, heads: self.heads, features: width / 3 / self.heads }))
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, sizes) = self.sizes(layout.shape())?;
        let input = storage_values(input, layout)?;
        let mut output = vec![0f32; images * sizes.tokens * sizes.output_stride()];
        let target = OutputPtr(output.as_mut_ptr());
        parallel_for(images * self.heads, |task| {
            let offsets = sizes.offsets(task);
            let weights = sizes.weights(input, offsets);
            // SAFETY: no two tasks write the same features of a token.
            unsafe {
                matmul(
                    [sizes.tokens, sizes.features, sizes.tokens],
                    (target.at(sizes.output_offset(task)), sizes.output_stride(), false),
                    (&weights, sizes.tokens, 1),
                    (&input[offsets[2]..], sizes.stride(), 1),
                );
            }
        });
        Ok((CpuStorage::F32(output), (images, sizes.tokens, sizes.output_stride()).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let (images, sizes) = self.sizes(x.shape())?;
        let Sizes { tokens, features, .. } = sizes;
        let (stride, output_stride) = (sizes.stride(), sizes.output_stride());
        let (input, gradient) = (values(x)?, values(&gradient)?);
        let mut result = vec![0f32; input.len()];
        let target = OutputPtr(result.as_mut_ptr());
        parallel_for(images * self.heads, |task| {
            let offsets = sizes.offsets(task);
            let [query, key, value] = offsets;
            let weights = sizes.weights(&input, offsets);
            let gradient = &gradient[sizes.output_offset(task)..];
            let mut inner = vec![0f32; tokens * tokens];
            // SAFETY: no two tasks write the same features of a token, and `inner` is not shared.
            unsafe {
                // Values: the transposed weights times the gradient.
                matmul(
                    [tokens, features, tokens],
                    (target.at(value), stride, false),
                    (&weights, 1, tokens),
                    (gradient, output_stride, 1),
                );
                // Weights: the gradient times the transposed values.
                matmul_strided(
                    [tokens, tokens, features],
                    (inner.as_mut_ptr(), tokens, 1),
                    (gradient, output_stride, 1),
                    (&input[value..], 1, stride),
                );
                pulp::Arch::new().dispatch(SoftmaxGradient {
                    weights: &weights,
                    gradient: &mut inner,
                    length: tokens,
                    scale: sizes.scale(),
                });
                matmul(
                    [tokens, features, tokens],
                    (target.at(query), stride, false),
                    (&inner, tokens, 1),
                    (&input[key..], stride, 1),
                );
                matmul(
                    [tokens, features, tokens],
                    (target.at(key), stride, false),
                    (&inner, 1, tokens),
                    (&input[query..], stride, 1),
                );
            }
        });
        Ok(Some(Tensor::from_vec(result, x.shape(), x.device())?))
    }
}
