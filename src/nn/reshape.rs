//! Layers that change the shape of their input.

use std::sync::Arc;

use candle_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::{Error, Result};

/// Flattens each sample to a vector: `[N, C, H, W]` becomes `[N, C·H·W]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Flatten;

/// Reshapes each sample, with the same number of values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reshape {
    shape: Vec<usize>,
}

impl Reshape {
    /// Target shape of one sample, without the batch dimension. Another number of values is an error when the model is
    /// built.
    pub fn new(shape: impl Into<Shape>) -> Reshape {
        Reshape { shape: shape.into().into_dims() }
    }
}

impl Build for Reshape {
    fn default_name(&self) -> &str {
        "reshape"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let found = context.inputs[0];
        let values = self.shape.iter().try_fold(1usize, |values, side| values.checked_mul(*side));
        if values != Some(found.iter().product()) {
            let expected = format!("as many numbers as {:?} has", self.shape);
            return Err(Error::shape(context.name, expected, found, ""));
        }
        Ok(Arc::new(Reshaped { shape: self.shape.clone() }))
    }
}

struct Reshaped {
    shape: Vec<usize>,
}

impl Layer for Reshaped {
    fn kind(&self) -> &'static str {
        "Reshape"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let mut shape = vec![inputs[0].dim(0)?];
        shape.extend(&self.shape);
        Ok(inputs[0].reshape(shape)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

impl Build for Flatten {
    fn default_name(&self) -> &str {
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
