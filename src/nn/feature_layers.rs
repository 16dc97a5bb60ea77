//! Layers that scale features: layer scale, and global response normalisation.

use std::sync::Arc;

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Build, Context, Initializer, Layer, Mode, Param};
use crate::check::{check, check_positive};
use crate::device::takes_cpu_path;
use crate::ops::{FeatureScale, ResponseNorm, apply2, apply3};
use crate::{Error, Result};

/// Layer scale (Touvron et al. 2021): multiplies each feature, along the last dimension, by a trainable factor.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LayerScale {
    init_value: f64,
}

impl LayerScale {
    /// A layer whose factors start at `init_value`, such as 1e-6.
    pub fn new(init_value: f64) -> LayerScale {
        LayerScale { init_value }
    }
}

impl Build for LayerScale {
    fn default_name(&self) -> &str {
        "layer_scale"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check("init_value", self.init_value, self.init_value.is_finite(), "a finite number")?;
        let shape = context.inputs[0];
        let features = shape[shape.len() - 1];
        let gamma = (Tensor::ones(features, DType::F32, context.device)? * self.init_value)?;
        Ok(Arc::new(Scale { gamma: Param::weight("gamma", &gamma)?, shape: shape.to_vec() }))
    }
}

struct Scale {
    gamma: Param,
    shape: Vec<usize>,
}

impl Layer for Scale {
    fn kind(&self) -> &'static str {
        "LayerScale"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let (x, gamma) = (inputs[0], self.gamma.value(mode));
        if takes_cpu_path(x) {
            return Ok(apply2(&x.contiguous()?, &gamma, FeatureScale)?);
        }
        Ok(x.broadcast_mul(&gamma)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.gamma.clone()]
    }
}

/// Global response normalisation (Woo et al. 2023, ConvNeXt V2): `gamma · x · n + beta + x`, where `n` is the norm of
/// a channel over all pixels, relative to the mean norm of the channels.
///
/// # Shapes
/// From `[N, …, C]`, channels last, to the same shape.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GlobalResponseNormalization {
    epsilon: f64,
}

impl Default for GlobalResponseNormalization {
    /// Epsilon 1e-6.
    fn default() -> GlobalResponseNormalization {
        GlobalResponseNormalization { epsilon: 1e-6 }
    }
}

impl Build for GlobalResponseNormalization {
    fn default_name(&self) -> &str {
        "global_response_normalization"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check_positive("epsilon", self.epsilon)?;
        let shape = context.inputs[0];
        let [.., channels] = *shape else {
            return Err(Error::shape(context.name, "[…, channels]", shape, ""));
        };
        let zeros = Initializer::Zeros.draw(&[channels], context.random, context.device)?;
        Ok(Arc::new(Response {
            op: ResponseNorm { epsilon: self.epsilon as f32 },
            gamma: Param::weight("gamma", &zeros)?,
            beta: Param::weight("beta", &zeros)?,
            shape: shape.to_vec(),
        }))
    }
}

struct Response {
    op: ResponseNorm,
    gamma: Param,
    beta: Param,
    shape: Vec<usize>,
}

impl Layer for Response {
    fn kind(&self) -> &'static str {
        "GlobalResponseNormalization"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let (x, gamma, beta) = (inputs[0], self.gamma.value(mode), self.beta.value(mode));
        if takes_cpu_path(x) {
            return Ok(apply3(&x.contiguous()?, &gamma, &beta, self.op)?);
        }
        let channels = self.shape[self.shape.len() - 1];
        let positions = x.contiguous()?.reshape((x.dim(0)?, (), channels))?;
        // The smallest positive number keeps the gradient of a channel of zeros finite.
        let norms = (positions.sqr()?.sum_keepdim(1)? + f64::from(f32::MIN_POSITIVE))?.sqrt()?;
        let mean = (norms.mean_keepdim(D::Minus1)? + f64::from(self.op.epsilon))?;
        let factors = (norms.broadcast_div(&mean)?.broadcast_mul(&gamma)? + 1.0)?;
        Ok(positions.broadcast_mul(&factors)?.broadcast_add(&beta)?.reshape(x.shape())?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    fn params(&self) -> Vec<Param> {
        vec![self.gamma.clone(), self.beta.clone()]
    }
}
