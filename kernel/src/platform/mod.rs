//! Differences between Linux and macOS, and other system services.
//!
//! Contains processes, pipes, locked folders, the environment, the cache folder, fingerprints of files, and
//! TOML strings, and printing to pipes that may be closed. Depends on no other folder.

#[macro_use]
mod print;

pub mod cache_folder;
pub mod environment;
pub mod fingerprint;
pub mod owned;
pub mod parent;
pub mod pipes;
pub mod programs;
pub mod rustc_wrapper;
pub mod toml;
