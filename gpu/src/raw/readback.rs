//! Values on their way from the GPU to the CPU.

use std::os::raw::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

use super::Array;
use super::driver::Context;
use super::functions::Handle;
use crate::Result;

/// A copy of an array to page-locked memory, which the GPU makes while the CPU goes on.
pub struct Readback {
    context: Arc<Context>,
    event: Handle,
    values: *mut c_void,
    len: usize,
}

// SAFETY: the driver's functions may be called from any thread, and the memory is this value's own.
unsafe impl Send for Readback {}

impl Readback {
    pub(super) fn start(context: &Arc<Context>, array: &Array) -> Result<Readback> {
        let (stream, bytes) = (context.stream()?, array.bytes());
        let mut readback =
            Readback { context: context.clone(), event: null_mut(), values: null_mut(), len: array.len() };
        // SAFETY: the memory has `bytes` bytes and is freed only after the copy (`Drop`).
        unsafe {
            let status = (context.driver.cuMemHostAlloc)(&mut readback.values, bytes.max(1), 0);
            context.check("cuMemHostAlloc", status)?;
            readback.event = context.event()?;
            let copy = (context.driver.cuMemcpyDtoHAsync_v2)(readback.values, array.pointer(), bytes, stream);
            context.check("cuMemcpyDtoHAsync", copy)?;
            context.check("cuEventRecord", (context.driver.cuEventRecord)(readback.event, stream))?;
        }
        Ok(readback)
    }

    /// The values. Waits until the GPU has copied them.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] if work before the copy failed.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.context.stream()?;
        // SAFETY: after the event, the memory holds `len` values.
        unsafe {
            self.context.check("cuEventSynchronize", (self.context.driver.cuEventSynchronize)(self.event))?;
            Ok(std::slice::from_raw_parts(self.values.cast::<f32>(), self.len).to_vec())
        }
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        // A failure here means that the context is lost, which the next call reports.
        let _ = self.context.stream();
        // SAFETY: the copy has ended when the event has, so the GPU does not write to freed memory.
        unsafe {
            if !self.event.is_null() {
                (self.context.driver.cuEventSynchronize)(self.event);
                (self.context.driver.cuEventDestroy_v2)(self.event);
            }
            if !self.values.is_null() {
                (self.context.driver.cuMemFreeHost)(self.values);
            }
        }
    }
}
