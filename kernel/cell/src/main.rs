//! What the kernel builds to have the prelude compiled. Cargo links the standard library dynamically into a dynamic
//! library only where another package depends on it, and cells must share it with the prelude.

fn main() {
    println!("{:?}", headstart_prelude::device());
}
