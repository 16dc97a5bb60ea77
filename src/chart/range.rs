//! Axis ranges that are always valid.
//!
//! An axis has no ticks if it is infinite, or so short that a step does not change its values. All
//! charts compute their ranges here.

use std::ops::Range;

/// Largest absolute value that is drawn: the square root of the largest `f64`, so that sums stay finite.
const LARGEST: f64 = 1e150;
/// Shortest axis, as a share of its largest absolute value. Far above the precision of `f64`.
const SHORTEST_SHARE: f64 = 1e-6;
/// Shortest axis if all its values are 0.
const SHORTEST: f64 = 1e-9;

/// Whether a value can be drawn.
pub(crate) fn can_be_drawn(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// Returns the smallest and the largest value that can be drawn.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| can_be_drawn(*value)).fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Returns an axis that contains `low` and `high`, finite and not too short.
pub(crate) fn axis(low: f64, high: f64) -> Range<f64> {
    let finite = |value: f64| if value.is_nan() { 0.0 } else { value.clamp(-LARGEST, LARGEST) };
    let (low, high) = (finite(low).min(finite(high)), finite(low).max(finite(high)));
    let shortest = (SHORTEST_SHARE * low.abs().max(high.abs())).max(SHORTEST);
    if high - low >= shortest {
        return low..high;
    }
    let middle = low.midpoint(high);
    middle - shortest..middle + shortest
}

/// Returns the points that can be drawn.
pub(crate) fn drawable(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    points.into_iter().filter(|(x, y)| can_be_drawn(*x) && can_be_drawn(*y)).collect()
}

/// Formats a tick label with two decimals, or in scientific notation for small and large values.
pub(crate) fn label(value: &f64) -> String {
    match value.abs() {
        size if size >= 1e5 || size > 0.0 && size < 5e-3 => format!("{value:.1e}"),
        _ => format!("{value:.2}"),
    }
}

/// Draws numbers as a row of block characters, from the lowest to the highest value. `?` marks a number
/// that cannot be drawn.
pub(crate) fn spark(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = extent(values.iter().copied()).unwrap_or_default();
    let span = (high - low).max(f64::EPSILON);
    let block = |value: &f64| match can_be_drawn(*value) {
        true => BLOCKS[(((value - low) / span * 7.0).round() as usize).min(7)],
        false => '?',
    };
    values.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTREME_VALUES: [f64; 12] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        0.0,
        -0.0,
        1e17,
        1e17 + 16.0,
        -1e308,
        1.0 + f64::EPSILON,
    ];

    #[test]
    fn axes_are_finite_and_long_enough() {
        for low in EXTREME_VALUES {
            for high in EXTREME_VALUES {
                let axis = axis(low, high);
                assert!(axis.start.is_finite() && axis.end.is_finite(), "{low} to {high}: {axis:?}");
                let step = (axis.end - axis.start) / 1e6;
                assert!(
                    axis.start + step > axis.start && axis.end - step < axis.end,
                    "{low} to {high}: {axis:?}"
                );
            }
        }
    }

    #[test]
    fn extent_ignores_values_that_cannot_be_drawn() {
        assert_eq!(extent([2.0, f64::NAN, 1.0, f64::INFINITY].into_iter()), Some((1.0, 2.0)));
        assert_eq!(extent([f64::NAN].into_iter()), None);
        assert_eq!(drawable([(1.0, f64::NAN), (2.0, 1e300), (3.0, 4.0)]), [(3.0, 4.0)]);
    }
}
