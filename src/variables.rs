//! The variables that outlive their cell: evcxr's store of them, compiled once.
//!
//! evcxr writes the source of its store into each cell, which took half of rustc's time for a small
//! one. Headstart's kernel puts a `use` of this module there instead. Names and printed words are
//! those by which evcxr knows them; what need not know a variable's type is compiled here.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use headstart_frame::Frame;

/// Begins the line by which evcxr learns which variable has another type now.
pub const VARIABLE_CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// The line by which evcxr learns that a cell ended with an error.
pub const USER_ERROR_OCCURRED: &str = "EVCXR_ERROR_OCCURRED";

/// The line by which evcxr learns that a cell panicked.
pub const PANIC_NOTIFICATION: &str = "EVCXR_PANIC_NOTIFICATION";

/// Variables by name.
#[derive(Default)]
pub struct VariableStore(HashMap<String, Box<dyn Any>>);

impl VariableStore {
    /// Keeps a variable.
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    /// Whether a variable has this type, if there is one; says so if it has not.
    #[inline(never)] // cells share it
    pub fn check_variable<T: 'static>(&self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>())
    }

    /// Takes a variable out.
    ///
    /// # Panics
    /// When there is none, or none of this type.
    pub fn take_variable<T: 'static>(&mut self, name: &str) -> T {
        match self.take(name).downcast() {
            Ok(value) => *value,
            Err(_) => panic!("the variable `{name}` has another type"),
        }
    }

    /// What all cells share under a name, made by the first cell that asks for this type.
    ///
    /// A `:dep` can compile the crate of a type again, such as tokio's runtime: then it is another type.
    pub fn lazy_arc<T: 'static>(&mut self, name: &str, create: impl FnOnce() -> T) -> Arc<T> {
        if let Some(shared) = self.0.get(name).and_then(|shared| shared.downcast_ref::<Arc<T>>()) {
            return shared.clone();
        }
        let shared = Arc::new(create());
        let before = self.0.insert(name.to_owned(), Box::new(shared.clone()));
        // The code of its destructor may belong to a library that is no longer there.
        std::mem::forget(before);
        shared
    }

    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        self.0.insert(name.to_owned(), value);
    }

    fn check(&self, name: &str, expected: TypeId) -> bool {
        let is_expected = self.0.get(name).is_none_or(|value| (**value).type_id() == expected);
        if !is_expected {
            eprintln!("The type of the variable {name} was redefined, so was lost.");
            println!("{VARIABLE_CHANGED_TYPE}{name}");
        }
        is_expected
    }

    fn take(&mut self, name: &str) -> Box<dyn Any> {
        self.0.remove(name).unwrap_or_else(|| panic!("the variable `{name}` is not there"))
    }
}

/// The store that evcxr hands from cell to cell; the first cell gets null, and a new one here.
///
/// # Safety
/// It is null, or was made here and nobody else holds it.
pub unsafe fn variable_store(store: *mut VariableStore) -> &'static mut VariableStore {
    // SAFETY: the caller's promise.
    unsafe { store.as_mut() }.unwrap_or_else(|| Box::leak(Box::default()))
}

thread_local! {
    /// The values of variables that a cell was to define anew when it failed.
    static RESTORABLE: RefCell<VariableStore> = RefCell::default();
}

/// Keeps the value that a variable had before a cell that failed, until [`restore`].
pub fn save<T: 'static>(name: &str, value: T) {
    RESTORABLE.with_borrow_mut(|saved| saved.put_variable(name, value));
}

/// The value that a variable had before the cell that failed.
///
/// # Panics
/// When none was saved, or one of another type.
pub fn restore<T: 'static>(name: &str) -> T {
    RESTORABLE.with_borrow_mut(|saved| saved.take_variable(name))
}

/// Runs a cell that takes variables, and says so if it panics. Returns whether the cell succeeded.
#[inline] // or rustc makes an object of its own of it
pub fn run_cell<E, F: FnOnce() -> Result<(), E>>(cell: F) -> bool {
    let mut cell = ManuallyDrop::new(cell);
    run_once((&raw mut cell).cast(), |cell| {
        // SAFETY: this is called once, with the place of the `F` above, which nobody else reads.
        let cell = unsafe { cell.cast::<F>().read() };
        cell().is_ok()
    })
}

/// A function and what it is called with are less to compile than a closure of any type.
fn run_once(cell: *mut (), call: fn(*mut ()) -> bool) -> bool {
    run(&mut || call(cell))
}

/// As [`run_cell`], for a cell that takes none: nothing of this is compiled in it.
#[inline(never)] // cells share it
pub fn run_alone<E>(store: &mut VariableStore, cell: fn(&mut VariableStore) -> Result<(), E>) -> bool {
    run(&mut || cell(store).is_ok())
}

fn run(cell: &mut dyn FnMut() -> bool) -> bool {
    std::panic::catch_unwind(AssertUnwindSafe(cell)).unwrap_or_else(|_| {
        println!("{PANIC_NOTIFICATION}");
        false
    })
}

/// What the errors of a cell become: words for its user.
pub struct EvcxrUserCodeError {}

impl<T: Display> From<T> for EvcxrUserCodeError {
    fn from(error: T) -> EvcxrUserCodeError {
        EvcxrUserCodeError::of(format_args!("{error}"))
    }
}

impl EvcxrUserCodeError {
    fn of(error: fmt::Arguments) -> EvcxrUserCodeError {
        println!("{}", Frame::Failed { message: error.to_string() }.encode());
        EvcxrUserCodeError {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_as_it_was_put() {
        let mut store = VariableStore::default();
        store.put_variable("n", vec![1, 2]);
        assert!(store.check_variable::<Vec<i32>>("n") && store.check_variable::<u8>("m"));
        assert!(!store.check_variable::<Vec<u8>>("n"));
        assert_eq!(store.take_variable::<Vec<i32>>("n"), [1, 2]);
    }

    #[test]
    fn what_is_shared_is_made_once() {
        let mut store = VariableStore::default();
        let first = store.lazy_arc("a", || 1);
        assert!(Arc::ptr_eq(&first, &store.lazy_arc("a", || 2)));
        assert_eq!(*store.lazy_arc("a", || "of another type"), "of another type");
        assert_eq!(*store.lazy_arc("a", || "new"), "of another type");
    }

    #[test]
    fn a_cell_tells_whether_it_succeeded() {
        assert!(run_cell(|| Ok::<(), ()>(())));
        assert!(!run_cell(|| Err(())));
        assert!(!run_cell(|| -> Result<(), ()> { panic!("a cell's panic") }));
        assert!(run_alone(&mut VariableStore::default(), |_| Ok::<(), ()>(())));
    }

    #[test]
    fn a_saved_value_is_restored() {
        save("n", vec![1]);
        assert_eq!(restore::<Vec<i32>>("n"), [1]);
    }

    #[test]
    #[should_panic(expected = "`n` is not there")]
    fn a_variable_that_is_not_there_cannot_be_taken() {
        VariableStore::default().take_variable::<i32>("n");
    }
}
