//! Multi-head self-attention (Vaswani et al. 2017).

use std::sync::Arc;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::dense::linear;
use super::param::with_adapters;
use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::device::takes_cpu_path;
use crate::ops::{Attention, apply1};
use crate::{Error, Result};

/// Multi-head self-attention: each token of a sequence attends to all tokens.
///
/// # Shapes
/// From `[N, tokens, C]` to the same shape. One kernel `[3 · num_heads · key_dim, C]` holds the projections to
/// queries, keys and values, in this order, as in timm.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new((10, 64)), MultiHeadAttention::new(4)]?;
/// assert_eq!(model.output_shape(), [10, 64]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MultiHeadAttention {
    pub(super) num_heads: usize,
    key_dim: Option<usize>,
    initializer: Initializer,
}

impl MultiHeadAttention {
    /// A layer of `num_heads` heads. Defaults: `key_dim` is C / `num_heads`; Glorot uniform weights, bias 0.
    pub fn new(num_heads: usize) -> MultiHeadAttention {
        MultiHeadAttention { num_heads, key_dim: None, initializer: Initializer::GlorotUniform }
    }

    /// Sets the number of features of each head. Default: C / `num_heads`.
    pub fn key_dim(self, key_dim: usize) -> MultiHeadAttention {
        MultiHeadAttention { key_dim: Some(key_dim), ..self }
    }

    /// Sets the initializer of the kernels. Default: [`Initializer::GlorotUniform`].
    pub fn kernel_initializer(self, initializer: Initializer) -> MultiHeadAttention {
        MultiHeadAttention { initializer, ..self }
    }
}

impl Build for MultiHeadAttention {
    fn default_name(&self) -> &str {
        "multi_head_attention"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [tokens, width] = *context.inputs[0] else {
            return Err(Error::shape(context.name, "[tokens, features]", context.inputs[0], ""));
        };
        let heads = self.num_heads;
        if heads == 0 || self.key_dim == Some(0) || self.key_dim.is_none() && !width.is_multiple_of(heads) {
            let expected =
                format!("a divisor of {width} features, or at least 1 with a `key_dim` of at least 1");
            return Err(Error::Argument { name: "num_heads", expected, found: heads.to_string() });
        }
        let inside = heads * self.key_dim.unwrap_or(width / heads);
        let mut draw = |initializer: Initializer, shape: &[usize]| {
            initializer.draw(shape, context.random, context.device)
        };
        Ok(Arc::new(Built {
            heads,
            qkv_kernel: Param::weight("qkv_kernel", &draw(self.initializer, &[3 * inside, width])?)?,
            qkv_bias: Param::weight("qkv_bias", &draw(Initializer::Zeros, &[3 * inside])?)?,
            output_kernel: Param::weight("output_kernel", &draw(self.initializer, &[width, inside])?)?,
            output_bias: Param::weight("output_bias", &draw(Initializer::Zeros, &[width])?)?,
            shape: [tokens, width],
        }))
    }
}

struct Built {
    heads: usize,
    qkv_kernel: Param,
    qkv_bias: Param,
    output_kernel: Param,
    output_bias: Param,
    shape: [usize; 2],
}

impl Built {
    /// Computes the attention with candle's operations.
    fn attend_on_device(&self, qkv: &Tensor) -> Result<Tensor> {
        let (images, tokens, width) = qkv.dims3()?;
        let features = width / 3 / self.heads;
        let parts = qkv.reshape((images, tokens, 3, self.heads, features))?.permute((2, 0, 3, 1, 4))?;
        let part = |at: usize| parts.narrow(0, at, 1)?.squeeze(0)?.contiguous();
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let products = (queries.matmul(&keys.t()?.contiguous()?)? / (features as f64).sqrt())?;
        let attended = candle_nn::ops::softmax(&products, D::Minus1)?.matmul(&values)?;
        Ok(attended.transpose(1, 2)?.contiguous()?.reshape((images, tokens, width / 3))?)
    }
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "MultiHeadAttention"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let qkv = linear(inputs[0], &self.qkv_kernel.adapted(mode)?, &self.qkv_bias.value(mode))?;
        let attended = match takes_cpu_path(&qkv) {
            true => apply1(&qkv, Attention { heads: self.heads })?,
            false => self.attend_on_device(&qkv)?,
        };
        linear(&attended, &self.output_kernel.adapted(mode)?, &self.output_bias.value(mode))
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        let params = [&self.qkv_kernel, &self.qkv_bias, &self.output_kernel, &self.output_bias];
        with_adapters(params.map(Param::clone).to_vec())
    }
}
