//! Roles in which other programs start this one. Those programs cannot pass a subcommand.

use crate::cli::weights;
use crate::compile::{timing, wrapper};
use crate::engine::child;
use crate::platform::environment;

/// Detects the role from how this process was started. If there is one, runs it and does not return.
pub fn run() {
    environment::record_user_environment();
    // rustc starts this program as its linker.
    timing::hook();
    // cargo starts this program in place of rustc.
    wrapper::hook();
    // The prelude starts this program from the cells' process and passes on that environment, so this check
    // comes first.
    weights::hook();
    // evcxr starts this program as the process that runs the cells.
    child::hook();
}
