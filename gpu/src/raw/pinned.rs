//! Page-locked memory, for copies by the GPU that run while the CPU continues.

use std::os::raw::c_void;
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

use super::driver::Context;
use super::functions::Handle;
use crate::Result;

/// Maximum number of buffers that are kept for reuse (16: those of two training steps). Allocating or freeing one takes
/// as long as a training step.
const MAX_BUFFERS: usize = 16;
/// Largest copy through one buffer, in bytes (64 MiB: a large batch).
pub(super) const MAX_COPY: usize = 64 << 20;
/// Smallest buffer in bytes (64 KiB).
const MIN_BYTES: usize = 1 << 16;

/// A buffer of page-locked memory, with the event after its last copy.
pub(super) struct Pinned {
    pub(super) values: *mut c_void,
    bytes: usize,
    event: Handle,
}

// SAFETY: this value owns the memory and the event, and the driver's functions may be called from any thread.
unsafe impl Send for Pinned {}

/// Buffers for reuse.
#[derive(Default)]
pub(super) struct PinnedPool(Mutex<Vec<Pinned>>);

impl PinnedPool {
    /// A buffer of at least `bytes` bytes that no copy uses.
    pub(super) fn acquire(&self, context: &Context, bytes: usize) -> Result<Pinned> {
        context.stream()?;
        {
            let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_free = |buffer: &Pinned| {
                // SAFETY: the event exists as long as its buffer.
                buffer.bytes >= bytes && unsafe { (context.driver.cuEventQuery)(buffer.event) } == 0
            };
            let free = buffers.iter().enumerate().filter(|(_, buffer)| is_free(buffer));
            if let Some((index, _)) = free.min_by_key(|(_, buffer)| buffer.bytes) {
                return Ok(buffers.swap_remove(index));
            }
        }
        let bytes = bytes.next_power_of_two().max(MIN_BYTES);
        let mut buffer = Pinned { values: null_mut(), bytes, event: context.event()? };
        // SAFETY: the function writes one address.
        let status = unsafe { (context.driver.cuMemHostAlloc)(&mut buffer.values, bytes, 0) };
        match context.check("cuMemHostAlloc", status) {
            Ok(()) => Ok(buffer),
            Err(error) => {
                buffer.free(context);
                Err(error)
            }
        }
    }

    /// Keeps a buffer for reuse after its last copy. A full pool frees its smallest buffer, which fits the fewest copies.
    pub(super) fn release(&self, context: &Context, buffer: Pinned) {
        let dropped = {
            let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            buffers.push(buffer);
            let smallest = (0..buffers.len()).min_by_key(|index| buffers[*index].bytes);
            smallest.filter(|_| buffers.len() > MAX_BUFFERS).map(|index| buffers.swap_remove(index))
        };
        // It waits for its copy, so not with the lock.
        if let Some(buffer) = dropped {
            buffer.free(context);
        }
    }

    /// Frees all buffers.
    pub(super) fn clear(&self, context: &Context) {
        let buffers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        buffers.into_iter().for_each(|buffer| buffer.free(context));
    }
}

impl Pinned {
    /// Marks the end of a copy that was launched in a stream.
    pub(super) fn record(&self, context: &Context, stream: Handle) -> Result<()> {
        context.record(self.event, stream)
    }

    /// Waits for the last copy.
    pub(super) fn wait(&self, context: &Context) -> Result<()> {
        context.stream()?;
        // SAFETY: the event exists.
        context.check("cuEventSynchronize", unsafe { (context.driver.cuEventSynchronize)(self.event) })
    }

    fn free(self, context: &Context) {
        // A failure means that the context is lost, which the next call reports.
        let _ = self.wait(context);
        // SAFETY: the last copy has ended, and nothing has the address or the event any more.
        unsafe {
            (context.driver.cuEventDestroy_v2)(self.event);
            if !self.values.is_null() {
                (context.driver.cuMemFreeHost)(self.values);
            }
        }
    }
}
