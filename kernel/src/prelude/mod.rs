//! The prelude: the library that all cells link to.
//!
//! Contains the template folder and its search, unpacking and compilation, the reduced sources for
//! rust-analyzer, the toolchain, and the session's folder. Does not depend on cells.

pub mod archive;
pub mod backend;
pub mod build;
pub mod facade;
pub mod generated_items;
pub mod inventory;
pub mod modules;
pub mod operators;
pub mod packages;
pub mod session;
pub mod skeleton;
pub mod sources;
pub mod template;
pub mod terminal;
pub mod tokens;
pub mod toolchain;
