//! Chart of the loss over the learning rate.

use super::finder::LearningRateCurve;
use crate::Result;
use crate::chart::axes::{Axis, BELOW, Frame, LEFT};
use crate::chart::range::{drawable, extent};
use crate::chart::svg::{Anchor, Stroke, Svg};
use crate::chart::theme::{BLUE, VERMILION};
use crate::chart::{Chart, chart_bundle};
use crate::display::{Bundle, Show};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 640;
const HEIGHT: i32 = 320;
const TOP: i32 = 34;

impl LearningRateCurve {
    /// Draws the loss over the learning rate, with the suggestion marked.
    ///
    /// # Errors
    /// [`Error::Chart`](crate::Error::Chart) if the chart cannot be drawn.
    pub fn plot(&self) -> Result<Chart> {
        let text = self.to_string();
        Ok(Chart::new(draw(self).finish((WIDTH, HEIGHT), &text), text))
    }
}

impl Show for LearningRateCurve {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}

fn draw(curve: &LearningRateCurve) -> Svg {
    let points = drawable(curve.learning_rates.iter().copied().zip(curve.losses.iter().copied()));
    let points: Vec<(f64, f64)> = points.into_iter().filter(|(rate, _)| *rate > 0.0).collect();
    let (low, high) = extent(points.iter().map(|(_, loss)| *loss)).unwrap_or((0.0, 1.0));
    let room = (high - low).max(1e-6) * 0.08;
    let (first, last) = (points.first().map_or(1e-7, |p| p.0), points.last().map_or(1.0, |p| p.0));
    let frame = Frame {
        left: LEFT,
        top: TOP,
        width: WIDTH - LEFT - 30,
        height: HEIGHT - TOP - BELOW,
        x: Axis::log("learning rate", first, last),
        y: Axis::linear("loss (smoothed)", low - room, high + 3.0 * room),
    };
    let mut svg = Svg::new();
    svg.title((4, 18), "loss over learning rate");
    frame.draw(&mut svg);
    let path: Vec<(f64, f64)> = points.iter().map(|point| frame.at(*point)).collect();
    svg.lines(&path, BLUE, 2.0, Stroke::Solid);
    let suggested = curve.suggestion();
    if let Some(point) = points.iter().find(|(rate, _)| *rate == suggested) {
        let (x, y) = frame.at(*point);
        svg.dot((x, y), 6.0, VERMILION, 1.0);
        // The label is above the line, on the side where the line falls.
        let anchor = if x > f64::from(frame.left + frame.width / 2) { Anchor::Start } else { Anchor::Middle };
        svg.coloured(
            (x, (y - 14.0).max(f64::from(TOP) + 12.0)),
            anchor,
            VERMILION,
            &format!("try {suggested:.0e}"),
        );
    }
    svg
}
