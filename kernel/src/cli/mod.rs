//! The `headstart` command and its subcommands.
//!
//! Owns the command line, what each subcommand does ([`commands`]), and the roles in which other programs start this one ([`roles`]).
//! Uses every other folder; nothing uses it.

pub mod arguments;
pub mod cached;
pub mod commands;
pub mod doctor;
pub mod export;
pub mod highlight;
pub mod html;
pub mod install;
pub mod lab;
pub mod notebook;
pub mod parameters;
pub mod roles;
pub mod run;
pub mod trust;
pub mod weights;
