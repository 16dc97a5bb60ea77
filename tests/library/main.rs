//! The library from outside: as a program that depends on it sees it.

mod bad_input;
mod parity;
mod program;
