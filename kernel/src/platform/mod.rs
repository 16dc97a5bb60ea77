//! What differs between Linux and macOS, and other services of the system.
//!
//! Owns processes, pipes, locked folders, the environment, and the cache folder.
//! Uses no other folder.

pub mod cache_folder;
pub mod environment;
pub mod owned;
pub mod parent;
pub mod pipes;
pub mod programs;
pub mod rustc_wrapper;
