//! Ctrl-C and SIGTERM during `headstart run`: the notebook is written with the outputs so far.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::engine::handle::Engine;

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
    loop {
        tokio::select! {
            _ = &mut end => return,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        is_stopped.store(true, Ordering::SeqCst);
        engine.interrupt();
    }
}
