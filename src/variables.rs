//! The store of variables that persist between cells: evcxr's store, compiled once.
//!
//! evcxr writes the source of its store into each cell, which takes half of rustc's time for a small
//! cell. Headstart's kernel replaces that source by a `use` of this module. Names and messages are those
//! that evcxr expects. Code that does not depend on a variable's type is compiled here.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use headstart_frame::Frame;

use crate::{Error, check_interrupt};

/// Interval at which an awaiting cell checks for an interrupt (50 ms).
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);

/// Prefix of the line that tells evcxr which variable has changed its type.
pub const VARIABLE_CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// The line that tells evcxr that a cell ended with an error.
pub const USER_ERROR_OCCURRED: &str = "EVCXR_ERROR_OCCURRED";

/// The line that tells evcxr that a cell panicked.
pub const PANIC_NOTIFICATION: &str = "EVCXR_PANIC_NOTIFICATION";

/// Fingerprints of the types that cells define, by the names of variables: of those that a cell checks, and of those
/// that it stores.
pub type Definitions = [&'static [(&'static str, u64)]; 2];

/// Variables by name.
#[derive(Default)]
pub struct VariableStore {
    values: HashMap<String, Box<dyn Any>>,
    /// Fingerprints of the definitions with which variables were stored.
    stored: HashMap<String, u64>,
    /// Fingerprints of the running cell's definitions.
    definitions: Definitions,
}

/// The fingerprint of a variable's type.
fn fingerprint(known: &[(&str, u64)], name: &str) -> Option<u64> {
    known.iter().find(|(known, _)| *known == name).map(|(_, fingerprint)| *fingerprint)
}

impl VariableStore {
    /// Stores a variable.
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    /// Returns whether the variable has this type. Prints a message for evcxr if the type differs or the variable does
    /// not exist.
    #[inline(never)] // compiled once, not in each cell
    pub fn check_variable<T: 'static>(&self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>())
    }

    /// Removes a variable and returns it.
    ///
    /// # Panics
    /// Panics if the variable does not exist or has another type.
    pub fn take_variable<T: 'static>(&mut self, name: &str) -> T {
        match self.take(name).downcast() {
            Ok(value) => *value,
            Err(_) => panic!("the variable `{name}` has another type"),
        }
    }

    /// Returns the value that all cells share under a name. It is created by the first cell that asks
    /// for this type.
    ///
    /// After a `:dep`, the crate of a type, such as tokio's runtime, may be compiled again. The type is
    /// then a different one.
    pub fn lazy_arc<T: 'static>(&mut self, name: &str, create: impl FnOnce() -> T) -> Arc<T> {
        if let Some(shared) = self.values.get(name).and_then(|shared| shared.downcast_ref::<Arc<T>>()) {
            return shared.clone();
        }
        let shared = Arc::new(create());
        let before = self.values.insert(name.to_owned(), Box::new(shared.clone()));
        // The code of its destructor may belong to a library that is unloaded.
        std::mem::forget(before);
        shared
    }

    /// The variables and their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &dyn Any)> {
        self.values.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        match fingerprint(self.definitions[1], name) {
            Some(fingerprint) => self.stored.insert(name.to_owned(), fingerprint),
            None => self.stored.remove(name),
        };
        self.values.insert(name.to_owned(), value);
    }

    fn check(&self, name: &str, expected: TypeId) -> bool {
        let definition = fingerprint(self.definitions[0], name);
        let stored = self.stored.get(name);
        // The type ids of a type do not differ if only the types of its fields do.
        let is_redefined =
            definition.is_some_and(|definition| stored.is_some_and(|stored| *stored != definition));
        let is_expected = match self.values.get(name) {
            Some(value) => (**value).type_id() == expected && !is_redefined,
            None => false,
        };
        if !is_expected {
            match self.values.contains_key(name) {
                true => eprintln!("The type of the variable {name} was redefined, so was lost."),
                false => {
                    eprintln!("The variable {name} does not exist: its cell ended before it was stored.")
                }
            }
            println!("{VARIABLE_CHANGED_TYPE}{name}");
        }
        is_expected
    }

    fn take(&mut self, name: &str) -> Box<dyn Any> {
        self.values.remove(name).unwrap_or_else(|| panic!("the variable `{name}` is not there"))
    }
}

/// Returns the store that evcxr passes from cell to cell. The first cell passes null and gets a new
/// store.
///
/// # Safety
/// `store` is null, or was returned by this function and has no other reference.
pub unsafe fn variable_store(store: *mut VariableStore) -> &'static mut VariableStore {
    // SAFETY: guaranteed by the caller.
    unsafe { checked_store(store, &[&[], &[]]) }
}

