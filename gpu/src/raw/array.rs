//! Arrays in the GPU's memory.

use std::fmt;
use std::sync::Arc;

use super::driver::Context;
use super::functions::DevicePtr;
use crate::{Error, Result};

/// Bytes of one value: all are `f32` or `i32`.
const SIZE: usize = 4;

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

/// `f32` values in the GPU's memory, or a part of them. A clone shares the values.
///
/// The operations read and write in the order of the stream, so two of them never overlap.
#[derive(Clone)]
pub struct Array {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
}

/// `i32` values in the GPU's memory.
#[derive(Clone)]
pub struct Indices(pub(super) Array);

impl Array {
    pub(super) fn allocate(context: &Arc<Context>, len: usize) -> Result<Array> {
        let bytes =
            len.checked_mul(SIZE).ok_or_else(|| Error::argument("allocate", "a smaller length", len))?;
        let pointer = context.allocate(bytes)?;
        let memory = Memory { context: context.clone(), pointer };
        Ok(Array { memory: Arc::new(memory), start: 0, len })
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
        Ok(Array { memory: self.memory.clone(), start: self.start + start, len })
    }

    pub(super) fn pointer(&self) -> DevicePtr {
        self.memory.pointer + (self.start * SIZE) as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.len * SIZE
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
        write!(f, "Array of {} values", self.len)
    }
}

impl fmt::Debug for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Indices of {} values", self.0.len)
    }
}
