//! Confidence interval of a proportion (Wilson 1927).

/// Quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a proportion that was measured on `n` samples. (0, 1) without samples.
pub(crate) fn wilson(share: f64, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let n = n as f64;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / (1.0 + Z * Z / n);
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SciPy 1.17.1: `binomtest(k, n).proportion_ci(method="wilson")`.
    #[test]
    fn intervals_match_scipy() {
        for (right, n, expected) in [
            (90, 100, (0.825_634_338, 0.944_770_863)),
            (40, 40, (0.912_378_399, 1.0)),
            (0, 7, (0.0, 0.354_330_435)),
            (1, 3, (0.061_491_945, 0.792_340_399)),
        ] {
            let (low, high) = wilson(f64::from(right) / n as f64, n);
            assert!(
                (low - expected.0).abs() < 1e-9 && (high - expected.1).abs() < 1e-9,
                "{right} of {n}: {low}, {high}"
            );
        }
        assert_eq!(wilson(0.0, 0), (0.0, 1.0));
    }
}