/// Like [`variable_store`], for a cell with variables of types that cells define.
///
/// # Safety
/// As for [`variable_store`].
pub unsafe fn checked_store(
    store: *mut VariableStore,
    definitions: &Definitions,
) -> &'static mut VariableStore {
    // SAFETY: guaranteed by the caller.
    let store = unsafe { store.as_mut() }.unwrap_or_else(|| Box::leak(Box::default()));
    STORE.store(store, Ordering::SeqCst);
    store.definitions = *definitions;
    store
}

/// The store of the running cell.
static STORE: AtomicPtr<VariableStore> = AtomicPtr::new(std::ptr::null_mut());
/// Name under which evcxr stores tokio's runtime. Dropping it would wait for its tasks.
const RUNTIME: &str = "evcxr_tokio_runtime";
/// Longest time that destructors may take at the end of the process, in seconds: then SIGALRM ends it.
const EXIT_TIMEOUT_S: u32 = 5;

unsafe extern "C" {
    safe fn alarm(seconds: u32) -> u32;
}

/// Drops all variables, as at the end of a program's `main`: files are flushed and temporary folders removed. Called by
/// the kernel, also through its symbol name, before the cells' process ends.
#[unsafe(no_mangle)]
pub extern "C" fn headstart_drop_variables() {
    alarm(EXIT_TIMEOUT_S);
    // SAFETY: the store is never freed, and the kernel's cell and process use it only here.
    let Some(store) = (unsafe { STORE.swap(std::ptr::null_mut(), Ordering::SeqCst).as_mut() }) else {
        return;
    };
    for (name, value) in std::mem::take(&mut store.values) {
        if name == RUNTIME {
            std::mem::forget(value);
            continue;
        }
        // A panic in one destructor must not prevent the others.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

thread_local! {
    /// Values from before a failed cell, for variables that the cell would have redefined.
    static RESTORABLE: RefCell<VariableStore> = RefCell::default();
    /// Whether the running cell has reached the end of its code.
    static IS_AT_END: Cell<bool> = const { Cell::new(false) };
}

/// Saves the value that a variable had before a failed cell, for [`restore`].
pub fn save<T: 'static>(name: &str, value: T) {
    RESTORABLE.with_borrow_mut(|saved| saved.put_variable(name, value));
}

/// Returns the saved value that a variable had before a failed cell.
///
/// # Panics
/// Panics if no value was saved, or if it has another type.
pub fn restore<T: 'static>(name: &str) -> T {
    RESTORABLE.with_borrow_mut(|saved| saved.take_variable(name))
}

/// Runs a cell that takes variables, and reports a panic to evcxr. Returns whether the cell succeeded.
#[inline] // otherwise rustc creates a separate object file for it
pub fn run_cell<E, F: FnOnce() -> Result<(), E>>(cell: F) -> bool {
    let mut cell = ManuallyDrop::new(cell);
    run_once((&raw mut cell).cast(), |cell| {
        // SAFETY: called once, with the address of the `F` above, which is not read elsewhere.
        let cell = unsafe { cell.cast::<F>().read() };
        cell().is_ok()
    })
}

/// Takes a function and its argument, which need less code to compile than a generic closure.
fn run_once(cell: *mut (), call: fn(*mut ()) -> bool) -> bool {
    run(&mut || call(cell))
}

/// Like [`run_cell`], for a cell that takes no variables. The cell compiles none of this code.
#[inline(never)] // compiled once, not in each cell
pub fn run_alone<E>(store: &mut VariableStore, cell: fn(&mut VariableStore) -> Result<(), E>) -> bool {
    run(&mut || cell(store).is_ok())
}

/// Runs a cell that may await, until its future has a result or the user interrupts it. `runtime` keeps
/// tokio's runtime entered meanwhile. Returns whether the cell succeeded.
pub fn run_async<R, E>(_runtime: &R, mut cell: Pin<&mut dyn Future<Output = Result<(), E>>>) -> bool {
    run(&mut || drive(&mut |context| cell.as_mut().poll(context).map(|result| result.is_ok())))
}

/// Polls until there is a result. tokio's `block_on` has the same effect, but it is generic, so each cell
/// would compile it.
fn drive(poll: &mut dyn FnMut(&mut Context) -> Poll<bool>) -> bool {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(succeeded) = poll(&mut context) {
            return succeeded;
        }
        if check_interrupt().is_err() {
            let _ = EvcxrUserCodeError::from(Error::Interrupted);
            return false;
        }
        std::thread::park_timeout(INTERRUPT_INTERVAL);
    }
}

fn run(cell: &mut dyn FnMut() -> bool) -> bool {
    IS_AT_END.set(false);
    let succeeded = std::panic::catch_unwind(AssertUnwindSafe(cell)).unwrap_or_else(|_| {
        println!("{PANIC_NOTIFICATION}");
        false
    });
    if succeeded && !IS_AT_END.get() {
        // A `return` has skipped the lines that store variables.
        println!("{}", Frame::Returned.encode());
    }
    succeeded && IS_AT_END.get()
}

