//! The library that the cells of Headstart's kernel link to: `headstart`, as one dynamic library.
//!
//! One copy of candle then serves all cells of a session, so that tensor ids never repeat and gradients
//! flow from cell to cell.

pub use headstart::*;
