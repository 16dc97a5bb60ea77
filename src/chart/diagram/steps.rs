//! A way of working: one thing after the other.

use super::NEUTRAL;
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};

const WIDTH: i32 = 146;
const GAP: i32 = 24;
const MARGIN: i32 = 10;
const LETTERS: usize = 20;

impl Chart {
    /// A flowchart: for each step its name and what it is about, from left to right.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::steps(&[("load", "a pretrained network"), ("freeze", "all its layers")]);
    /// assert_eq!(chart.text(), "load (a pretrained network) → freeze (all its layers)");
    /// ```
    pub fn steps(steps: &[(&str, &str)]) -> Chart {
        let lines: Vec<Vec<String>> = steps.iter().map(|(_, about)| wrapped(about)).collect();
        let height = (lines.iter().map(Vec::len).max().unwrap_or(0) as i32 + 1) * LINE + 16;
        let mut svg = Svg::new();
        for (at, ((name, _), about)) in steps.iter().zip(&lines).enumerate() {
            let left = MARGIN + at as i32 * (WIDTH + GAP);
            svg.rect([left, MARGIN, WIDTH, height], "#f4f7fa", NEUTRAL);
            svg.text((left + WIDTH / 2, MARGIN + LINE + 2), Anchor::Middle, true, name);
            for (line, text) in (2..).zip(about) {
                svg.text((left + WIDTH / 2, MARGIN + line * LINE + 3), Anchor::Middle, false, text);
            }
            if at > 0 {
                svg.arrow(&[(left - GAP + 3, MARGIN + height / 2), (left - 3, MARGIN + height / 2)]);
            }
        }
        let all = steps.len() as i32 * (WIDTH + GAP) - GAP + 2 * MARGIN;
        let text: Vec<String> = steps
            .iter()
            .map(|(name, about)| if about.is_empty() { (*name).into() } else { format!("{name} ({about})") })
            .collect();
        let text = text.join(" → ");
        Chart { svg: svg.finish((all.max(WIDTH), height + 2 * MARGIN), &text), text }
    }
}

/// Broken between words so that each line fits into a box.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < LETTERS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
