//! Pooling layers.

use std::sync::Arc;

use candle_core::{D, Tensor};

use super::conv::window_output;
use super::{Build, Context, Layer, Mode, Padding};
use crate::ops::MaxPool;
use crate::{Error, Result};

/// The largest value in each window.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, C, H', W']`.
#[derive(Clone, Copy, Debug)]
pub struct MaxPooling2D {
    pool_size: usize,
    strides: usize,
    padding: Padding,
}

impl MaxPooling2D {
    /// Square windows of `pool_size` pixels, side by side.
    pub fn new(pool_size: usize) -> MaxPooling2D {
        MaxPooling2D { pool_size, strides: pool_size, padding: Padding::Valid }
    }

    /// Sets how far the window moves, in pixels.
    pub fn strides(self, strides: usize) -> MaxPooling2D {
        MaxPooling2D { strides, ..self }
    }

    /// Sets what surrounds the picture; what is added never wins.
    pub fn padding(self, padding: Padding) -> MaxPooling2D {
        MaxPooling2D { padding, ..self }
    }
}

impl Build for MaxPooling2D {
    fn stem(&self) -> &str {
        "max_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let shape = window_output(&context, self.pool_size, self.strides, self.padding)?;
        let sides = [context.inputs[0][1], context.inputs[0][2]];
        let before = sides.map(|side| self.padding.amount(side, self.pool_size, self.strides).0);
        let op = MaxPool { size: self.pool_size, stride: self.strides, before, output: [shape[1], shape[2]] };
        Ok(Arc::new(Max { op, shape }))
    }
}

struct Max {
    op: MaxPool,
    shape: [usize; 3],
}

impl Layer for Max {
    fn kind(&self) -> &'static str {
        "MaxPooling2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].contiguous()?.apply_op1(self.op)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

/// The mean of each feature map: `[N, C, H, W]` becomes `[N, C]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAveragePooling2D;

/// The largest value of each feature map: `[N, C, H, W]` becomes `[N, C]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalMaxPooling2D;

impl Build for GlobalAveragePooling2D {
    fn stem(&self) -> &str {
        "global_average_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(GlobalAverage { shape: channels(&context)? }))
    }
}

impl Build for GlobalMaxPooling2D {
    fn stem(&self) -> &str {
        "global_max_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(GlobalMax { shape: channels(&context)? }))
    }
}

fn channels(context: &Context) -> Result<[usize; 1]> {
    match *context.inputs[0] {
        [channels, _, _] => Ok([channels]),
        _ => Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], "")),
    }
}

struct GlobalAverage {
    shape: [usize; 1],
}

impl Layer for GlobalAverage {
    fn kind(&self) -> &'static str {
        "GlobalAveragePooling2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].flatten_from(2)?.mean(D::Minus1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

struct GlobalMax {
    shape: [usize; 1],
}

impl Layer for GlobalMax {
    fn kind(&self) -> &'static str {
        "GlobalMaxPooling2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].flatten_from(2)?.max(D::Minus1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
