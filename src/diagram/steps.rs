//! Flowcharts.

use crate::chart::Chart;
use crate::chart::svg::{LINE, Svg};
use crate::chart::text_width::wrapped;
use crate::chart::theme::{NEUTRAL, TEXT};

/// Margin, and space between boxes, in pixels.
const MARGIN: i32 = 4;
const GAP: i32 = 24;
/// Width of the chart in pixels, shared by the boxes.
const WIDTH: i32 = 740;
/// Smallest and largest width of a box, in pixels.
const NARROWEST: i32 = 118;
const WIDEST: i32 = 170;

impl Chart {
    /// Draws a flowchart from left to right. Each step has a name and a description.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::steps(&[("load", "a pretrained network"), ("freeze", "all its layers")]);
    /// assert_eq!(chart.text(), "load (a pretrained network) → freeze (all its layers)");
    /// ```
    pub fn steps(steps: &[(&str, &str)]) -> Chart {
        let count = steps.len().max(1) as i32;
        let width = ((WIDTH - 2 * MARGIN - (count - 1) * GAP) / count).clamp(NARROWEST, WIDEST);
        let fitting = |text: &str| wrapped(text, f64::from(width - 12), TEXT);
        let lines: Vec<Vec<String>> = steps.iter().map(|(_, about)| fitting(about)).collect();
        let names: Vec<Vec<String>> =
            steps.iter().map(|(name, _)| wrapped(name, f64::from(width - 26), TEXT)).collect();
        let tallest =
            names.iter().zip(&lines).map(|(name, about)| name.len() + about.len()).max().unwrap_or(0);
        let height = tallest as i32 * LINE + 16;
        let mut svg = Svg::new();
        for (at, (name, about)) in names.iter().zip(&lines).enumerate() {
            let left = MARGIN + at as i32 * (width + GAP);
            svg.rect([left, MARGIN, width, height], "#f4f7fa", NEUTRAL);
            let bold = name.iter().map(|line| (true, line)).chain(about.iter().map(|line| (false, line)));
            for (line, (bold, text)) in (1..).zip(bold) {
                svg.boxed((left + width / 2, MARGIN + line * LINE + 3), bold, text);
            }
            if at > 0 {
                svg.arrow(&[(left - GAP + 3, MARGIN + height / 2), (left - 3, MARGIN + height / 2)]);
            }
        }
        let all = count * (width + GAP) - GAP + 2 * MARGIN;
        let text = in_words(steps);
        Chart::new(svg.finish((all, height + 2 * MARGIN), &text), text)
    }
}

/// Formats the steps as one line of text.
pub(super) fn in_words(steps: &[(&str, &str)]) -> String {
    let text: Vec<String> = steps
        .iter()
        .map(|(name, about)| if about.is_empty() { (*name).into() } else { format!("{name} ({about})") })
        .collect();
    text.join(" → ")
}
