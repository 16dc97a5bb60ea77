//! Callbacks that are used in more than one `fit`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use candle_core::Tensor;

use super::{Callback, Training};
use crate::{Error, Result, check_interrupt};

/// How long `fit` waits for a locked callback (2 s: other threads that read it hold the lock for milliseconds).
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two attempts to lock a callback (5 ms: short beside a batch).
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A callback that several `fit` calls share. Its state, such as the best value of a
/// [`ModelCheckpoint`](super::ModelCheckpoint), persists between the calls.
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&folder).unwrap();
/// # let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// # model.compile(Adam::default(), MeanSquaredError, []);
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// let best = ModelCheckpoint::new("best.safetensors").monitor("loss").save_best_only(true);
/// let best = SharedCallback::new(best);
/// model.fit((&x, &y), Fit::epochs(3).callback(best.clone()))?;
/// // Only epochs better than those before are written.
/// model.fit((&x, &y), Fit::epochs(3).callback(best.clone()))?;
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct SharedCallback<C> {
    callback: Arc<Mutex<C>>,
    monitor: Option<String>,
    ends_at_nan: bool,
    runs_at_batches: bool,
    runs_last: bool,
}

impl<C: Callback> SharedCallback<C> {
    /// Wraps a callback. A clone refers to the same callback.
    pub fn new(callback: C) -> SharedCallback<C> {
        SharedCallback {
            monitor: callback.monitor().map(str::to_owned),
            ends_at_nan: callback.ends_at_nan(),
            runs_at_batches: callback.runs_at_batches(),
            runs_last: callback.runs_last(),
            callback: Arc::new(Mutex::new(callback)),
        }
    }

    /// Locks the callback and returns it, to read its state between two calls of `fit`. Drop the guard before `fit`
    /// is called: `fit` returns an error if the callback stays locked.
    pub fn lock(&self) -> MutexGuard<'_, C> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the callback during `fit`.
    ///
    /// # Errors
    /// [`Error::Argument`] if it stays locked, probably by the thread of `fit` itself, which would wait forever.
    /// [`Error::Interrupted`] if the kernel is interrupted.
    fn locked(&self) -> Result<MutexGuard<'_, C>> {
        let begin = Instant::now();
        loop {
            match self.callback.try_lock() {
                Ok(callback) => return Ok(callback),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if begin.elapsed() > LOCK_TIMEOUT => {
                    let expected = "a callback that is not locked during `fit`; drop what `lock()` returned";
                    let found = format!("a callback that was locked for {} s", LOCK_TIMEOUT.as_secs());
                    return Err(Error::Argument { name: "callback", expected: expected.into(), found });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(POLL_INTERVAL),
            }
            check_interrupt()?;
        }
    }
}

impl<C> Clone for SharedCallback<C> {
    fn clone(&self) -> SharedCallback<C> {
        let (callback, monitor) = (Arc::clone(&self.callback), self.monitor.clone());
        SharedCallback { callback, monitor, ..*self }
    }
}

impl<C> fmt::Debug for SharedCallback<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCallback").field("monitor", &self.monitor).finish_non_exhaustive()
    }
}

impl<C: Callback> Callback for SharedCallback<C> {
    fn on_train_begin(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_train_begin(training)
    }

    fn on_epoch_begin(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_epoch_begin(training)
    }

    fn on_train_batch_end(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_train_batch_end(training)
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_epoch_end(training)
    }

    fn on_train_end(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_train_end(training)
    }

    fn on_train_error(&mut self, training: &mut Training) -> Result<()> {
        self.locked()?.on_train_error(training)
    }

    fn runs_at_batches(&self) -> bool {
        self.runs_at_batches
    }

    fn monitor(&self) -> Option<&str> {
        self.monitor.as_deref()
    }

    fn ends_at_nan(&self) -> bool {
        self.ends_at_nan
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        self.locked()?.state()
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.locked()?.set_state(state)
    }

    fn runs_last(&self) -> bool {
        self.runs_last
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<C>()
    }
}
