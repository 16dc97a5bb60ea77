//! Axes of a chart: scales, ticks, grid lines and titles.

use super::range::{axis, label};
use super::svg::{Anchor, Svg};

/// The mapping from values to positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Logarithmic: values of 0 or less cannot be drawn.
    Log,
}

/// One axis: its extent, scale and title.
#[derive(Clone)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    title: String,
    /// Values with tick marks. Default: computed from the extent.
    ticks: Option<Vec<f64>>,
}

impl Axis {
    pub(crate) fn linear(title: &str, low: f64, high: f64) -> Axis {
        let range = axis(low, high);
        Axis { low: range.start, high: range.end, scale: Scale::Linear, title: title.to_owned(), ticks: None }
    }

    /// Creates a logarithmic axis. An end of 0 or less becomes the smallest positive number, whose logarithm is finite.
    pub(crate) fn log(title: &str, low: f64, high: f64) -> Axis {
        let exponent = |end: f64| end.max(f64::MIN_POSITIVE).log10();
        let range = axis(exponent(low), exponent(high));
        Axis { low: range.start, high: range.end, scale: Scale::Log, title: title.to_owned(), ticks: None }
    }

    pub(crate) fn ticks(self, values: Vec<f64>) -> Axis {
        Axis { ticks: Some(values), ..self }
    }

    /// Returns the position of a value between the ends, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    fn tick_values(&self, most: usize) -> Vec<f64> {
        if let Some(ticks) = &self.ticks {
            return ticks.clone();
        }
        match self.scale {
            Scale::Linear => round_values(self.low, self.high, most),
            Scale::Log => {
                let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
                let step = ((last - first).max(0) as usize / most.max(1) + 1) as i32;
                (first..=last)
                    .filter(|power| (power - first) % step == 0)
                    .map(|power| 10f64.powi(power))
                    .collect()
            }
        }
    }

    fn tick_label(&self, value: f64) -> String {
        let is_whole = self.ticks.as_ref().is_some_and(|ticks| ticks.iter().all(|tick| tick.fract() == 0.0));
        if self.scale == Scale::Linear && (is_whole || self.high - self.low >= 4.0) && value.abs() < 1e5 {
            return format!("{value:.0}");
        }
        match self.scale {
            Scale::Log if (1.0..1e5).contains(&value) => format!("{value:.0}"),
            Scale::Log => format!("{value:.0e}"),
            Scale::Linear => label(&value),
        }
    }
}

/// Returns multiples of 1, 2 or 5 times a power of ten between two ends, about `most` at most.
fn round_values(low: f64, high: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10.0);
    let (first, count) = ((low / step).ceil() * step, ((high - low) / step).floor() as usize);
    (0..=count.min(4 * most))
        .map(|at| first + at as f64 * step)
        .filter(|v| *v <= high + step * 1e-9)
        .collect()
}

/// The plot area between two axes, in pixels.
pub(crate) struct Frame {
    pub(crate) left: i32,
    pub(crate) top: i32,
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
}

/// Space for tick labels and the title of the vertical axis, in pixels.
pub(crate) const LEFT: i32 = 66;
/// Space for tick labels and the title of the horizontal axis, in pixels.
pub(crate) const BELOW: i32 = 44;

impl Frame {
    pub(crate) fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let left = f64::from(self.left) + self.x.share(x) * f64::from(self.width);
        (left, f64::from(self.top + self.height) - self.y.share(y) * f64::from(self.height))
    }

    pub(crate) fn right(&self) -> i32 {
        self.left + self.width
    }

    pub(crate) fn bottom(&self) -> i32 {
        self.top + self.height
    }

    /// Draws grid, tick labels and titles.
    pub(crate) fn draw(&self, svg: &mut Svg) {
        let ends = |from: i32, to: i32| (f64::from(from), f64::from(to));
        let (left, right) = ends(self.left, self.right());
        let (top, bottom) = ends(self.top, self.bottom());
        for value in self.y.tick_values((self.height / 40).max(2) as usize) {
            let y = self.at((value, value)).1;
            if y >= top - 0.5 && y <= bottom + 0.5 {
                svg.grid((left, y), (right, y));
                svg.text((self.left - 7, y as i32 + 5), Anchor::End, false, &self.y.tick_label(value));
            }
        }
        for value in self.x.tick_values((self.width / 60).max(2) as usize) {
            let x = self.at((value, value)).0;
            if x >= left - 0.5 && x <= right + 0.5 {
                svg.grid((x, top), (x, bottom));
                svg.text((x as i32, self.bottom() + 18), Anchor::Middle, false, &self.x.tick_label(value));
            }
        }
        svg.text((self.left + self.width / 2, self.bottom() + 38), Anchor::Middle, false, &self.x.title);
        if !self.y.title.is_empty() {
            svg.upright((self.left - LEFT + 14, self.top + self.height / 2), &self.y.title);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside_the_axis() {
        let ticks = round_values(0.47, 1.02, 6);
        assert_eq!(ticks.len(), 6);
        assert!(
            ticks.iter().zip([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]).all(|(a, b)| (a - b).abs() < 1e-9),
            "{ticks:?}"
        );
        assert_eq!(round_values(1.0, 15.0, 10), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
        let axis = Axis::log("rate", 1e-7, 1e-1);
        assert_eq!(axis.tick_values(8).len(), 7);
        assert_eq!(axis.tick_label(1e-3), "1e-3");
        assert_eq!(Axis::log("images", 10.0, 2000.0).tick_label(1000.0), "1000");
        assert!(Axis::log("", 0.0, 1.0).tick_values(8).len() < 10);
    }

    #[test]
    fn axis_ends_map_to_the_corners() {
        let (x, y) = (Axis::log("", 10.0, 1000.0), Axis::linear("", 0.0, 1.0));
        let frame = Frame { left: 50, top: 10, width: 200, height: 100, x, y };
        assert_eq!(frame.at((10.0, 0.0)), (50.0, 110.0));
        let (x, y) = frame.at((1000.0, 1.0));
        assert!((x - 250.0).abs() < 1e-9 && (y - 10.0).abs() < 1e-9);
        assert!((frame.at((100.0, 0.0)).0 - 150.0).abs() < 1e-9);
    }
}
