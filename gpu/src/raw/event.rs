//! Events, which mark a position in a stream.

use std::sync::Arc;

use super::driver::Context;
use super::functions::Handle;
use crate::Result;

/// A position in a stream, for which another stream can wait.
pub(super) struct Event {
    context: Arc<Context>,
    handle: Handle,
}

// SAFETY: this value owns the event, and the driver's functions may be called from any thread.
unsafe impl Send for Event {}

impl Event {
    /// Creates an event that marks nothing yet.
    pub(super) fn new(context: &Arc<Context>) -> Result<Event> {
        Ok(Event { handle: context.event()?, context: context.clone() })
    }

    /// Marks the end of the work that was launched in a stream so far.
    pub(super) fn record(&self, stream: Handle) -> Result<()> {
        self.context.record(self.handle, stream)
    }

    /// Makes later work of a stream wait for the marked work. Does nothing before the first record.
    pub(super) fn wait(&self, stream: Handle) -> Result<()> {
        self.context.stream()?;
        // SAFETY: event and stream exist. No flags are set.
        let status = unsafe { (self.context.driver.cuStreamWaitEvent)(stream, self.handle, 0) };
        self.context.check("cuStreamWaitEvent", status)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // A failure means that the context is lost, which the next call reports.
        if self.context.stream().is_ok() {
            // SAFETY: the event is not used afterwards. The driver frees it when its work has ended.
            unsafe { (self.context.driver.cuEventDestroy_v2)(self.handle) };
        }
    }
}
