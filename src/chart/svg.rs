//! Drawing by hand what is no chart of numbers.

use plotters::style::RGBColor;

use crate::display::escape;

/// Height of a line of small text.
pub(super) const LINE: i32 = 14;
/// Of what is written in a diagram.
const SIZE: i32 = 11;
const INK: &str = "#222";

/// Where a text stands to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG document that grows.
pub(super) struct Svg {
    body: String,
}

impl Svg {
    pub(super) fn new() -> Svg {
        Svg { body: String::new() }
    }

    pub(super) fn rect(&mut self, [x, y, width, height]: [i32; 4], fill: &str, stroke: RGBColor) {
        self.body += &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"{}\" \
             stroke-width=\"1.5\"/>",
            hex(stroke)
        );
    }

    /// A dashed frame round what belongs together.
    pub(super) fn frame(&mut self, [x, y, width, height]: [i32; 4]) {
        self.body += &format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"none\" stroke=\"#777\" \
             stroke-dasharray=\"5 4\"/>"
        );
    }

    pub(super) fn text(&mut self, (x, y): (i32, i32), anchor: Anchor, bold: bool, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        self.body += &format!(
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{weight} fill=\"{INK}\">{}</text>",
            escape(text)
        );
    }

    /// A line through points, with a head at its end.
    pub(super) fn arrow(&mut self, points: &[(i32, i32)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        self.body += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#555\" stroke-width=\"1.5\" marker-end=\"url(#head)\"/>",
            points.join(" ")
        );
    }

    pub(super) fn line(&mut self, (x1, y1): (i32, i32), (x2, y2): (i32, i32), color: RGBColor, width: f64) {
        self.body += &format!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{}\" stroke-width=\"{width}\"/>",
            hex(color)
        );
    }

    /// The whole document; what cannot see it is told the title.
    pub(super) fn finish(self, (width, height): (i32, i32), title: &str) -> String {
        let hatch = hex(super::theme::BLUE);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" style=\"max-width:100%;height:auto\" font-family=\"sans-serif\" \
             font-size=\"{SIZE}\" role=\"img\"><title>{}</title><defs>\
             <marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"6\" markerHeight=\"6\" \
             orient=\"auto-start-reverse\"><path d=\"M0 0 8 4 0 8z\" fill=\"#555\"/></marker>\
             <pattern id=\"frozen\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#dcebf5\"/>\
             <line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"{hatch}\" stroke-opacity=\"0.35\" stroke-width=\"2\"/>\
             </pattern></defs><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{}</svg>",
            escape(title),
            self.body
        )
    }
}

fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
