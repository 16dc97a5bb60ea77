//! What a notebook's process does once, before its first cell.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};

use headstart_frame::Frame;

use crate::display::{Sink, sink};
use crate::interrupt;

static STARTS: AtomicUsize = AtomicUsize::new(0);

/// Prepares the process for cells: Stop interrupts training instead of ending the process, and a
/// panic tells the page its message and line. The kernel calls it before the first cell.
pub fn start() {
    interrupt::listen();
    if STARTS.fetch_add(1, Ordering::Relaxed) == 0 && sink() == Sink::Kernel {
        std::panic::set_hook(Box::new(report));
    }
}

/// How often [`start`] was called: one copy of the library in a process counts on from cell to cell.
pub fn cells_run() -> usize {
    STARTS.load(Ordering::Relaxed)
}

fn report(panic: &PanicHookInfo) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message").to_owned();
    let (file, line) = panic.location().map_or((String::new(), 0), |at| (at.file().to_owned(), at.line()));
    println!("{}", Frame::Panic { message, file, line }.encode());
}
