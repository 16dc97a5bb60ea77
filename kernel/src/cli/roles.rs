//! The roles in which other programs start this one: they cannot name a subcommand.

use crate::cli::weights;
use crate::compile::{timing, wrapper};
use crate::engine::child;
use crate::platform::environment;

/// If this process was started in a role, plays it and does not return.
pub fn run() {
    environment::note_users();
    // rustc starts it as its linker.
    timing::hook();
    // cargo starts it in place of rustc.
    wrapper::hook();
    // The prelude starts it in the cells' process, whose environment it has, so before the next.
    weights::hook();
    // evcxr starts it as the process that runs the cells.
    child::hook();
}
