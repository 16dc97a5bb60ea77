//! Arrays in the GPU's memory.

use std::fmt;
use std::sync::Arc;

use super::driver::Context;
use super::functions::DevicePtr;
use crate::{Error, Result};

/// The type of an array's values, and with it the layout of feature maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Element {
    /// `f32`, in NCHW.
    #[default]
    Float32,
    /// bfloat16, in NHWC: the layout of cuDNN's kernels for tensor cores.
    BFloat16,
}

impl Element {
    /// Bytes of one value.
    fn size(self) -> usize {
        if self == Element::BFloat16 { 2 } else { 4 }
    }

    /// Channels and pixels of feature maps as the kernels take them: a matrix of pixels and channels has one pixel.
    pub(crate) fn sides(self, [channels, inner]: [usize; 2]) -> [usize; 2] {
        if self == Element::BFloat16 { [channels, 1] } else { [channels, inner] }
    }

    /// The number of channels for the kernels with windows, which see NCHW as feature maps with one channel.
    pub(crate) fn interleaved(self, channels: usize) -> usize {
        if self == Element::BFloat16 { channels } else { 1 }
    }
}

/// Memory that is freed when its last array is dropped, after the work already on the stream.
struct Memory {
    context: Arc<Context>,
    pointer: DevicePtr,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the address is from `allocate`, and no array uses it any more.
        unsafe { self.context.free(self.pointer) };
    }
}

/// Values in the GPU's memory, or a part of them. A clone shares the values.
///
/// The operations read and write in the order of the stream, so two of them never overlap.
#[derive(Clone)]
pub struct Array {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
    element: Element,
}

/// `i32` values in the GPU's memory.
#[derive(Clone)]
pub struct Indices(pub(super) Array);

impl Array {
    pub(super) fn allocate(context: &Arc<Context>, len: usize) -> Result<Array> {
        Array::allocate_of(context, Element::Float32, len)
    }

    pub(super) fn allocate_of(context: &Arc<Context>, element: Element, len: usize) -> Result<Array> {
        let bytes = len.checked_mul(element.size());
        let bytes = bytes.ok_or_else(|| Error::argument("allocate", "a smaller length", len))?;
        let pointer = context.allocate(bytes)?;
        let memory = Memory { context: context.clone(), pointer };
        Ok(Array { memory: Arc::new(memory), start: 0, len, element })
    }

    /// The type of the values.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The number of values.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A part of the values, shared.
    ///
    /// # Errors
    /// [`Error::Length`] if the part ends beyond the array.
    pub fn part(&self, start: usize, len: usize) -> Result<Array> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            let (expected, found) = (start.saturating_add(len), self.len);
            return Err(Error::Length { operation: "part", operand: "array", expected, found });
        }
        Ok(Array { memory: self.memory.clone(), start: self.start + start, len, element: self.element })
    }

    pub(super) fn pointer(&self) -> DevicePtr {
        self.memory.pointer + (self.start * self.element.size()) as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.len * self.element.size()
    }

    /// Checks the type of the values.
    pub(super) fn check_element(&self, operation: &'static str, expected: Element) -> Result<()> {
        match self.element == expected {
            true => Ok(()),
            false => Err(Error::argument(operation, format!("{expected:?} values"), format!("{self:?}"))),
        }
    }

    /// Checks that the array has at least `expected` values.
    pub(super) fn check(
        &self,
        operation: &'static str,
        operand: &'static str,
        expected: usize,
    ) -> Result<()> {
        if self.len >= expected {
            return Ok(());
        }
        Err(Error::Length { operation, operand, expected, found: self.len })
    }
}

impl Indices {
    /// The number of values.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array of {} {:?} values", self.len, self.element)
    }
}

impl fmt::Debug for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Indices of {} values", self.0.len)
    }
}
