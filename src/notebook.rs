//! What a notebook's process does once, before its first cell.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use headstart_frame::Frame;

use crate::display::{Sink, sink};
use crate::interrupt;

/// Printed text waits no longer for its line feed.
const FLUSH: Duration = Duration::from_millis(50);

static STARTS: AtomicUsize = AtomicUsize::new(0);
/// The thread that runs the cells.
static CELL_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Prepares the process for cells: Stop interrupts training instead of ending the process, and a
/// panic tells the page its message and line. The kernel calls it before the first cell.
pub fn start() {
    interrupt::listen();
    let _ = CELL_THREAD.set(std::thread::current().id());
    if STARTS.fetch_add(1, Ordering::Relaxed) == 0 && sink() == Sink::Kernel {
        std::panic::set_hook(Box::new(report));
        // What is printed without a line feed is to be seen too. Without the thread it is seen late.
        let _ = std::thread::Builder::new().name("flush".into()).spawn(|| {
            loop {
                std::thread::sleep(FLUSH);
                let _ = std::io::stdout().flush();
            }
        });
    }
}

/// For the kernel, which calls it by its name before a cell and after it: clears a pressed Stop, and
/// lets out what was printed without a line feed.
#[unsafe(no_mangle)]
pub extern "C" fn headstart_cell_is_over() {
    interrupt::clear();
    let _ = std::io::stdout().flush();
}

/// How often [`start`] was called: one copy of the library in a process counts on from cell to cell.
pub fn cells_run() -> usize {
    STARTS.load(Ordering::Relaxed)
}

fn report(panic: &PanicHookInfo) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message").to_owned();
    let (file, line) = panic.location().map_or((String::new(), 0), |at| (at.file().to_owned(), at.line()));
    let thread = std::thread::current();
    let thread = match CELL_THREAD.get() == Some(&thread.id()) {
        true => String::new(),
        false => thread.name().unwrap_or("<unnamed>").to_owned(),
    };
    println!("{}", Frame::Panic { message, file, line, thread }.encode());
}
