//! The `headstart` command and its subcommands.
//!
//! Contains the command line, the implementation of each subcommand ([`commands`]), and the roles in which
//! other programs start this one ([`roles`]). Depends on every other folder; none depends on it.

pub mod answers;
pub mod arguments;
pub mod cached;
pub mod commands;
pub mod doctor;
pub mod export;
pub mod features;
pub mod highlight;
pub mod html;
pub mod install;
pub mod lab;
pub mod models;
pub mod notebook;
pub mod parameters;
pub mod results;
pub mod results_chart;
pub mod roles;
pub mod run;
pub mod stop;
pub mod trust;
pub mod weights;
