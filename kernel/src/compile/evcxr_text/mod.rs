//! Every assumption about evcxr's text that no documented interface guarantees.
//!
//! Contains the source that evcxr generates ([`source`]), the protocol between evcxr and the cells' process
//! ([`protocol`]), the commands of a cell ([`commands`]) and the texts of its errors ([`messages`]). The
//! real evcxr writes the files in `golden` (`examples/evcxr_sources.rs`). Tests compare both.

pub mod commands;
pub mod messages;
pub mod protocol;
pub mod source;

#[cfg(test)]
mod golden;
