//! The crate that the kernel builds to compile the prelude.
//!
//! Cells must share the standard library with the prelude. Cargo links it dynamically into a dynamic
//! library only if another package depends on that library.

fn main() {
    println!("{:?}", headstart_prelude::device());
}
