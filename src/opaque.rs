//! Type erasure that keeps notebook cells fast to compile.

use std::borrow::BorrowMut;
use std::ops::{Deref, DerefMut};

/// A boxed value whose drop code is compiled only in this crate.
///
/// Without it, rustc compiles the drop glue of a large structure in each cell that has such a variable.
/// This takes a fifth of the compile time of a small cell.
pub(crate) struct Opaque<T: 'static>(Box<dyn BorrowMut<T> + Send + Sync>);

impl<T: Send + Sync> From<T> for Opaque<T> {
    fn from(value: T) -> Opaque<T> {
        Opaque(Box::new(value))
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        (*self.0).borrow()
    }
}

impl<T> DerefMut for Opaque<T> {
    fn deref_mut(&mut self) -> &mut T {
        (*self.0).borrow_mut()
    }
}
