//! Pooling layers.

use std::sync::Arc;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::conv::window_output;
use super::{Build, Context, Conv2D, Initializer, Layer, Mode, Padding};
use crate::device::takes_cpu_path;
use crate::ops::{MaxPool, apply1};
use crate::{Error, Result};

/// Max pooling: the largest value in each window.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, C, H', W']`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct MaxPooling2D {
    pub(super) pool_size: usize,
    pub(super) strides: usize,
    pub(super) padding: Padding,
}

impl MaxPooling2D {
    /// Square windows of `pool_size` pixels. Defaults: stride `pool_size`, no padding.
    pub fn new(pool_size: usize) -> MaxPooling2D {
        MaxPooling2D { pool_size, strides: pool_size, padding: Padding::Valid }
    }

    /// Sets the stride in pixels. Default: the pool size.
    pub fn strides(self, strides: usize) -> MaxPooling2D {
        MaxPooling2D { strides, ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`]. Padded values are never the maximum.
    pub fn padding(self, padding: Padding) -> MaxPooling2D {
        MaxPooling2D { padding, ..self }
    }
}

impl Build for MaxPooling2D {
    fn stem(&self) -> &str {
        "max_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let shape = window_output(&context, [self.pool_size; 2], self.strides, self.padding)?;
        let sides = [context.inputs[0][1], context.inputs[0][2]];
        let before = sides.map(|side| self.padding.amount(side, self.pool_size, self.strides).0);
        let op = MaxPool { size: self.pool_size, stride: self.strides, before, output: [shape[1], shape[2]] };
        Ok(Arc::new(Max { op, shape }))
    }
}

pub(super) struct Max {
    op: MaxPool,
    shape: [usize; 3],
}

impl Layer for Max {
    fn kind(&self) -> &'static str {
        "MaxPooling2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let x = inputs[0];
        if takes_cpu_path(x) && !x.track_op() {
            return Ok(self.op.apply_without_gradient(x)?);
        }
        let x = x.contiguous()?;
        Ok(if takes_cpu_path(&x) { apply1(&x, self.op)? } else { self.op.apply_on_device(&x)? })
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Average pooling: the mean of each window.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, C, H', W']`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AveragePooling2D {
    pub(super) pool_size: usize,
    pub(super) strides: usize,
    pub(super) padding: Padding,
}

impl AveragePooling2D {
    /// Square windows of `pool_size` pixels. Defaults: stride `pool_size`, no padding.
    pub fn new(pool_size: usize) -> AveragePooling2D {
        AveragePooling2D { pool_size, strides: pool_size, padding: Padding::Valid }
    }

    /// Sets the stride in pixels. Default: the pool size.
    pub fn strides(self, strides: usize) -> AveragePooling2D {
        AveragePooling2D { strides, ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`]. The mean excludes padded values.
    pub fn padding(self, padding: Padding) -> AveragePooling2D {
        AveragePooling2D { padding, ..self }
    }
}

impl Build for AveragePooling2D {
    fn stem(&self) -> &str {
        "average_pooling2d"
    }

    /// Builds the sum over a window as a depthwise convolution with ones.
    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [_, height, width] = *context.inputs[0] else {
            return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
        };
        let sum = Conv2D::depthwise(self.pool_size).strides(self.strides).padding(self.padding);
        let sum = sum.use_bias(false).kernel_initializer(Initializer::Ones);
        let (name, device) = (context.name, context.device);
        let sum = sum.build(context)?;
        sum.params().iter().for_each(|kernel| kernel.set_trainable(false));
        // Number of image pixels in each window, without the padding.
        let [_, rows, columns] = *sum.output_shape() else { unreachable!("a convolution's output is maps") };
        let held = |side: usize, at: usize| {
            let start = (at * self.strides) as isize
                - self.padding.amount(side, self.pool_size, self.strides).0 as isize;
            (start + self.pool_size as isize).min(side as isize) - start.max(0)
        };
        let counts = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let counts: Vec<f32> = counts.map(|(r, c)| (held(height, r) * held(width, c)) as f32).collect();
        if counts.contains(&0.0) {
            let found = format!("{:?}", self.padding);
            return Err(Error::Argument {
                name: "padding",
                expected: format!("of {name}: less than a window"),
                found,
            });
        }
        let counts = Tensor::from_vec(counts, (1, 1, rows, columns), device)?;
        Ok(Arc::new(Average { sum, counts }))
    }
}

struct Average {
    sum: Arc<dyn Layer>,
    counts: Tensor,
}

impl Layer for Average {
    fn kind(&self) -> &'static str {
        "AveragePooling2D"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        Ok(self.sum.forward(inputs, mode)?.broadcast_div(&self.counts)?)
    }

    fn output_shape(&self) -> &[usize] {
        self.sum.output_shape()
    }
}

/// The mean of each feature map: `[N, C, H, W]` becomes `[N, C]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GlobalAveragePooling2D;

/// The largest value of each feature map: `[N, C, H, W]` becomes `[N, C]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
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
        let x = inputs[0].flatten_from(2)?.contiguous()?;
        // candle's maximum passes the whole gradient to each of several equal values, PyTorch's to one.
        let first = x.argmax_keepdim(D::Minus1)?;
        Ok(x.gather(&first, D::Minus1)?.squeeze(D::Minus1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
