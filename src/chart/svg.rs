//! Builder of SVG documents. Coordinates and sizes are in pixels.

use std::borrow::Cow;

use super::text_width::text_width;
use super::theme::{BLUE, DARK_INK, INK, Rgb, TEXT, TITLE};
use crate::display::escape;

/// Height of a line of text, in pixels.
pub(crate) const LINE: i32 = 16;
/// Maximum number of points of a line (2,000: several for each pixel of a chart's width). Beyond it, a page would be
/// slow to open.
const MAX_POINTS: usize = 2000;

/// The alignment of a text relative to its position.
#[derive(Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The style of a line.
#[derive(Clone, Copy)]
pub(crate) enum Stroke {
    Solid,
    Dashed,
}

/// An SVG document under construction.
pub(crate) struct Svg {
    body: String,
}

impl Svg {
    pub(crate) fn new() -> Svg {
        Svg { body: String::new() }
    }

    pub(crate) fn rect(&mut self, [x, y, width, height]: [i32; 4], fill: &str, stroke: Rgb) {
        self.body += &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"{stroke}\" \
             stroke-width=\"1.5\"/>"
        );
    }

    /// Draws a dashed frame around a group.
    pub(crate) fn frame(&mut self, [x, y, width, height]: [i32; 4]) {
        self.body += &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"none\" stroke=\"{INK}\" \
             stroke-dasharray=\"5 4\"/>"
        );
    }

    /// Writes text on the background.
    pub(crate) fn text(&mut self, at: (i32, i32), anchor: Anchor, bold: bool, text: &str) {
        self.write((f64::from(at.0), f64::from(at.1)), anchor, TEXT, bold, INK, text);
    }

    /// Writes text in a given colour on the background.
    pub(crate) fn coloured(&mut self, at: (f64, f64), anchor: Anchor, colour: Rgb, text: &str) {
        self.write(at, anchor, TEXT, true, colour, text);
    }

    /// Writes text inside a light box.
    pub(crate) fn boxed(&mut self, (x, y): (i32, i32), bold: bool, text: &str) {
        self.write((f64::from(x), f64::from(y)), Anchor::Middle, TEXT, bold, DARK_INK, text);
    }

    /// Writes the title of a figure.
    pub(crate) fn title(&mut self, (x, y): (i32, i32), text: &str) {
        self.write((f64::from(x), f64::from(y)), Anchor::Start, TITLE, true, INK, text);
    }

    /// Writes vertical text, from bottom to top, centred on a point.
    pub(crate) fn upright(&mut self, (x, y): (i32, i32), text: &str) {
        self.body += &format!(
            "<text transform=\"rotate(-90 {x} {y})\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"{INK}\">{}</text>",
            escape(text)
        );
    }

    fn write(&mut self, (x, y): (f64, f64), anchor: Anchor, size: i32, bold: bool, colour: Rgb, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let size = if size == TEXT { String::new() } else { format!(" font-size=\"{size}\"") };
        self.body += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\"{weight}{size} fill=\"{colour}\">{}</text>",
            short(x),
            short(y),
            escape(text)
        );
    }

    /// Draws a line through points, with an arrowhead at its end.
    pub(crate) fn arrow(&mut self, points: &[(i32, i32)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        self.body += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{INK}\" stroke-width=\"1.5\" marker-end=\"url(#head)\"/>",
            points.join(" ")
        );
    }

    /// Draws an arc between two points at the same height.
    pub(crate) fn arc(&mut self, (from, to): (i32, i32), y: i32, height: i32) {
        self.body += &format!(
            "<path d=\"M{from} {y} C{from} {0} {to} {0} {to} {y}\" fill=\"none\" stroke=\"{INK}\" stroke-width=\"1.5\"/>",
            y - height
        );
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: Rgb, width: f64) {
        self.lines(&[from, to], colour, width, Stroke::Solid);
    }

    /// Draws a line through points.
    pub(crate) fn lines(&mut self, points: &[(f64, f64)], colour: Rgb, width: f64, stroke: Stroke) {
        let dashes = match stroke {
            Stroke::Solid => "",
            Stroke::Dashed => " stroke-dasharray=\"5 4\"",
        };
        self.body += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes} \
             stroke-linejoin=\"round\"/>",
            joined(&thinned(points))
        );
    }

    /// Draws a faint grid line behind the data.
    pub(crate) fn grid(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.body += &format!(
            "<polyline points=\"{}\" stroke=\"{INK}\" stroke-opacity=\"0.28\"/>",
            joined(&[from, to])
        );
    }

    /// Draws a filled polygon.
    pub(crate) fn polygon(&mut self, points: &[(f64, f64)], fill: &str, stroke: Rgb) {
        self.body += &format!(
            "<polygon points=\"{}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-linejoin=\"round\"/>",
            joined(points)
        );
    }

    /// Draws a translucent area behind a line.
    pub(crate) fn band(&mut self, points: &[(f64, f64)], colour: Rgb) {
        self.body += &format!(
            "<polygon points=\"{}\" fill=\"{colour}\" fill-opacity=\"0.22\"/>",
            joined(&thinned(points))
        );
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: Rgb, opacity: f64) {
        self.body += &format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>",
            short(x),
            short(y)
        );
    }

    /// Draws a circle with an outline, for a node of a diagram.
    pub(crate) fn node(&mut self, (x, y): (i32, i32), radius: i32, fill: &str, stroke: Rgb) {
        self.body += &format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.5\"/>"
        );
    }

    /// Draws an image from a data URL.
    pub(crate) fn image(&mut self, [x, y, width, height]: [i32; 4], address: &str) {
        self.body +=
            &format!("<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" href=\"{address}\"/>");
    }

    /// Returns the complete document. `title` describes the chart for screen readers.
    pub(crate) fn finish(self, (width, height): (i32, i32), title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" style=\"max-width:100%;height:auto\" font-family=\"{FONTS}\" \
             font-size=\"{TEXT}\" role=\"img\"><title>{}</title><defs>\
             <marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" \
             orient=\"auto-start-reverse\"><path d=\"M0 0 8 4 0 8z\" fill=\"{INK}\"/></marker>\
             <pattern id=\"frozen\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#dcebf5\"/>\
             <line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"{BLUE}\" stroke-opacity=\"0.45\" stroke-width=\"2\"/>\
             </pattern></defs>{}</svg>",
            escape(title),
            self.body
        )
    }
}

