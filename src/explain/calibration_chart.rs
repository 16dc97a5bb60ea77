//! Reliability diagram: accuracy over confidence.

use super::calibration::Calibration;
use super::interval::wilson;
use crate::Result;
use crate::chart::axes::{Axis, BELOW, Frame, LEFT};
use crate::chart::svg::{Anchor, LINE, Stroke, Svg};
use crate::chart::theme::{BLUE, INK, VERMILION};
use crate::chart::{Chart, chart_bundle};
use crate::display::{Bundle, Show};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 640;
const HEIGHT: i32 = 400;
const TOP: i32 = 34;
/// Width of the explanation beside the plot area, in pixels.
const BESIDE: i32 = 190;

impl Calibration {
    /// The reliability diagram: accuracy over confidence, with Wilson's 95 % interval of each bin.
    ///
    /// # Errors
    /// [`Error::Chart`](crate::Error::Chart) if the chart cannot be drawn.
    pub fn plot(&self) -> Result<Chart> {
        let text = self.to_string();
        Ok(Chart::new(draw(self).finish((WIDTH, HEIGHT), &text), text))
    }
}

impl Show for Calibration {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}

fn draw(calibration: &Calibration) -> Svg {
    // The predicted class of n classes has a probability of at least 1/n.
    let least = 1.0 / calibration.classes() as f64;
    let first = calibration.bins().iter().map(|bin| bin.0).fold(least, f64::min);
    let intervals = || calibration.bins().iter().map(|(_, accuracy, count)| wilson(*accuracy, *count));
    let lowest = intervals().map(|interval| interval.0).fold(first, f64::min);
    let frame = Frame {
        left: LEFT,
        top: TOP,
        width: WIDTH - LEFT - BESIDE,
        height: HEIGHT - TOP - BELOW,
        x: Axis::linear("confidence", first - 0.02, 1.02),
        y: Axis::linear("accuracy", lowest - 0.02, 1.02),
    };
    let mut svg = Svg::new();
    svg.title((4, 18), &format!("reliability: expected calibration error {:.3}", calibration.error()));
    frame.draw(&mut svg);
    svg.lines(&[frame.at((first, first)), frame.at((1.0, 1.0))], INK, 1.5, Stroke::Dashed);
    for ((confidence, accuracy, count), (low, high)) in calibration.bins().iter().zip(intervals()) {
        let at = |accuracy: f64| frame.at((*confidence, accuracy));
        svg.lines(&[at(*confidence), at(*accuracy)], VERMILION, 3.0, Stroke::Solid);
        svg.line(at(low), at(high), BLUE, 1.5);
        // The area of a dot stands for the number of samples.
        let share = *count as f64 / calibration.bins().iter().map(|bin| bin.2).max().unwrap_or(1) as f64;
        svg.dot(at(*accuracy), 3.0 + 6.0 * share.sqrt(), BLUE, 0.8);
    }
    let x = f64::from(frame.right() + 14);
    let explanations = [
        (BLUE, "accuracy in a bin,"),
        (BLUE, "95 % interval; area:"),
        (BLUE, "number of samples"),
        (VERMILION, "its distance from"),
        (VERMILION, "the confidence"),
        (INK, "calibrated (dashed)"),
    ];
    for (line, (colour, text)) in explanations.into_iter().enumerate() {
        svg.coloured((x, f64::from(TOP + 14 + line as i32 * (LINE + 4))), Anchor::Start, colour, text);
    }
    svg
}
