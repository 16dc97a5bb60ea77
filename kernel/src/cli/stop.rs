//! Ctrl-C and SIGTERM during `headstart run`: the notebook is written with the outputs so far.
//!
//! The third signal ends the program without that, for example while it reads a line from the terminal.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::engine::handle::Engine;

/// Number of the signal that ends the program at once. The first one interrupts the cell, the second one kills its
/// process.
const LAST_SIGNAL: usize = 3;
/// Exit status of a program that a signal ends, as in a shell: 128 + SIGINT.
const STOPPED: i32 = 130;

/// Runs work that uses the engine. A signal interrupts the running cell, and sets the flag that the work gets.
pub fn until_signal<T>(engine: &Engine, work: impl FnOnce(&AtomicBool) -> T) -> T {
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (ended, end) = oneshot::channel::<()>();
        scope.spawn(|| {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(follow(engine, &is_stopped, end));
            }
        });
        let result = work(&is_stopped);
        drop(ended);
        result
    })
}

async fn follow(engine: &Engine, is_stopped: &AtomicBool, mut end: oneshot::Receiver<()>) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
    let mut count = 0;
    loop {
        tokio::select! {
            _ = &mut end => return,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        count += 1;
        if count == LAST_SIGNAL {
            engine.stop();
            std::process::exit(STOPPED);
        }
        is_stopped.store(true, Ordering::SeqCst);
        engine.interrupt();
    }
}
