//! Initialisation of a notebook's process.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use headstart_frame::Frame;

use crate::display::{Sink, sink};
use crate::interrupt;

/// Interval at which standard output is flushed (50 ms), so that text without a line feed appears.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

static STARTS: AtomicUsize = AtomicUsize::new(0);
/// The thread that runs the cells.
static CELL_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Prepares the process for cells. An interrupt then ends the training instead of the process, and a
/// panic is reported with its message and line. The kernel calls this function before the first cell.
pub fn start() {
    interrupt::listen();
    let _ = CELL_THREAD.set(std::thread::current().id());
    if STARTS.fetch_add(1, Ordering::Relaxed) == 0 && sink() == Sink::Kernel {
        std::panic::set_hook(Box::new(report));
        // Text without a line feed must appear, too. If the thread cannot start, that text only appears
        // late.
        let _ = std::thread::Builder::new().name("flush".into()).spawn(|| {
            loop {
                std::thread::sleep(FLUSH_INTERVAL);
                let _ = std::io::stdout().flush();
            }
        });
    }
}

/// Called by the kernel through its symbol name, before and after each cell. Clears a pending interrupt
/// and flushes standard output.
#[unsafe(no_mangle)]
pub extern "C" fn headstart_cell_is_over() {
    interrupt::clear();
    let _ = std::io::stdout().flush();
}

/// The number of calls of [`start`]. The count continues from cell to cell if the process has a single
/// copy of the library.
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
    Frame::Panic { message, file, line, thread }.print();
}
