//! Ctrl-C and SIGTERM during `headstart run`: the notebook is written with the outputs so far, and no later notebook
//! runs.
//!
//! The third signal ends the program without that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::engine::handle::Engine;

/// Number of the signal that ends the program at once. The first one interrupts the cell, the second one kills its
/// process.
const LAST_SIGNAL: usize = 3;
/// Exit status of a program that a signal ends, as in a shell: 128 + SIGINT.
const STOPPED: i32 = 130;

/// A run of notebooks that signals can stop.
#[derive(Default)]
pub struct Run {
    is_stopped: AtomicBool,
    /// The engine of the current notebook.
    engine: Mutex<Option<Arc<Engine>>>,
}

impl Run {
    /// Whether a signal has arrived.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Sets the engine that signals stop, or `None` between two notebooks.
    pub fn set_engine(&self, engine: Option<Arc<Engine>>) {
        *self.engine() = engine;
    }

    fn engine(&self) -> MutexGuard<'_, Option<Arc<Engine>>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        if let Some(engine) = &*self.engine() {
            engine.interrupt();
        }
    }
}

/// Runs work that a signal stops: the signal interrupts the running cell and sets [`Run::is_stopped`].
pub fn until_signal<T>(work: impl FnOnce(&Run) -> T) -> T {
    let run = Run::default();
    std::thread::scope(|scope| {
        let (ended, end) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel::<()>();
        scope.spawn(|| {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(follow(&run, ready, end));
            }
        });
        // From here on, signals no longer end the program.
        let _ = is_ready.blocking_recv();
        let result = work(&run);
        drop(ended);
        result
    })
}

async fn follow(run: &Run, ready: oneshot::Sender<()>, mut end: oneshot::Receiver<()>) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
    let _ = ready.send(());
    let mut count = 0;
    loop {
        tokio::select! {
            _ = &mut end => return,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        count += 1;
        if count == LAST_SIGNAL {
            if let Some(engine) = &*run.engine() {
                engine.stop();
            }
            std::process::exit(STOPPED);
        }
        run.stop();
    }
}
