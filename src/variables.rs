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

/// Longest time that the variables' destructors may take at the end of the process (5 s).
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// Prefix of the names of values that evcxr's own code stores, such as tokio's runtime.
const SHARED: &str = "evcxr_";
/// Prefix of the line that tells evcxr which variable has changed its type.
pub const VARIABLE_CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// The line that tells evcxr that a cell ended with an error.
pub const USER_ERROR_OCCURRED: &str = "EVCXR_ERROR_OCCURRED";

/// The line that tells evcxr that a cell panicked.
pub const PANIC_NOTIFICATION: &str = "EVCXR_PANIC_NOTIFICATION";

/// Names of variables, and a fingerprint of the definitions that each variable's type depends on.
///
/// rustc's [`TypeId`] of a struct does not depend on the types of its fields, so a changed definition can have the
/// `TypeId` of the earlier one.
pub type Layouts = &'static [(&'static str, u64)];

/// Variables by name.
#[derive(Default)]
pub struct VariableStore {
    variables: HashMap<String, Variable>,
    /// For the variables that the current cell takes, and for those that it stores.
    layouts: [Layouts; 2],
}

struct Variable {
    value: Box<dyn Any>,
    layout: u64,
}

/// The fingerprint of a variable; 0 if its type depends on no definition of the cells.
fn layout(layouts: Layouts, name: &str) -> u64 {
    layouts.iter().find(|(known, _)| *known == name).map_or(0, |(_, layout)| *layout)
}

impl VariableStore {
    /// Stores a variable.
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    /// Returns whether the variable has this type. Prints a message for evcxr if not.
    #[inline(never)] // compiled once, not in each cell
    pub fn check_variable<T: 'static>(&self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>())
    }

    /// For a cell that redefines a variable without using its value: drops the value if it has another type, and
    /// returns `true`.
    #[inline(never)] // compiled once, not in each cell
    pub fn check_replaced<T: 'static>(&mut self, name: &str) -> bool {
        if self.problem(name, TypeId::of::<T>()).is_some() {
            self.variables.remove(name);
        }
        true
    }

    /// Saves a variable's value if it has this type, for [`restore`].
    #[inline(never)] // compiled once, not in each cell
    pub fn save<T: 'static>(&mut self, name: &str) {
        if self.problem(name, TypeId::of::<T>()).is_none() {
            save(name, self.take_variable::<T>(name));
        }
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
        let known = self.variables.get(name);
        if let Some(shared) = known.and_then(|shared| shared.value.downcast_ref::<Arc<T>>()) {
            return shared.clone();
        }
        let shared = Arc::new(create());
        let variable = Variable { value: Box::new(shared.clone()), layout: 0 };
        let before = self.variables.insert(name.to_owned(), variable);
        // The code of its destructor may belong to a library that is unloaded.
        std::mem::forget(before);
        shared
    }

    /// The variables and their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &dyn Any)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), &*variable.value))
    }

    /// Drops the variables, in the order of their names. A destructor that panics does not keep the others from running.
    fn drop_all(&mut self) {
        let mut variables: Vec<_> = self.variables.drain().collect();
        variables.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, Variable { value, .. }) in variables {
            match name.starts_with(SHARED) {
                // tokio's runtime would wait for its tasks.
                true => std::mem::forget(value),
                false => drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(value)))),
            }
        }
    }

    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        let layout = layout(self.layouts[1], name);
        self.variables.insert(name.to_owned(), Variable { value, layout });
    }

    fn check(&self, name: &str, expected: TypeId) -> bool {
        let problem = self.problem(name, expected);
        if let Some(problem) = &problem {
            eprintln!("{problem}");
            println!("{VARIABLE_CHANGED_TYPE}{name}");
        }
        problem.is_none()
    }

    /// Reason why a variable cannot be used with this type.
    fn problem(&self, name: &str, expected: TypeId) -> Option<String> {
        let Some(Variable { value, layout: known }) = self.variables.get(name) else {
            return Some(format!(
                "The variable {name} was lost: a cell that should store it returned before its end."
            ));
        };
        let is_expected = (**value).type_id() == expected && *known == layout(self.layouts[0], name);
        (!is_expected).then(|| format!("The type of the variable {name} was redefined, so was lost."))
    }

    fn take(&mut self, name: &str) -> Box<dyn Any> {
        let variable = self.variables.remove(name);
        variable.unwrap_or_else(|| panic!("the variable `{name}` does not exist")).value
    }
}

/// Returns the store that evcxr passes from cell to cell. The first cell passes null and gets a new
/// store.
///
/// # Safety
/// `store` is null, or was returned by this function and has no other reference.
pub unsafe fn variable_store(store: *mut VariableStore) -> &'static mut VariableStore {
    // SAFETY: guaranteed by the caller.
    unsafe { variable_store_with(store, [&[], &[]]) }
}

/// Like [`variable_store`], for a cell with variables of types that cells have defined. `layouts`: of the variables
/// that it takes, and of those that it stores.
///
/// # Safety
/// As for [`variable_store`].
pub unsafe fn variable_store_with(
    store: *mut VariableStore,
    layouts: [Layouts; 2],
) -> &'static mut VariableStore {
    // SAFETY: guaranteed by the caller.
    let store = unsafe { store.as_mut() }.unwrap_or_else(|| {
        let store: &mut VariableStore = Box::leak(Box::default());
        STORE.store(store, Ordering::Relaxed);
        store
    });
    store.layouts = layouts;
    store
}

/// The store of this process.
static STORE: AtomicPtr<VariableStore> = AtomicPtr::new(std::ptr::null_mut());

/// Called by the kernel through its symbol name, when the process of the cells ends. Drops the variables, as a program
/// does at its end: a `BufWriter` writes what it holds, and a temporary folder is removed.
///
/// # Safety
/// No other code uses the store from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headstart_drop_variables() {
    // SAFETY: guaranteed by the caller.
    if let Some(store) = unsafe { STORE.swap(std::ptr::null_mut(), Ordering::Relaxed).as_mut() } {
        // The kernel may have gone, so a report could not be printed, which would end the process.
        std::panic::set_hook(Box::new(|_| {}));
        store.drop_all();
    }
}

/// Drops the variables and ends the process of the cells. A destructor that does not return is ended, too.
pub fn end() -> ! {
    let watch = || {
        std::thread::sleep(DROP_TIMEOUT);
        std::process::exit(0)
    };
    let _ = std::thread::Builder::new().name("end".into()).spawn(watch);
    // SAFETY: the cell that calls this does not go on.
    unsafe { headstart_drop_variables() };
    std::process::exit(0)
}

/// Tells evcxr that a variable is lost, because an item has changed the meaning of its type or name. Returns `false`,
/// like [`VariableStore::check_variable`].
pub fn lost(name: &str) -> bool {
    eprintln!("The variable {name} is lost: an item has changed the meaning of its type or of its name.");
    println!("{VARIABLE_CHANGED_TYPE}{name}");
    false
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
        Frame::Returned.print();
    }
    succeeded
}

/// The end of a cell's code, which a `return` in the cell does not reach.
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
        Frame::Failed { message, file, line }.print();
        EvcxrUserCodeError {}
    }
}

#[cfg(test)]
mod tests;
