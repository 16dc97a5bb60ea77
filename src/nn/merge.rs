//! Layers that merge branches: sum and product.

use std::ops::RangeInclusive;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::device::takes_cpu_path;
use crate::ops::{Addition, apply2};
use crate::{Error, Result};

/// Elementwise sum of all inputs, which have the same shape: the end of a residual block.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Add;

/// Elementwise product of all inputs, broadcast to the shape of the first. A dimension of the others may be 1: so
/// feature maps are multiplied by one number per channel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Multiply;

impl Build for Add {
    fn default_name(&self) -> &str {
        "add"
    }

    fn input_counts(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let first = context.inputs[0];
        if let Some(other) = context.inputs.iter().find(|shape| **shape != first) {
            return Err(Error::shape(context.name, format!("{first:?}, as the first input"), other, ""));
        }
        Ok(Arc::new(Sum { shape: first.to_vec() }))
    }
}

impl Build for Multiply {
    fn default_name(&self) -> &str {
        "multiply"
    }

    fn input_counts(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let first = context.inputs[0];
        let fits = |shape: &[usize]| {
            shape.len() == first.len()
                && shape.iter().zip(first).all(|(size, whole)| *size == 1 || size == whole)
        };
        if let Some(other) = context.inputs.iter().find(|shape| !fits(shape)) {
            let expected = format!("{first:?}, as the first input, or 1 in place of its sizes");
            return Err(Error::shape(context.name, expected, other, ""));
        }
        Ok(Arc::new(Product { shape: first.to_vec() }))
    }
}

pub(super) struct Sum {
    shape: Vec<usize>,
}

impl Sum {
    /// The sum of two inputs with a fused ReLU, on the CPU path.
    pub(super) fn forward_with_relu(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        Ok(apply2(&a.contiguous()?, &b.contiguous()?, Addition { relu: true })?)
    }
}

impl Layer for Sum {
    fn kind(&self) -> &'static str {
        "Add"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let mut sum = inputs[0].clone();
        for other in &inputs[1..] {
            sum = match takes_cpu_path(&sum) {
                true => apply2(&sum.contiguous()?, &other.contiguous()?, Addition { relu: false })?,
                false => (sum + *other)?,
            };
        }
        Ok(sum)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

struct Product {
    shape: Vec<usize>,
}

impl Layer for Product {
    fn kind(&self) -> &'static str {
        "Multiply"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let mut product = inputs[0].clone();
        for other in &inputs[1..] {
            product = product.broadcast_mul(other)?;
        }
        Ok(product)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
