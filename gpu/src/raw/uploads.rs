//! Uploads that run while the GPU computes.

use std::sync::Arc;

use super::Array;
use super::driver::Context;
use super::event::Event;
use super::pinned::MAX_COPY;
use crate::Result;

/// Copies batches to the GPU, alternately to two arrays: while the GPU computes with one, the next batch is copied to the
/// other. The arrays grow to the size of the largest upload.
///
/// The copies have a stream of their own. Operations that are launched after an upload wait for its copy. A copy waits
/// for the operations that were launched before the previous upload, because they may read the array that it
/// overwrites.
pub struct Uploads {
    context: Arc<Context>,
    slots: [Slot; 2],
    /// The slot of the next upload.
    next: usize,
}

struct Slot {
    /// `None` before the first upload.
    array: Option<Array>,
    /// Marks the end of the operations that may read the array.
    used: Event,
    /// Marks the end of the copy to the array.
    copied: Event,
}

impl Uploads {
    pub(super) fn new(context: &Arc<Context>) -> Result<Uploads> {
        let slot = || Ok(Slot { array: None, used: Event::new(context)?, copied: Event::new(context)? });
        Ok(Uploads { context: context.clone(), slots: [slot()?, slot()?], next: 0 })
    }

    /// Starts to copy values. Operations that read the returned array must be launched before the next upload.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn upload(&mut self, values: &[f32]) -> Result<Array> {
        let (operations, copies) = (self.context.stream()?, self.context.copy_stream()?);
        self.slots[1 - self.next].used.record(operations)?;
        let slot = &mut self.slots[self.next];
        self.next = 1 - self.next;
        let array = match slot.array.take().filter(|array| array.len() >= values.len()) {
            Some(array) => array,
            None => {
                let array = Array::allocate(&self.context, values.len())?;
                // The copy must wait for the allocation, which is in the stream of operations.
                slot.used.record(operations)?;
                array
            }
        };
        let array = slot.array.insert(array);
        slot.used.wait(copies)?;
        let copied = copy(&self.context, values, array);
        // Also after a failure, because the stream of operations may free the array.
        let waits = slot.copied.record(copies).and_then(|()| slot.copied.wait(operations));
        copied.and(waits)?;
        array.part(0, values.len())
    }
}

/// Copies values to the start of an array, through page-locked memory.
fn copy(context: &Context, values: &[f32], array: &Array) -> Result<()> {
    let copies = context.copy_stream()?;
    for (number, part) in values.chunks(MAX_COPY / size_of::<f32>()).enumerate() {
        let bytes = size_of_val(part);
        let buffer = context.pinned.acquire(context, bytes)?;
        // SAFETY: the buffer has at least `bytes` bytes, and no copy uses it. It is reused only after this copy. The
        // array has at least as many values as `values`.
        let status = unsafe {
            std::ptr::copy_nonoverlapping(part.as_ptr().cast::<u8>(), buffer.values.cast::<u8>(), bytes);
            let to = array.pointer() + (number * MAX_COPY) as u64;
            (context.driver.cuMemcpyHtoDAsync_v2)(to, buffer.values, bytes, copies)
        };
        let copied = context.check("cuMemcpyHtoDAsync", status).and_then(|()| buffer.record(context, copies));
        context.pinned.release(context, buffer);
        copied?;
    }
    Ok(())
}
