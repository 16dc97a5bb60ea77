//! Pooling layers.

use std::sync::Arc;

use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

use super::window_size::{WindowSize, window_output};
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
    pub(super) pool_size: WindowSize,
    pub(super) strides: WindowSize,
    pub(super) padding: Padding,
}

impl MaxPooling2D {
    /// Square windows of `pool_size` pixels: `2`, or `(2, 2)` as in Keras. Defaults: stride `pool_size`, no padding.
    pub fn new(pool_size: impl Into<WindowSize>) -> MaxPooling2D {
        let pool_size = pool_size.into();
        MaxPooling2D { pool_size, strides: pool_size, padding: Padding::Valid }
    }

    /// Sets the stride in pixels. Default: the pool size.
    pub fn strides(self, strides: impl Into<WindowSize>) -> MaxPooling2D {
        MaxPooling2D { strides: strides.into(), ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`]. Padded values are never the maximum.
    pub fn padding(self, padding: Padding) -> MaxPooling2D {
        MaxPooling2D { padding, ..self }
    }
}

impl Build for MaxPooling2D {
    fn default_name(&self) -> &str {
        "max_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let &[_, height, width] = context.inputs[0] else {
            return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
        };
        let sides = [height, width];
        let stride = effective_stride(self.pool_size, self.strides, self.padding, sides)?;
        let size = effective_size(self.pool_size.side(), self.padding, sides);
        let shape = window_output(&context, [size, size], stride, self.padding)?;
        let before = sides.map(|side| self.padding.amount(side, size, stride).0);
        let op = MaxPool { size, stride, before, output: [shape[1], shape[2]] };
        Ok(Arc::new(Max { op, shape }))
    }
}

/// The step of a square window, at most the padded image: a longer one has the same single position.
fn effective_stride(
    pool_size: WindowSize,
    strides: WindowSize,
    padding: Padding,
    sides: [usize; 2],
) -> Result<usize> {
    pool_size.check_square("pool_size")?;
    strides.check_square("strides")?;
    let padded = match padding {
        Padding::Explicit(padding) => padding.saturating_mul(2),
        Padding::Valid | Padding::Same => 0,
    };
    Ok(strides.side().min(padded.saturating_add(sides[0].max(sides[1]))))
}

/// The size of a window with the same pooled values, which is not much larger than the image. With
/// [`Padding::Same`], windows of twice the image's sides cover the whole image at each position.
fn effective_size(size: usize, padding: Padding, sides: [usize; 2]) -> usize {
    match padding {
        Padding::Same => size.min(2 * sides[0].max(sides[1])),
        Padding::Valid | Padding::Explicit(_) => size,
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
    pub(super) pool_size: WindowSize,
    pub(super) strides: WindowSize,
    pub(super) padding: Padding,
}

impl AveragePooling2D {
    /// Square windows of `pool_size` pixels: `2`, or `(2, 2)` as in Keras. Defaults: stride `pool_size`, no padding.
    pub fn new(pool_size: impl Into<WindowSize>) -> AveragePooling2D {
        let pool_size = pool_size.into();
        AveragePooling2D { pool_size, strides: pool_size, padding: Padding::Valid }
    }

    /// Sets the stride in pixels. Default: the pool size.
    pub fn strides(self, strides: impl Into<WindowSize>) -> AveragePooling2D {
        AveragePooling2D { strides: strides.into(), ..self }
    }

    /// Sets the padding. Default: [`Padding::Valid`]. The mean excludes padded values.
    pub fn padding(self, padding: Padding) -> AveragePooling2D {
        AveragePooling2D { padding, ..self }
    }
}

impl Build for AveragePooling2D {
    fn default_name(&self) -> &str {
        "average_pooling2d"
    }

    /// Builds the sum over a window as a depthwise convolution with ones.
    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [_, height, width] = *context.inputs[0] else {
            return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
        };
        let stride = effective_stride(self.pool_size, self.strides, self.padding, [height, width])?;
        let size = effective_size(self.pool_size.side(), self.padding, [height, width]);
        let sum = Conv2D::depthwise(size).strides(stride).padding(self.padding);
        let sum = sum.use_bias(false).kernel_initializer(Initializer::Ones);
        let (name, device) = (context.name, context.device);
        let sum = sum.build(context)?;
        sum.params().iter().for_each(|kernel| kernel.set_trainable(false));
        // Number of image pixels in each window, without the padding.
        let [_, rows, columns] = *sum.output_shape() else {
            unreachable!("a convolution's output is feature maps")
        };
        let held = |side: usize, at: usize| {
            let start = (at * stride) as isize - self.padding.amount(side, size, stride).0 as isize;
            (start + size as isize).min(side as isize) - start.max(0)
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
    fn default_name(&self) -> &str {
        "global_average_pooling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        Ok(Arc::new(GlobalAverage { shape: channels(&context)? }))
    }
}

impl Build for GlobalMaxPooling2D {
    fn default_name(&self) -> &str {
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
        let maps = inputs[0].flatten_from(2)?;
        // The gradient goes to the first maximum. That of candle's `max` goes to all equal maxima, each time in full.
        let maxima = maps.detach().argmax_keepdim(D::Minus1)?;
        Ok(maps.gather(&maxima, D::Minus1)?.squeeze(D::Minus1)?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
