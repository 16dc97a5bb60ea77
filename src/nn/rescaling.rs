//! Layer that rescales values.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::Result;
use crate::check::check;

/// `x · scale + offset`: `Rescaling::new(1.0 / 255.0)` maps pixels to the range from 0 to 1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rescaling {
    pub(super) scale: f64,
    pub(super) offset: f64,
}

impl Rescaling {
    /// Multiplies by `scale`.
    pub fn new(scale: f64) -> Rescaling {
        Rescaling { scale, offset: 0.0 }
    }

    /// Sets the offset, which is added after scaling. Default: 0.
    pub fn offset(self, offset: f64) -> Rescaling {
        Rescaling { offset, ..self }
    }
}

impl Build for Rescaling {
    fn default_name(&self) -> &str {
        "rescaling"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        check("scale", self.scale, self.scale.is_finite(), "a finite number")?;
        check("offset", self.offset, self.offset.is_finite(), "a finite number")?;
        Ok(Arc::new(Built { config: *self, shape: context.inputs[0].to_vec() }))
    }
}

struct Built {
    config: Rescaling,
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Rescaling"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].affine(self.config.scale, self.config.offset)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
