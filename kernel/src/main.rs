//! The `headstart` command: a Jupyter kernel for Rust with the transfer-learning library preloaded in its
//! cells.

#[macro_use]
mod platform;

mod cli;
mod compile;
mod engine;
mod jupyter;
#[cfg(test)]
mod layers;
mod prelude;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::arguments::{Arguments, Command};
use crate::prelude::toolchain;

/// With it, rust-analyzer's first analysis of the prelude takes a tenth less time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::roles::run();
    let command = Arguments::parse().command;
    if !matches!(command, Command::Kernel { .. } | Command::Standby { .. }) {
        toolchain::pin();
    }
    match cli::commands::execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
