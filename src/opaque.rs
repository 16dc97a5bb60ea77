//! What keeps the cells of a notebook quick to compile.

use std::borrow::BorrowMut;
use std::ops::{Deref, DerefMut};

/// A value of which the crates that own it compile nothing, not even its end: how to drop a large
/// structure takes rustc a fifth of the time of a small cell, in each cell that names a variable of it.
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
