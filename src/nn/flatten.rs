//! From feature maps to a vector.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Build, Context, Layer, Mode};
use crate::Result;

/// Lays each sample out as one vector: `[N, C, H, W]` becomes `[N, C·H·W]`.
#[derive(Clone, Copy, Debug)]
pub struct Flatten;

impl Build for Flatten {
    fn stem(&self) -> &str {
        "flatten"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(Built { shape: [context.inputs[0].iter().product()] }))
    }
}

struct Built {
    shape: [usize; 1],
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Flatten"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].flatten_from(1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
