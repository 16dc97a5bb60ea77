//! Values in bfloat16, and convolutions with them.
//!
//! Their layout is NHWC, in which cuDNN uses tensor cores without a change of layout. A conversion changes type and layout
//! in one kernel. Weights are float32 and are converted for each convolution; their gradients are float32.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, BFloats as B, Int};
use crate::raw::{Array, ConvKey, Direction, Element, Gpu, is_unsupported};
use crate::{MapShape, Output, Precision, Result};

/// Number of channels, and of pixels, that a block converts: `TILE` in `bfloat16.cu`.
const TILE: usize = 32;

/// The position of the kernel among a convolution's operands.
const KERNEL: usize = 1;

/// The sizes of an operand of a convolution.
fn maps_of([batch, channels, rows, columns]: [i32; 4]) -> MapShape {
    MapShape { batch: batch as usize, channels: channels as usize, inner: rows as usize * columns as usize }
}

impl Gpu {
    /// Converts feature maps from one type to the other, and from the layout of one to that of the other.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if both have the same type; [`crate::Error::Length`] if an array is too short;
    /// [`crate::Error::Cuda`].
    pub fn convert(&self, x: &Array, y: &Array, maps: MapShape, output: Output) -> Result<()> {
        let (name, count) = ("convert", maps.count());
        let sizes = [
            Int(int(name, count)?),
            Int(int(name, maps.channels)?),
            Int(int(name, maps.inner)?),
            Int(output.adds()),
        ];
        let blocks = match maps.channels == 1 || maps.inner == 1 {
            true => count.div_ceil(TILE * TILE),
            false => maps.batch * maps.channels.div_ceil(TILE) * maps.inner.div_ceil(TILE),
        };
        let (kernel, operands) = match x.element() {
            Element::Float32 => ("float32_to_bfloat16", [A(x, count), B(y, count)]),
            Element::BFloat16 => ("bfloat16_to_float32", [B(x, count), A(y, count)]),
        };
        self.launch_blocks(kernel, blocks, &[&operands[..], &sizes].concat())
    }

    /// Converts feature maps to a new array of the other type.
    fn converted(&self, x: &Array, maps: MapShape) -> Result<Array> {
        let other = match x.element() {
            Element::Float32 => Element::BFloat16,
            Element::BFloat16 => Element::Float32,
        };
        let y = self.array_of(other, maps.count())?;
        self.convert(x, &y, maps, Output::Replace)?;
        Ok(y)
    }

    /// Computes one direction of a convolution. `operands` are input, kernel and output: input and output are bfloat16,
    /// the kernel is float32. A convolution that cuDNN does not support in bfloat16 is computed in TensorFloat-32.
    pub(crate) fn convolve_in_bfloat16(
        &self,
        key: &ConvKey,
        direction: Direction,
        operands: [&Array; 3],
        output: Output,
    ) -> Result<()> {
        if self.has_algorithm(key, direction)? {
            match self.try_in_bfloat16(key, direction, operands, output) {
                Err(error) if is_unsupported(&error) => {}
                computed => return computed,
            }
        }
        let [_, _, result] = direction.order();
        let sides = [key.input, key.kernel, key.output].map(maps_of);
        let mut wide = operands.map(Array::clone);
        for (index, operand) in wide.iter_mut().enumerate().filter(|(index, _)| *index != KERNEL) {
            *operand = match index == result {
                true => self.array(sides[index].count())?,
                false => self.converted(operand, sides[index])?,
            };
        }
        let key = ConvKey { precision: Precision::TensorFloat32, ..*key };
        let into = if result == KERNEL { output } else { Output::Replace };
        self.convolve(&key, direction, wide.each_ref(), into)?;
        match result == KERNEL {
            true => Ok(()),
            false => self.convert(&wide[result], operands[result], sides[result], output),
        }
    }

    /// Computes one direction with cuDNN's algorithms for bfloat16.
    fn try_in_bfloat16(
        &self,
        key: &ConvKey,
        direction: Direction,
        [x, w, y]: [&Array; 3],
        output: Output,
    ) -> Result<()> {
        let kernel = maps_of(key.kernel);
        if direction == Direction::BackwardFilter {
            let dw = self.array_of(Element::BFloat16, kernel.count())?;
            self.convolve(key, direction, [x, &dw, y], Output::Replace)?;
            return self.convert(&dw, w, kernel, output);
        }
        let w = self.converted(w, kernel)?;
        if output == Output::Replace {
            return self.convolve(key, direction, [x, &w, y], output);
        }
        // Not all of cuDNN's algorithms for bfloat16 can add to a result.
        let result = if direction == Direction::Forward { y } else { x };
        let part = self.array_of(Element::BFloat16, result.len())?;
        let operands = if direction == Direction::Forward { [x, &w, &part] } else { [&part, &w, y] };
        self.convolve(key, direction, operands, Output::Replace)?;
        self.affine(&part, result, 1.0, 0.0, Output::Add)
    }
}