/// Fonts of all figures; the widths in [`super::text_width`] cover each of them.
pub(crate) const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

/// Returns the width of the widest text, in pixels.
pub(crate) fn widest<'a>(texts: impl IntoIterator<Item = &'a str>, bold: bool) -> f64 {
    texts.into_iter().map(|text| text_width(text, TEXT, bold)).fold(0.0, f64::max)
}

/// The points of a line. If there are too many, only the lowest and the highest of each run of neighbours.
fn thinned(points: &[(f64, f64)]) -> Cow<'_, [(f64, f64)]> {
    if points.len() <= MAX_POINTS {
        return points.into();
    }
    let runs = points.chunks(points.len().div_ceil(MAX_POINTS / 2));
    let ends = runs.flat_map(|run| {
        let by_height = |a: &usize, b: &usize| run[*a].1.total_cmp(&run[*b].1);
        let (lowest, highest) = ((0..run.len()).min_by(by_height), (0..run.len()).max_by(by_height));
        let (first, second) = (lowest.min(highest), lowest.max(highest).filter(|_| lowest != highest));
        [first, second].into_iter().flatten().map(|at| run[at])
    });
    ends.collect()
}

fn joined(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", short(*x), short(*y))).collect();
    points.join(" ")
}

/// Formats a coordinate with at most one decimal.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_many_points_keeps_its_extremes() {
        let height = |at: usize| if at == 77_777 { -50.0 } else { (at as f64 / 1e4).sin() };
        let points: Vec<(f64, f64)> = (0..100_000).map(|at| (at as f64, height(at))).collect();
        let thinned = thinned(&points);
        assert!(thinned.len() <= MAX_POINTS && thinned.is_sorted_by_key(|point| point.0));
        assert!(thinned.contains(&(77_777.0, -50.0)));
        let highest = points.iter().map(|point| point.1).fold(f64::MIN, f64::max);
        assert!(thinned.iter().any(|point| point.1 == highest));
        assert_eq!(super::thinned(&points[..2000]).len(), 2000);
    }
}
