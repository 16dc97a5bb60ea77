//! Diagrams of models and workflows.

mod block;
mod layer_kind;
mod slab;
mod stage;
mod stages;
mod steps;
mod transfer;
mod unfrozen;
mod workflow;

use crate::chart::svg::{Anchor, Svg};
use crate::chart::text_width::text_width;
use crate::chart::theme::{self, NEUTRAL, Rgb};

/// Distance from one stage to the next, in pixels.
const PITCH: i32 = 92;

/// Fill and stroke for a state of [`crate::nn::Row::state`].
fn state_colours(state: &str) -> (&'static str, Rgb) {
    match state {
        "frozen" => ("url(#frozen)", theme::BLUE),
        "trainable" => ("#f6d5bd", theme::VERMILION),
        "partly" => ("#f6eedd", theme::VERMILION),
        _ => ("#eeeeee", NEUTRAL),
    }
}

/// Formats a shape: `64×112×112`.
fn sizes(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// Draws the legend of the colours: a text for each state.
fn legend_of_states(svg: &mut Svg, (mut x, y): (i32, i32), states: &[(String, String)]) {
    for (state, text) in states {
        let (fill, stroke) = state_colours(state);
        svg.rect([x, y, 14, 14], fill, stroke);
        svg.text((x + 20, y + 11), Anchor::Start, false, text);
        x += 44 + text_width(text, theme::TEXT, false) as i32;
    }
}
