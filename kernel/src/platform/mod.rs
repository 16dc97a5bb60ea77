//! Differences between Linux and macOS, and other system services.
//!
//! Contains processes, pipes, locked folders, the environment, the cache folder, fingerprints of files, and
//! printing to pipes that may be closed. Depends on no other folder.

#[macro_use]
mod print;

pub mod cache_folder;
pub mod environment;
pub mod fingerprint;
pub mod parent;
pub mod pipes;
pub mod process_folder;
pub mod programs;
pub mod rustc_wrapper;

/// Stack of threads that parse cells, in bytes (64 MiB). Parsers recurse: 2 MiB, the default, hold 150 nested brackets.
pub const PARSER_STACK: usize = 64 << 20;

/// tokio's runtime for a kernel.
///
/// # Errors
/// If the system starts no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_stack_size(PARSER_STACK).build().map_err(|error| error.to_string())
}
