//! Layers that rearrange values: permutation, concatenation, zero padding.

use std::ops::RangeInclusive;
use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode};
use crate::device::takes_cpu_path;
use crate::ops::{RotateAxes, apply1};
use crate::{Error, Result};

/// Permutes the dimensions of each sample, as Keras's `Permute`.
///
/// ```
/// use headstart::prelude::*;
/// let channels_last = sequential![Input::new((3, 8, 5)), Permute::new(&[2, 3, 1])]?;
/// assert_eq!(channels_last.output_shape(), [8, 5, 3]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Permute {
    pub(super) dims: Vec<usize>,
}

impl Permute {
    /// For each output dimension, the number of its input dimension, from 1: `[2, 1]` swaps the two dimensions after
    /// the batch.
    pub fn new(dims: &[usize]) -> Permute {
        Permute { dims: dims.to_vec() }
    }

    /// For each output dimension, the input dimension that it takes. Dimensions are numbered from 1, without the batch.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }
}

impl Build for Permute {
    fn default_name(&self) -> &str {
        "permute"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let input = context.inputs[0];
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(1..=input.len()) {
            let expected = format!("a permutation of 1 to {}", input.len());
            return Err(Error::Argument { name: "dims", expected, found: format!("{:?}", self.dims) });
        }
        let shape = self.dims.iter().map(|dim| input[dim - 1]).collect();
        Ok(Arc::new(Permuted { dims: self.dims.clone(), shape }))
    }
}

struct Permuted {
    dims: Vec<usize>,
    shape: Vec<usize>,
}

impl Layer for Permuted {
    fn kind(&self) -> &'static str {
        "Permute"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let (x, front) = (inputs[0], self.dims[0] - 1);
        let rotated = (0..self.dims.len()).map(|at| (at + front) % self.dims.len() + 1);
        if takes_cpu_path(x) && front > 0 && rotated.eq(self.dims.iter().copied()) {
            return Ok(apply1(&x.contiguous()?, RotateAxes { front })?);
        }
        let dims: Vec<usize> = std::iter::once(0).chain(self.dims.iter().copied()).collect();
        Ok(x.permute(dims)?.contiguous()?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Joins all inputs along one dimension.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Concatenate {
    axis: isize,
}

impl Default for Concatenate {
    /// Joins along the channels, axis 1: images are channels first here.
    fn default() -> Concatenate {
        Concatenate { axis: 1 }
    }
}

impl Concatenate {
    /// Sets the dimension, where 0 is the batch and -1 the last one. Default: 1, the channels of images.
    pub fn axis(self, axis: isize) -> Concatenate {
        Concatenate { axis }
    }

    /// The dimension, counted from the batch. `None` if there is no such dimension in inputs of this rank.
    pub(super) fn dimension(&self, rank: usize) -> Option<usize> {
        let dimension = if self.axis < 0 { self.axis + rank as isize + 1 } else { self.axis };
        usize::try_from(dimension).ok().filter(|dimension| (1..=rank).contains(dimension))
    }
}

impl Build for Concatenate {
    fn default_name(&self) -> &str {
        "concatenate"
    }

    fn input_counts(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let mut shape = context.inputs[0].to_vec();
        let Some(dimension) = self.dimension(shape.len()) else {
            let expected = format!("1 to {}, or -1, for inputs of shape {shape:?}", shape.len());
            return Err(Error::Argument { name: "axis", expected, found: self.axis.to_string() });
        };
        for other in &context.inputs[1..] {
            let mut expected = shape.clone();
            if other.len() == shape.len() {
                expected[dimension - 1] = other[dimension - 1];
            }
            if **other != *expected {
                let expected = format!("{shape:?}, as the first input, except in dimension {dimension}");
                return Err(Error::shape(context.name, expected, other, ""));
            }
            shape[dimension - 1] += other[dimension - 1];
        }
        Ok(Arc::new(Joined { dimension, shape }))
    }
}

struct Joined {
    dimension: usize,
    shape: Vec<usize>,
}

impl Layer for Joined {
    fn kind(&self) -> &'static str {
        "Concatenate"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(Tensor::cat(inputs, self.dimension)?.contiguous()?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Adds rows and columns of zeros around images.
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, C, H + 2 · rows, W + 2 · columns]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ZeroPadding2D {
    /// Rows above and below, columns left and right.
    pub(super) padding: [[usize; 2]; 2],
}

impl ZeroPadding2D {
    /// Adds `padding` pixels on each side.
    pub fn new(padding: usize) -> ZeroPadding2D {
        ZeroPadding2D::sides((padding, padding), (padding, padding))
    }

    /// Adds `(above, below)` rows and `(left, right)` columns.
    pub fn sides(rows: (usize, usize), columns: (usize, usize)) -> ZeroPadding2D {
        ZeroPadding2D { padding: [[rows.0, rows.1], [columns.0, columns.1]] }
    }
}

impl Build for ZeroPadding2D {
    fn default_name(&self) -> &str {
        "zero_padding2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [channels, height, width] = *context.inputs[0] else {
            return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
        };
        let [rows, columns] = self.padding.map(|[before, after]| before.checked_add(after));
        let sides =
            [rows.and_then(|rows| height.checked_add(rows)), columns.and_then(|c| width.checked_add(c))];
        let [Some(height), Some(width)] = sides else {
            let found = format!("{:?}", self.padding);
            return Err(Error::Argument { name: "padding", expected: "a smaller number".into(), found });
        };
        Ok(Arc::new(Padded { padding: self.padding, shape: [channels, height, width] }))
    }
}

struct Padded {
    padding: [[usize; 2]; 2],
    shape: [usize; 3],
}

impl Layer for Padded {
    fn kind(&self) -> &'static str {
        "ZeroPadding2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let [[above, below], [left, right]] = self.padding;
        Ok(inputs[0].pad_with_zeros(2, above, below)?.pad_with_zeros(3, left, right)?.contiguous()?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
