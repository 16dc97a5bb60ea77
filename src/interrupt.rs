//! The Stop button: a flag that long work looks at between batches.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes Ctrl-C and the notebook's Stop button set the flag instead of ending the process.
pub(crate) fn listen() {
    FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        // Where no handler can be set, an interrupt ends the process as it did before.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, flag.clone());
        flag
    });
}

/// The cell that was to stop is over.
pub(crate) fn clear() {
    if let Some(flag) = FLAG.get() {
        flag.store(false, Relaxed);
    }
}

/// Ends a long computation of your own when the user has asked it to stop: call it in each round.
///
/// # Errors
/// [`Error::Interrupted`] from the moment when the user asked until the cell is over.
///
/// ```
/// fn slow() -> headstart::Result<u64> {
///     let mut sum = 0;
///     for i in 0..1000 {
///         headstart::check_interrupt()?;
///         sum += i;
///     }
///     Ok(sum)
/// }
/// assert_eq!(slow()?, 499_500);
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn check_interrupt() -> Result<()> {
    match FLAG.get() {
        Some(flag) if flag.load(Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
