//! Diagram of choices for fine-tuning: how many blocks each of them unfreezes.

use super::stage::stages_of;
use super::{legend_of_states, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::chart::text_width::{shortened, wrapped};
use crate::chart::theme::TEXT;
use crate::nn::Model;
use crate::{Error, Result};

/// Width of the chart in pixels, shared by the columns.
const WIDTH: i32 = 740;
/// Largest width of a column, space between columns, and height of a box, in pixels.
const WIDEST_COLUMN: i32 = 148;
const GAP: i32 = 14;
const BOX_HEIGHT: i32 = 24;
/// Distance from one box to the next, in pixels.
const PITCH: i32 = BOX_HEIGHT + 5;
/// Height of the heading, in pixels.
const TOP: i32 = 36;

impl Chart {
    /// Draws choices for fine-tuning side by side, one column per choice. A column has the blocks of the pretrained
    /// network, from the image at the top to the new layers at the bottom. Frozen blocks are hatched.
    ///
    /// A choice has the number of last blocks that it unfreezes, and the text below its column, such as an accuracy
    /// and a time. Lines of the text are separated by `\n`.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    /// let chart = Chart::unfrozen(&model, &[(0, "0.85\n5 s"), (1, "0.86\n15 s"), (5, "0.87\n84 s")])?;
    /// assert_eq!(chart.text().lines().next(), Some("no block unfrozen: 0.85, 5 s"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has no nested network, there are no choices, or a choice unfreezes more blocks
    /// than there are.
    pub fn unfrozen(model: &Model, choices: &[(usize, &str)]) -> Result<Chart> {
        let stages = stages_of(model).into_iter().filter(|stage| stage.row.weights > 0);
        let (base, head): (Vec<_>, Vec<_>) = stages.partition(|stage| stage.inside.is_some());
        if base.is_empty() {
            let expected =
                "a model with a pretrained network inside, as `sequential![base, Flatten, …]`".into();
            return Err(Error::Argument { name: "model", expected, found: format!("`{}`", model.name()) });
        }
        let largest = choices.iter().map(|(blocks, _)| *blocks).max();
        if largest.is_none_or(|largest| largest > base.len()) {
            let expected = format!("choices of at most {} unfrozen blocks", base.len());
            let found = largest.map_or("no choice".into(), |largest| largest.to_string());
            return Err(Error::Argument { name: "choices", expected, found });
        }
        let count = choices.len() as i32;
        let width = ((WIDTH - (count - 1) * GAP) / count).min(WIDEST_COLUMN);
        let names: Vec<&str> = base
            .iter()
            .map(|stage| &*stage.row.name)
            .chain((!head.is_empty()).then_some("new layers"))
            .collect();
        let mut svg = Svg::new();
        let states = ["frozen", "trainable"].map(|state| (state.to_owned(), state.to_owned()));
        legend_of_states(&mut svg, (2, 4), &states);
        let (mut bottom, mut text) = (TOP, Vec::new());
        for (at, (blocks, about)) in (0..).zip(choices) {
            let left = 2 + at * (width + GAP);
            for (number, name) in names.iter().enumerate() {
                let is_frozen = number + blocks < base.len();
                let (fill, stroke) = state_colours(if is_frozen { "frozen" } else { "trainable" });
                let top = TOP + number as i32 * PITCH;
                svg.rect([left, top, width, BOX_HEIGHT], fill, stroke);
                let name = shortened(name, f64::from(width - 8), TEXT);
                svg.boxed((left + width / 2, top + BOX_HEIGHT - 7), false, &name);
            }
            let mut y = TOP + names.len() as i32 * PITCH + LINE;
            let lines = about.lines().flat_map(|line| wrapped(line, f64::from(width), TEXT));
            for (line, part) in lines.enumerate() {
                svg.text((left + width / 2, y), Anchor::Middle, line == 0, &part);
                y += LINE;
            }
            bottom = bottom.max(y);
            let unfrozen = match blocks {
                0 => "no block".to_owned(),
                1 => "1 block".to_owned(),
                n => format!("{n} blocks"),
            };
            text.push(format!("{unfrozen} unfrozen: {}", about.replace('\n', ", ")));
        }
        let text = text.join("\n");
        let size = (4 + count * (width + GAP) - GAP, bottom);
        Ok(Chart::new(svg.finish(size, &text), text))
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn each_choice_has_its_frozen_blocks_and_its_text() -> crate::Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
        let chart = Chart::unfrozen(&model, &[(0, "a<b"), (2, "c"), (5, "d")])?;
        // Five blocks and the new layers in each column, and one box of each state in the legend.
        assert_eq!(chart.svg().matches("fill=\"url(#frozen)\"").count(), 5 + 3 + 1);
        assert_eq!(chart.svg().matches("fill=\"#f6d5bd\"").count(), 1 + 3 + 6 + 1);
        assert!(chart.svg().contains("a&lt;b"));
        for (choices, expected) in [(&[(6, "")][..], "at most 5"), (&[], "no choice")] {
            let problem = Chart::unfrozen(&model, choices).unwrap_err().to_string();
            assert!(problem.contains(expected), "{problem}");
        }
        let plain = sequential![Input::new(2), Dense::new(1)]?;
        assert!(Chart::unfrozen(&plain, &[(0, "")]).is_err());
        Ok(())
    }
}
