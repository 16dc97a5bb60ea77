//! Convolutions with operands in bfloat16.
//!
//! cuDNN computes them on tensor cores in NHWC. Values are stored as float32 in NCHW, so the operands are converted
//! before the convolution, and the result after it. One kernel changes type and layout together. In float32, cuDNN's
//! tensor core kernels change the layout themselves, in as many passes over values of twice the size.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Int};
use crate::raw::{Array, ConvKey, Direction, Gpu};
use crate::{Error, Output, Result};

/// Number of channels, and of pixels, that a block converts: `TILE` in `bfloat16.cu`.
const TILE: usize = 32;

/// Values in bfloat16. Two of them have the size of one value of an array.
struct BFloats {
    values: Array,
    /// Samples, channels and pixels.
    maps: [usize; 3],
}

impl BFloats {
    fn allocate(gpu: &Gpu, [n, channels, rows, columns]: [i32; 4]) -> Result<BFloats> {
        let maps = [n as usize, channels as usize, rows as usize * columns as usize];
        Ok(BFloats { values: gpu.array(maps.iter().product::<usize>().div_ceil(2))?, maps })
    }

    /// The number of values.
    fn count(&self) -> usize {
        self.maps.iter().product()
    }

    /// The number of blocks that convert the values.
    fn blocks(&self) -> usize {
        let [n, channels, inner] = self.maps;
        match channels == 1 || inner == 1 {
            true => self.count().div_ceil(TILE * TILE),
            false => n * channels.div_ceil(TILE) * inner.div_ceil(TILE),
        }
    }
}

impl Gpu {
    /// Computes one direction of a convolution in bfloat16. `operands` are input, kernel and output. Returns whether cuDNN
    /// supports it.
    pub(crate) fn convolve_in_bfloat16(
        &self,
        key: &ConvKey,
        direction: Direction,
        operands: [&Array; 3],
        output: Output,
    ) -> Result<bool> {
        if !self.has_algorithm(key, direction)? {
            return Ok(false);
        }
        let [_, _, result] = direction.order();
        let sides = [key.input, key.kernel, key.output];
        let [input, kernel, out] = sides.map(|sides| BFloats::allocate(self, sides));
        let converted = [input?, kernel?, out?];
        for (index, (operand, converted)) in operands.into_iter().zip(&converted).enumerate() {
            if index != result {
                self.float32_to_bfloat16(operand, converted)?;
            }
        }
        let values = converted.each_ref().map(|converted| &converted.values);
        match self.convolve(key, direction, values, Output::Replace) {
            Err(Error::Cuda { code: 3000..4000, .. }) => Ok(false),
            convolved => {
                convolved?;
                self.bfloat16_to_float32(&converted[result], operands[result], output)?;
                Ok(true)
            }
        }
    }

    fn float32_to_bfloat16(&self, x: &Array, y: &BFloats) -> Result<()> {
        const NAME: &str = "float32_to_bfloat16";
        let (count, [_, channels, inner]) = (y.count(), y.maps);
        let arguments = [
            A(x, count),
            A(&y.values, count.div_ceil(2)),
            Int(int(NAME, count)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
        ];
        self.launch_blocks(NAME, y.blocks(), &arguments)
    }

    fn bfloat16_to_float32(&self, x: &BFloats, y: &Array, output: Output) -> Result<()> {
        const NAME: &str = "bfloat16_to_float32";
        let (count, [_, channels, inner]) = (x.count(), x.maps);
        let arguments = [
            A(&x.values, count.div_ceil(2)),
            A(y, count),
            Int(int(NAME, count)?),
            Int(int(NAME, channels)?),
            Int(int(NAME, inner)?),
            Int(output.adds()),
        ];
        self.launch_blocks(NAME, x.blocks(), &arguments)
    }
}
