//! The Stop button: first a request, which keeps every variable, then, if it is not heeded, an end.

use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// A cell that has not stopped this long after it was asked is killed.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The process that runs the cells, and what it is at.
#[derive(Default)]
pub struct Cells {
    pub child: OnceLock<Arc<Mutex<Child>>>,
    /// Odd while a cell runs; the number tells one cell from another.
    cell: AtomicUsize,
    /// How many cells run or wait.
    expected: AtomicUsize,
    /// How often the running cell was asked to stop.
    interrupts: AtomicUsize,
    /// No more cells will run.
    pub stopping: AtomicBool,
}

impl Cells {
    /// A cell is to come.
    pub fn expect(&self) {
        self.expected.fetch_add(1, Ordering::SeqCst);
    }

    /// A cell begins.
    pub fn begin(&self) {
        self.interrupts.store(0, Ordering::SeqCst);
        self.cell.fetch_add(1, Ordering::SeqCst);
    }

    /// The cell is over.
    pub fn end(&self) {
        self.cell.fetch_add(1, Ordering::SeqCst);
        self.expected.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a cell runs or waits.
    pub fn is_busy(&self) -> bool {
        self.expected.load(Ordering::SeqCst) > 0
    }

    /// Whether a cell is being compiled or run.
    pub fn is_running(&self) -> bool {
        !self.cell.load(Ordering::SeqCst).is_multiple_of(2)
    }

    /// Whether the running cell was asked to stop.
    pub fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::SeqCst) > 0
    }

    /// Asks the running cell to stop; kills its process if it does not in time, or is asked again.
    pub fn interrupt(self: &Arc<Cells>) {
        let cell = self.cell.load(Ordering::SeqCst);
        if cell.is_multiple_of(2) {
            return;
        }
        if self.interrupts.fetch_add(1, Ordering::SeqCst) > 0 {
            self.kill();
            return;
        }
        self.signal(libc::SIGINT);
        stop_compiling();
        let cells = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(PATIENCE);
            if cells.cell.load(Ordering::SeqCst) == cell {
                cells.kill();
            }
        });
    }

    /// Ends the cells' process; evcxr starts another.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) {
        if let Some(Ok(child)) = self.child.get().map(|child| child.lock()) {
            // SAFETY: the child has not been waited for while its handle is locked.
            unsafe { libc::kill(child.id() as i32, signal) };
        }
    }
}

/// Ends the cargo that compiles a cell, with all that it started.
#[cfg(target_os = "linux")]
fn stop_compiling() {
    let processes: Vec<(i32, i32, String)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            // Number, (name), state, parent; the name may hold anything.
            let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
            Some((process, rest.split_whitespace().nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect();
    let own = std::process::id() as i32;
    let is_compiler = |(_, parent, name): &&(i32, i32, String)| *parent == own && name == "cargo";
    let mut found: Vec<i32> = processes.iter().filter(is_compiler).map(|(process, ..)| *process).collect();
    let mut at = 0;
    while let Some(above) = found.get(at).copied() {
        found
            .extend(processes.iter().filter(|(_, parent, _)| *parent == above).map(|(process, ..)| *process));
        at += 1;
    }
    for process in found {
        // SAFETY: asks the kernel to end a process below our own.
        unsafe { libc::kill(process, libc::SIGKILL) };
    }
}

#[cfg(not(target_os = "linux"))]
fn stop_compiling() {}
