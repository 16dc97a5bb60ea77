//! Scatter plot of samples, with a colour and a marker shape for each class.

use super::embedding::Embedding;
use crate::Result;
use crate::chart::axes::{Axis, BELOW, Frame, LEFT};
use crate::chart::range::{drawable, extent};
use crate::chart::svg::{Anchor, LINE, Svg, widest};
use crate::chart::theme::{PALETTE, Rgb};
use crate::chart::{Chart, chart_bundle};
use crate::display::{Bundle, Show};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 640;
const HEIGHT: i32 = 400;
const TOP: i32 = 12;

impl Embedding {
    /// A scatter plot of the samples, coloured by class.
    ///
    /// # Errors
    /// [`Error::Chart`](crate::Error::Chart) if the chart cannot be drawn.
    pub fn plot(&self) -> Result<Chart> {
        let text = self.to_string();
        Ok(Chart::new(draw(self).finish((WIDTH, HEIGHT), &text), text))
    }
}

impl Show for Embedding {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}

fn draw(embedding: &Embedding) -> Svg {
    let ratios = embedding.explained_variance_ratio();
    let axis = |component: usize| {
        let values = embedding.points().iter().map(|point| point[component]);
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let room = (high - low).max(1e-9) * 0.06;
        let title =
            format!("component {} ({:.0} % of the variance)", component + 1, 100.0 * ratios[component]);
        Axis::linear(&title, low - room, high + room)
    };
    let classes: Vec<Vec<(f64, f64)>> = (0..embedding.class_names().len())
        .map(|class| drawable(embedding.of_class(class).map(|[x, y]| (x, y))))
        .collect();
    let names = embedding.class_names().iter().zip(&classes);
    let labels: Vec<String> = names.map(|(name, points)| format!("{name} ({})", points.len())).collect();
    let beside = widest(labels.iter().map(String::as_str), true) as i32 + 40;
    let frame = Frame {
        left: LEFT,
        top: TOP,
        width: (WIDTH - LEFT - beside).max(200),
        height: HEIGHT - TOP - BELOW,
        x: axis(0),
        y: axis(1),
    };
    let mut svg = Svg::new();
    frame.draw(&mut svg);
    for (class, (points, label)) in classes.iter().zip(&labels).enumerate() {
        let colour = PALETTE[class % PALETTE.len()];
        points.iter().for_each(|point| mark(&mut svg, frame.at(*point), class, colour));
        let y = f64::from(TOP + 10 + class as i32 * (LINE + 6));
        let x = f64::from(frame.right() + 16);
        mark(&mut svg, (x, y), class, colour);
        svg.coloured((x + 12.0, y + 5.0), Anchor::Start, colour, label);
    }
    svg
}

/// Draws a marker. Its shape distinguishes classes whose colours look alike or repeat.
fn mark(svg: &mut Svg, (x, y): (f64, f64), class: usize, colour: Rgb) {
    match class % 3 {
        0 => svg.dot((x, y), 4.0, colour, 0.75),
        1 => {
            svg.polygon(&[(x, y - 5.0), (x - 5.0, y + 4.0), (x + 5.0, y + 4.0)], &colour.to_string(), colour)
        }
        _ => {
            svg.line((x - 4.0, y - 4.0), (x + 4.0, y + 4.0), colour, 2.0);
            svg.line((x - 4.0, y + 4.0), (x + 4.0, y - 4.0), colour, 2.0);
        }
    }
}
