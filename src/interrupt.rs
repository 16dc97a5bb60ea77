//! Interrupts: SIGINT (Ctrl-C, the notebook's Stop button) sets a flag, which long computations check.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crate::{Error, Result};

/// Whether the user has interrupted the running cell; unset until [`listen`] installs the handler.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Installs the signal handler: SIGINT sets the flag instead of ending the process.
pub(crate) fn listen() {
    INTERRUPTED.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        // If the handler cannot be installed, SIGINT still ends the process.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, flag.clone());
        flag
    });
}

/// Clears the flag when the interrupted cell has ended.
pub(crate) fn clear() {
    if let Some(flag) = INTERRUPTED.get() {
        flag.store(false, Relaxed);
    }
}

/// Returns an error if the user has interrupted the cell. Call it in each iteration of a long
/// computation, so that the Stop button ends it.
///
/// # Errors
/// [`Error::Interrupted`] from the interrupt until the cell has ended.
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
    match INTERRUPTED.get() {
        Some(flag) if flag.load(Relaxed) => Err(Error::Interrupted),
        _ => Ok(()),
    }
}
