//! The stock kernel, evcxr_jupyter, to compare with.
fn main() -> impl std::process::Termination {
    evcxr_jupyter::main()
}
