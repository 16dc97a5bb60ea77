//! `cargo headstart …`: compiles the kernel and the prelude in one build, and runs the kernel's command.
//!
//! A single build uses all cores: the prelude and the kernel's last crates compile in parallel.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo headstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds and runs the command. Returns only on failure.
fn run() -> Result<ExitCode, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--locked", "-p", "headstart-kernel", "-p", "headstart-cell"]);
    let status = build.status().map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    // Cargo puts all programs of a profile into the same folder.
    let itself = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let headstart = itself.with_file_name("headstart");
    let error = Command::new(&headstart).args(std::env::args_os().skip(1)).exec();
    Err(format!("{}: {error}", headstart.display()))
}
