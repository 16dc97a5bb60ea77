//! The end of a residual block: its input and its output, added.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Build, Context, Layer, Mode};
use crate::{Error, Result};

/// The sum of all inputs, which have one shape.
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl Build for Add {
    fn stem(&self) -> &str {
        "add"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let first = context.inputs[0];
        if let Some(other) = context.inputs.iter().find(|shape| **shape != first) {
            return Err(Error::shape(context.name, format!("{first:?}, as the first input"), other, ""));
        }
        Ok(Arc::new(Built { shape: first.to_vec() }))
    }
}

struct Built {
    shape: Vec<usize>,
}

impl Layer for Built {
    fn kind(&self) -> &'static str {
        "Add"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let mut sum = inputs[0].clone();
        for other in &inputs[1..] {
            sum = (sum + *other)?;
        }
        Ok(sum)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
