//! Environment variables that make cargo run this program in place of rustc.

use std::path::{Path, PathBuf};
use std::process::Command;

const WRAPPER_VARIABLE: &str = "RUSTC_WRAPPER";
/// Environment variable with the folder of the compile cache.
const FOLDER_VARIABLE: &str = "HEADSTART_COMPILE_CACHE";

/// Makes cargo run this program in place of rustc, with a compile cache in `folder`, unless the user has
/// set a wrapper.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn set_up(folder: &Path) {
    let program = std::env::current_exe();
    if let (Ok(program), None) = (program, std::env::var_os(WRAPPER_VARIABLE)) {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var(WRAPPER_VARIABLE, program);
            std::env::set_var(FOLDER_VARIABLE, folder);
        }
    }
}

/// Undoes [`set_up`] for a command that compiles something other than cells.
pub fn remove_from(command: &mut Command) {
    if folder().is_some() {
        command.env_remove(WRAPPER_VARIABLE).env_remove(FOLDER_VARIABLE);
    }
}

/// Undoes [`set_up`] for this process and the programs that it starts.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn unset() {
    if folder().is_some() {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::remove_var(WRAPPER_VARIABLE);
            std::env::remove_var(FOLDER_VARIABLE);
        }
    }
}

/// The folder of the compile cache, if cargo runs this program in place of rustc.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)
}
