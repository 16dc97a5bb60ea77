//! Asynchronous copies from the GPU to the CPU.

use std::sync::Arc;

use super::Array;
use super::driver::Context;
use super::pinned::Pinned;
use crate::Result;

/// A copy of an array to page-locked memory, which the GPU makes while the CPU continues.
pub struct Readback {
    context: Arc<Context>,
    /// `None` for no values, and after the buffer was given back.
    buffer: Option<Pinned>,
    len: usize,
}

impl Readback {
    pub(super) fn start(context: &Arc<Context>, array: &Array) -> Result<Readback> {
        let stream = context.stream()?;
        if array.len() == 0 {
            return Ok(Readback { context: context.clone(), buffer: None, len: 0 });
        }
        let buffer = context.pinned.acquire(context, array.bytes())?;
        // SAFETY: the buffer has at least `array.bytes()` bytes, and is reused or freed only after the copy.
        let status = unsafe {
            (context.driver.cuMemcpyDtoHAsync_v2)(buffer.values, array.pointer(), array.bytes(), stream)
        };
        let copied = context.check("cuMemcpyDtoHAsync", status).and_then(|()| buffer.record(context, stream));
        let readback = Readback { context: context.clone(), buffer: Some(buffer), len: array.len() };
        copied.map(|()| readback)
    }

    /// The values. Waits until the GPU has copied them.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] if work before the copy failed.
    pub fn values(&self) -> Result<Vec<f32>> {
        let Some(buffer) = &self.buffer else { return Ok(Vec::new()) };
        buffer.wait(&self.context)?;
        // SAFETY: after the copy, the buffer starts with `len` values.
        Ok(unsafe { std::slice::from_raw_parts(buffer.values.cast::<f32>(), self.len) }.to_vec())
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.context.pinned.release(&self.context, buffer);
        }
    }
}
