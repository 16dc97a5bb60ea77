//! A pointer through which parallel tasks write disjoint parts of one buffer.

/// Raw pointer to a buffer that several tasks write.
pub(super) struct OutputPtr<T = f32>(pub(super) *mut T);

// SAFETY: the user guarantees that no two tasks write the same element.
unsafe impl<T: Send> Sync for OutputPtr<T> {}

impl<T> OutputPtr<T> {
    /// # Safety
    /// `offset` lies inside the allocation.
    pub(super) unsafe fn at(&self, offset: usize) -> *mut T {
        unsafe { self.0.add(offset) }
    }
}
