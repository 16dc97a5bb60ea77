//! Checks of arguments and of the memory that they require.

use std::fmt::Display;

use crate::{Error, Result};

/// Returns [`Error::Argument`] unless the argument fits.
pub(crate) fn check(name: &'static str, found: impl Display, fits: bool, expected: &str) -> Result<()> {
    match fits {
        true => Ok(()),
        false => Err(Error::Argument { name, expected: expected.into(), found: found.to_string() }),
    }
}

/// Checks a number that must be finite, and 0 or more.
pub(crate) fn check_not_negative(name: &'static str, found: f64) -> Result<()> {
    check(name, found, found.is_finite() && found >= 0.0, "a finite number of 0 or more")
}

/// Checks a number that must be finite and above 0.
pub(crate) fn check_positive(name: &'static str, found: f64) -> Result<()> {
    check(name, found, found.is_finite() && found > 0.0, "a finite number above 0")
}

/// Checks a share that must be at least 0 and below 1, such as a momentum.
pub(crate) fn check_below_one(name: &'static str, found: f64) -> Result<()> {
    check(name, found, (0.0..1.0).contains(&found), "a number of at least 0 and below 1")
}

/// Checks that `f32` values of this shape fit into the machine's memory. Without the check, the allocation would end
/// the process, with all variables of a notebook.
pub(crate) fn check_memory(name: &'static str, shape: &[usize]) -> Result<()> {
    check_memory_of(name, "", shape)
}

/// [`check_memory`] for a layer, which the error names.
pub(crate) fn check_memory_of(name: &'static str, layer: &str, shape: &[usize]) -> Result<()> {
    let bytes = shape.iter().try_fold(size_of::<f32>(), |bytes, side| bytes.checked_mul(*side));
    let memory = physical_memory();
    if bytes.is_some_and(|bytes| bytes <= memory) {
        return Ok(());
    }
    let gigabytes = |bytes: f64| format!("{:.1} GB", bytes / 1e9);
    let size = shape.iter().map(|side| *side as f64).product::<f64>() * size_of::<f32>() as f64;
    let expected = format!("at most {}, the memory of this machine", gigabytes(memory as f64));
    let place = if layer.is_empty() { String::new() } else { format!(" of `{layer}`") };
    Err(Error::Argument { name, expected, found: format!("shape {shape:?}{place}, {}", gigabytes(size)) })
}

/// Size of the machine's memory in bytes; if it is unknown, the largest size of an allocation.
fn physical_memory() -> usize {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `sysconf` reads a system constant; -1 means that it is unknown.
        let [pages, size] =
            unsafe { [libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGE_SIZE)] };
        if pages > 0 && size > 0 {
            return (pages as usize).saturating_mul(size as usize);
        }
    }
    isize::MAX as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_beyond_the_memory_are_rejected() {
        assert!(check_memory("x", &[1000, 1000]).is_ok());
        for shape in [&[usize::MAX, 4][..], &[1 << 40, 3, 3, 3], &[usize::MAX / 8]] {
            let problem = check_memory("weights", shape).unwrap_err().to_string();
            assert!(problem.contains("weights: expected at most") && problem.contains("GB"), "{problem}");
        }
    }

    #[test]
    fn numbers_are_checked_against_their_range() {
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(check_not_negative("x", bad).is_err() && check_positive("x", bad).is_err(), "{bad}");
            assert!(check_below_one("x", bad).is_err(), "{bad}");
        }
        assert!(check_not_negative("x", 0.0).is_ok() && check_positive("x", 0.0).is_err());
        assert!(check_below_one("x", 0.0).is_ok() && check_below_one("x", 1.0).is_err());
    }
}
