//! The stock kernel, `evcxr_jupyter`, for comparison.
fn main() -> impl std::process::Termination {
    evcxr_jupyter::main()
}
