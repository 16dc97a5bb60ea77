//! Protection of the engine against panics of evcxr and rust-analyzer.

use std::panic::AssertUnwindSafe;

/// Runs code of evcxr or rust-analyzer. A panic there must not end the engine.
///
/// # Errors
/// If the code panics.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!(
            "evcxr or rust-analyzer panicked: {}\nhint: change the cell, or restart the kernel",
            text.unwrap_or("without a message")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_of_evcxr_is_an_error() {
        assert_eq!(guarded(|| 1), Ok(1));
        for panic in [|| panic!("no {}", "types"), || std::panic::panic_any(1)] {
            let problem = guarded(panic).unwrap_err();
            assert!(problem.contains("panicked") && problem.contains("hint: "), "{problem}");
        }
    }
}
