//! Every assumption about the text of evcxr that no documented interface promises.
//!
//! Owns the source that evcxr generates ([`source`]), the lines and variables by which it talks to the cells'
//! process ([`protocol`]), the commands of a cell ([`commands`]) and the words of its errors ([`messages`]).
//! The files in `golden` are written by the real evcxr (`examples/evcxr_sources.rs`); tests compare both.

pub mod commands;
pub mod messages;
pub mod protocol;
pub mod source;

#[cfg(test)]
mod golden;
