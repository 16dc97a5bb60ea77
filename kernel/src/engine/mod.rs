//! The evaluation of cells.
//!
//! Contains evcxr's context in one thread, the cells' process with its pipes, the phase of the running
//! cell, and the error messages. Other threads use it through [`handle::Engine`].

pub mod buffer;
pub mod certificates;
pub mod child;
pub mod collected;
pub mod commands;
pub mod complete;
pub mod config;
pub mod edits;
pub mod errors;
pub mod finish;
pub mod guard;
pub mod handle;
pub mod hints;
pub mod impls;
pub mod imports;
pub mod interrupt;
pub mod keras_words;
pub mod known;
pub mod lint_levels;
pub mod listen;
pub mod load;
pub mod losses;
pub mod names;
pub mod notes;
pub mod other_languages;
pub mod output;
pub mod parameters;
pub mod patterns;
pub mod phase;
pub mod plain;
pub mod positions;
pub mod prepare;
pub mod question;
pub mod report;
pub mod request;
pub mod run;
pub mod scanner;
pub mod standard_streams;
pub mod trait_paths;