/// The end of a cell's code.
pub fn ends<E>() -> Result<(), E> {
    IS_AT_END.set(true);
    Ok(())
}

/// Converts the errors of a cell to messages for the user.
pub struct EvcxrUserCodeError {}

impl<T: Display> From<T> for EvcxrUserCodeError {
    /// Called by `?`, whose position is that of the caller.
    #[track_caller]
    fn from(error: T) -> EvcxrUserCodeError {
        // The alternate form has the causes of an error of anyhow or eyre, too.
        EvcxrUserCodeError::of(format_args!("{error:#}"), Location::caller())
    }
}

impl EvcxrUserCodeError {
    fn of(error: fmt::Arguments, place: &Location) -> EvcxrUserCodeError {
        let (message, file, line) = (error.to_string(), place.file().to_owned(), place.line());
        println!("{}", Frame::Failed { message, file, line }.encode());
        EvcxrUserCodeError {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_is_returned_unchanged() {
        let mut store = VariableStore::default();
        store.put_variable("n", vec![1, 2]);
        assert!(store.check_variable::<Vec<i32>>("n") && !store.check_variable::<u8>("m"));
        assert!(!store.check_variable::<Vec<u8>>("n"));
        assert_eq!(store.take_variable::<Vec<i32>>("n"), [1, 2]);
    }

    #[test]
    fn variables_are_dropped_at_the_end() {
        struct Noted(std::sync::mpsc::Sender<&'static str>);
        impl Drop for Noted {
            fn drop(&mut self) {
                let _ = self.0.send("dropped");
                panic!("a destructor's panic");
            }
        }
        let (send, receive) = std::sync::mpsc::channel();
        // SAFETY: a null pointer.
        let store = unsafe { variable_store(std::ptr::null_mut()) };
        for name in ["a", "b", RUNTIME] {
            store.put_variable(name, Noted(send.clone()));
        }
        headstart_drop_variables();
        assert_eq!(receive.try_iter().count(), 2);
        alarm(0);
    }

    #[test]
    fn shared_value_is_created_once() {
        let mut store = VariableStore::default();
        let first = store.lazy_arc("a", || 1);
        assert!(Arc::ptr_eq(&first, &store.lazy_arc("a", || 2)));
        assert_eq!(*store.lazy_arc("a", || "of another type"), "of another type");
        assert_eq!(*store.lazy_arc("a", || "new"), "of another type");
    }

    #[test]
    fn a_variable_of_a_redefined_type_is_lost() {
        let definitions = |fingerprint: u64| -> Definitions {
            let known: &'static [(&str, u64)] = vec![("p", fingerprint)].leak();
            [known, known]
        };
        let mut store = VariableStore { definitions: definitions(1), ..VariableStore::default() };
        store.put_variable("p", 5);
        assert!(store.check_variable::<i32>("p"));
        store.definitions = definitions(2);
        assert!(!store.check_variable::<i32>("p"));
        store.put_variable("p", 6);
        assert!(store.check_variable::<i32>("p"));
        store.definitions = [&[], &[]];
        assert!(store.check_variable::<i32>("p"), "a cell that does not know the definition");
    }

    #[test]
    fn run_cell_returns_whether_the_cell_reached_its_end() {
        assert!(run_cell(ends::<()>));
        assert!(!run_cell(|| Ok::<(), ()>(())), "a `return`");
        assert!(!run_cell(|| Err(())));
        assert!(!run_cell(|| -> Result<(), ()> { panic!("a cell's panic") }));
        assert!(run_alone(&mut VariableStore::default(), |_| ends::<()>()));
    }

    #[test]
    fn a_future_is_driven_by_its_waker() {
        let (send, receive) = std::sync::mpsc::channel::<Waker>();
        let waking = std::thread::spawn(move || receive.iter().for_each(|waker| waker.wake()));
        let mut polls = 0;
        let counted = std::future::poll_fn(|context| {
            polls += 1;
            send.send(context.waker().clone()).unwrap();
            if polls == 3 { Poll::Ready(ends::<()>()) } else { Poll::Pending }
        });
        assert!(run_async(&(), std::pin::pin!(counted)));
        assert!(!run_async(&(), std::pin::pin!(async { Err::<(), ()>(()) })));
        assert!(!run_async(
            &(),
            std::pin::pin!(async { if true { panic!("a cell's panic") } else { Ok::<(), ()>(()) } })
        ));
        assert_eq!(polls, 3);
        drop(send);
        waking.join().unwrap();
    }

    #[test]
    fn a_saved_value_is_restored() {
        save("n", vec![1]);
        assert_eq!(restore::<Vec<i32>>("n"), [1]);
    }

    #[test]
    #[should_panic(expected = "`n` is not there")]
    fn missing_variable_cannot_be_taken() {
        VariableStore::default().take_variable::<i32>("n");
    }
}
