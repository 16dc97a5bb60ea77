//! Diagram of the steps of transfer learning, with the state of the network in each step.

use super::steps::in_words;
use super::{legend_of_states, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::chart::text_width::wrapped;
use crate::chart::theme::TEXT;

/// Width of the chart, margin, and distance from one step to the next, in pixels.
const WIDTH: i32 = 740;
const MARGIN: i32 = 4;
const STEP: i32 = (WIDTH - 2 * MARGIN) / 6;
/// Number of blocks of the drawn network.
const BLOCKS: i32 = 5;
/// Distance from one block to the next, in pixels.
const PITCH: i32 = 14;
/// Width of a block, and of the network's head, in pixels.
const BLOCK: i32 = 10;
const HEAD: i32 = 8;

/// The state of a part of the network in a step.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Absent,
    Is(&'static str),
}

/// One step: its name, its description, and the states of the early blocks, the last block, the old top
/// and the new layers.
struct Step {
    name: &'static str,
    about: &'static str,
    early: &'static str,
    last: &'static str,
    top: Part,
    head: Part,
}

const STEPS: [Step; 6] = [
    Step {
        name: "1. load",
        about: "a pretrained network, leave its top out",
        early: "trainable",
        last: "trainable",
        top: Part::Is("dropped"),
        head: Part::Absent,
    },
    Step {
        name: "2. freeze",
        about: "all its layers",
        early: "frozen",
        last: "frozen",
        top: Part::Absent,
        head: Part::Absent,
    },
    Step {
        name: "3. add layers",
        about: "for your classes",
        early: "frozen",
        last: "frozen",
        top: Part::Absent,
        head: Part::Is("trainable"),
    },
    Step {
        name: "4. train",
        about: "only the new layers change",
        early: "frozen",
        last: "frozen",
        top: Part::Absent,
        head: Part::Is("trainable"),
    },
    Step {
        name: "5. fine-tune",
        about: "the last block too, in small steps",
        early: "frozen",
        last: "trainable",
        top: Part::Absent,
        head: Part::Is("trainable"),
    },
    Step {
        name: "6. evaluate",
        about: "on images that no step used",
        early: "frozen",
        last: "frozen",
        top: Part::Absent,
        head: Part::Is("frozen"),
    },
];

impl Chart {
    /// Draws the workflow of transfer learning: six steps, each with the network after the step.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::workflow();
    /// assert!(chart.text().contains("5. fine-tune (the last block too, in small steps)"));
    /// ```
    pub fn workflow() -> Chart {
        let mut svg = Svg::new();
        let about: Vec<Vec<String>> =
            STEPS.iter().map(|step| wrapped(step.about, f64::from(STEP - 12), TEXT)).collect();
        let lines = about.iter().map(Vec::len).max().unwrap_or(1) as i32;
        let middle = MARGIN + (lines + 1) * LINE + 56;
        for (at, (step, about)) in STEPS.iter().zip(&about).enumerate() {
            let left = MARGIN + at as i32 * STEP;
            let centre = left + STEP / 2;
            svg.text((centre, MARGIN + LINE), Anchor::Middle, true, step.name);
            for (line, text) in (2..).zip(about) {
                svg.text((centre, MARGIN + line * LINE), Anchor::Middle, false, text);
            }
            draw_network(&mut svg, step, (left + 12, middle));
            if at + 1 < STEPS.len() {
                svg.arrow(&[(left + STEP - 11, middle), (left + STEP + 3, middle)]);
            }
        }
        let legend = [("frozen", "frozen"), ("trainable", "trainable")].map(|(a, b)| (a.into(), b.into()));
        legend_of_states(&mut svg, (MARGIN + 8, middle + 52), &legend);
        let words: Vec<(&str, &str)> = STEPS.iter().map(|step| (step.name, step.about)).collect();
        let text = in_words(&words);
        Chart::new(svg.finish((WIDTH, middle + 74), &text), text)
    }
}

/// Draws five blocks of decreasing size, and the layers behind them.
fn draw_network(svg: &mut Svg, step: &Step, (left, middle): (i32, i32)) {
    for block in 0..BLOCKS {
        let (fill, stroke) = state_colours(if block + 1 == BLOCKS { step.last } else { step.early });
        let height = 72 - 11 * block;
        svg.rect([left + block * PITCH, middle - height / 2, BLOCK, height], fill, stroke);
    }
    let x = left + BLOCKS * PITCH + 3;
    if let Part::Is(state) = step.top {
        let (fill, stroke) = state_colours(state);
        svg.rect([x, middle - 26, HEAD, 52], fill, stroke);
        let cross = |from: (i32, i32), to: (i32, i32)| {
            ((f64::from(from.0), f64::from(from.1)), (f64::from(to.0), f64::from(to.1)))
        };
        for (from, to) in [
            cross((x - 4, middle - 30), (x + 12, middle + 30)),
            cross((x - 4, middle + 30), (x + 12, middle - 30)),
        ] {
            svg.line(from, to, crate::chart::theme::VERMILION, 2.0);
        }
    }
    if let Part::Is(state) = step.head {
        let (fill, stroke) = state_colours(state);
        svg.rect([x, middle - 18, HEAD, 36], fill, stroke);
        svg.rect([x + 12, middle - 6, HEAD, 12], fill, stroke);
    }
}
