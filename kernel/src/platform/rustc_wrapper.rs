//! Environment variables that make cargo run this program in place of rustc.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder in which Linux shows each process its open descriptors.
const DESCRIPTORS: &str = "/proc/self/fd/";
/// Number of this program's descriptor, or the next one that is free. No other descriptor has such a large number.
#[cfg(target_os = "linux")]
const DESCRIPTOR: libc::c_int = 200;
const WRAPPER_VARIABLE: &str = "RUSTC_WRAPPER";
/// Environment variable with the folder of the compile cache.
const FOLDER_VARIABLE: &str = "HEADSTART_COMPILE_CACHE";

/// Makes cargo run this program in place of rustc, with a compile cache in `folder`, unless the user has
/// set a wrapper.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn set_up(folder: &Path) {
    let program = inherited_program().or_else(|_| std::env::current_exe());
    if let (Ok(program), None) = (program, std::env::var_os(WRAPPER_VARIABLE)) {
        // SAFETY: the caller's promise.
        unsafe {
            std::env::set_var(WRAPPER_VARIABLE, program);
            std::env::set_var(FOLDER_VARIABLE, folder);
        }
    }
}

/// Path of this program for the programs that it starts. It stays valid when the program's file is moved, replaced or
/// deleted, because they inherit an open descriptor of the file. Its number is always the same, as far as possible:
/// cargo compiles with another wrapper anew.
#[cfg(target_os = "linux")]
fn inherited_program() -> io::Result<PathBuf> {
    let file = File::open("/proc/self/exe")?;
    // SAFETY: the file is open. The new descriptor is not closed when another program starts.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD, DESCRIPTOR) } {
        -1 => Err(io::Error::last_os_error()),
        descriptor => Ok(format!("{DESCRIPTORS}{descriptor}").into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn inherited_program() -> io::Result<PathBuf> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Undoes [`set_up`] for a command that compiles something other than cells.
pub fn not_for(command: &mut Command) {
    if folder().is_some() {
        command.env_remove(WRAPPER_VARIABLE).env_remove(FOLDER_VARIABLE);
    }
}

/// Undoes [`set_up`] for this process and the programs that it starts.
///
/// # Safety
/// Sets environment variables: no other thread may be reading them.
pub unsafe fn forget() {
    if folder().is_some() {
        let program = std::env::var(WRAPPER_VARIABLE).unwrap_or_default();
        if let Some(Ok(descriptor)) = program.strip_prefix(DESCRIPTORS).map(str::parse) {
            // SAFETY: changes only whether programs that this process starts inherit the descriptor.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
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
