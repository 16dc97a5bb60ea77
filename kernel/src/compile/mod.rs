//! The compilation of a cell.
//!
//! Contains the program that cargo runs in place of rustc ([`wrapper`]), the compile cache, the rewritten
//! variable store, and compilation ahead of evcxr. Everything that the kernel assumes about evcxr's text is
//! in [`evcxr_text`].

pub mod ahead;
pub mod boundary;
pub mod cache;
pub mod cell;
pub mod command_lines;
pub mod compilation;
pub mod completeness;
pub mod evcxr_text;
pub mod grammar;
pub mod handover;
pub mod layouts;
pub mod macros;
pub mod moved;
pub mod predict;
pub mod probe;
pub mod redefined;
pub mod repeated;
pub mod restore;
pub mod timing;
pub mod unusable;
pub mod variables;
pub mod warnings;
pub mod wrapper;
