//! Diagram of transfer learning: the pretrained network above, the new model below.

use candle_core::Tensor;

use super::slab::draw_slabs;
use super::stage::{Stage, stages_of};
use super::state_colours;
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::chart::text_width::{shortened, wrapped};
use crate::chart::theme::{NEUTRAL, TEXT};
use crate::display::thumbnails;
use crate::nn::Model;
use crate::{Error, Result};

/// Width of the chart, and side of a thumbnail, in pixels.
const WIDTH: i32 = 748;
const THUMBNAIL: i32 = 38;
/// Number of thumbnails per row, and their largest number.
const COLUMNS: i32 = 3;
const MAX_THUMBNAILS: usize = 6;
/// Where the blocks start and end, in pixels from the left.
const BLOCKS_START: i32 = 152;
const BLOCKS_END: i32 = 522;
/// Vertical distance of the two rows, and height of the heading, in pixels.
const ROW: i32 = 190;
const TOP: i32 = 34;

impl Chart {
    /// Draws how a model was built from a pretrained network. Above are the images of the source task,
    /// the network and its old top. Below are the images of the new task, the same blocks, marked as
    /// frozen or fine-tuned, and the new layers.
    ///
    /// Each task has a description and images `[N, 3, height, width]` from 0 to 255. Up to six images
    /// are shown.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has no nested network; [`Error::Shape`] if the images have
    /// another shape.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// base.freeze();
    /// let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    /// let images = random_uniform((6, 3, 32, 32), 0.0, 255.0)?;
    /// let chart = Chart::transfer(&model, ("31 kinds", &images), ("cats and dogs", &images))?;
    /// assert!(chart.text().contains("block5: frozen"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn transfer(model: &Model, source: (&str, &Tensor), task: (&str, &Tensor)) -> Result<Chart> {
        let stages = stages_of(model);
        let (base, new): (Vec<&Stage>, Vec<&Stage>) = stages.iter().partition(|stage| stage.inside.is_some());
        let Some(name) = base.first().and_then(|stage| stage.inside.clone()) else {
            return Err(Error::Argument {
                name: "model",
                expected: "a model with a pretrained network inside, as `sequential![base, Flatten, …]`"
                    .into(),
                found: format!("`{}`, which has layers only", model.name()),
            });
        };
        let new: Vec<&Stage> = new.into_iter().filter(|stage| stage.row.weights > 0).collect();
        let mut svg = Svg::new();
        let rows = [TOP + ROW / 2 - 14, TOP + ROW + 20 + ROW / 2 - 14];
        for ((about, images), middle) in [source, task].into_iter().zip(rows) {
            draw_task(&mut svg, about, images, middle)?;
        }
        let ends = [(true, rows[0]), (false, rows[1])]
            .map(|(is_source, middle)| draw_blocks(&mut svg, &base, middle, is_source));
        svg.text((BLOCKS_START, 18), Anchor::Start, true, &format!("{name}, pretrained"));
        svg.text((BLOCKS_END - 18, rows[1] - ROW / 2 + 2), Anchor::Start, true, "the same weights, copied");
        draw_old_top(&mut svg, ends[0], rows[0]);
        let text = draw_new_layers(&mut svg, &new, ends[1], rows[1]);
        let states: Vec<String> =
            base.iter().map(|stage| format!("{}: {}", stage.row.name, stage.row.state())).collect();
        let text =
            format!("{} → {name} with its old top\n{} → {} → {text}", source.0, task.0, states.join(", "));
        Ok(Chart::new(svg.finish((WIDTH, rows[1] + ROW / 2 + 34), &text), text))
    }
}

/// Draws the thumbnails of a task with its description.
fn draw_task(svg: &mut Svg, about: &str, images: &Tensor, middle: i32) -> Result<()> {
    for (at, address) in (0..).zip(thumbnails(images)?.into_iter().take(MAX_THUMBNAILS)) {
        let (left, top) =
            (4 + at % COLUMNS * (THUMBNAIL + 3), middle - THUMBNAIL - 2 + at / COLUMNS * (THUMBNAIL + 3));
        svg.image([left, top, THUMBNAIL, THUMBNAIL], &address);
    }
    let mut y = middle + THUMBNAIL + LINE;
    for line in wrapped(about, f64::from(BLOCKS_START - 20), TEXT) {
        svg.text((4, y), Anchor::Start, false, &line);
        y += LINE;
    }
    let end = 4 + COLUMNS * (THUMBNAIL + 3);
    svg.arrow(&[(end, middle), (BLOCKS_START - 2, middle)]);
    Ok(())
}

/// Draws the blocks of the network. Returns their right end.
fn draw_blocks(svg: &mut Svg, base: &[&Stage], middle: i32, is_source: bool) -> i32 {
    let pitch = (BLOCKS_END - BLOCKS_START) / base.len().max(1) as i32;
    let largest = base.iter().flat_map(|stage| &stage.slabs).map(|slab| slab.height).max().unwrap_or(1);
    let mut end = BLOCKS_START;
    for (at, stage) in (0..).zip(base) {
        let centre = BLOCKS_START + at * pitch + pitch / 2;
        let colours = if is_source { ("#eeeeee", NEUTRAL) } else { state_colours(stage.row.state()) };
        let slabs: Vec<_> = stage.slabs.iter().map(|slab| slab.without_shortcut()).collect();
        let (_, right) = draw_slabs(svg, (centre, middle), &slabs, largest, colours);
        if is_source {
            svg.arrow(&[(centre, middle + 74), (centre, middle + ROW - 66)]);
        } else {
            let name = shortened(&stage.row.name, f64::from(pitch - 2), TEXT);
            svg.text((centre, middle + 82), Anchor::Middle, false, &name);
        }
        end = right;
    }
    if !is_source {
        draw_braces(svg, base, middle + 92, pitch);
    }
    end
}

/// Marks below the blocks which extract features and which are fine-tuned.
fn draw_braces(svg: &mut Svg, base: &[&Stage], y: i32, pitch: i32) {
    let mut at = 0;
    for run in base.chunk_by(|a, b| a.is_frozen() == b.is_frozen()) {
        let (from, to) = (BLOCKS_START + at * pitch + 4, BLOCKS_START + (at + run.len() as i32) * pitch - 4);
        svg.line((f64::from(from), f64::from(y)), (f64::from(to), f64::from(y)), NEUTRAL, 2.0);
        let about = if run[0].is_frozen() { "feature extractor, frozen" } else { "fine-tuned" };
        svg.text(((from + to) / 2, y + LINE), Anchor::Middle, true, about);
        at += run.len() as i32;
    }
}

fn draw_old_top(svg: &mut Svg, end: i32, middle: i32) {
    svg.arrow(&[(end + 3, middle), (BLOCKS_END + 18, middle)]);
    svg.rect([BLOCKS_END + 20, middle - 30, 16, 60], "#eeeeee", NEUTRAL);
    svg.text((BLOCKS_END + 46, middle - 2), Anchor::Start, false, "old top, for the old");
    svg.text((BLOCKS_END + 46, middle + 15), Anchor::Start, false, "classes: left out");
}

/// Draws the new layers that have weights. Returns their names.
fn draw_new_layers(svg: &mut Svg, new: &[&Stage], end: i32, middle: i32) -> String {
    let mut x = BLOCKS_END + 20;
    svg.arrow(&[(end + 3, middle), (x - 2, middle)]);
    let tallest = new.iter().map(|stage| stage.row.weights).max().unwrap_or(1).max(2) as f64;
    let mut names = Vec::new();
    for stage in new {
        let (fill, stroke) = state_colours(stage.row.state());
        let height = 16 + (44.0 * (stage.row.weights as f64).ln() / tallest.ln()) as i32;
        svg.rect([x, middle - height / 2, 16, height], fill, stroke);
        names.push(format!("{}: {}", stage.row.name, stage.row.state()));
        x += 26;
    }
    let outputs = new.last().map_or(0, |stage| stage.row.output_shape.iter().product());
    let about = match outputs {
        1 => "new output: 1 number".to_owned(),
        n => format!("new output: {n} classes"),
    };
    for (line, text) in wrapped(&about, f64::from(WIDTH - x - 8), TEXT).into_iter().enumerate() {
        svg.text((x + 6, middle - 2 + line as i32 * LINE), Anchor::Start, true, &text);
    }
    svg.text((BLOCKS_END + 20, middle + 108), Anchor::Start, true, "new layers");
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn model_without_a_nested_network_is_refused() -> crate::Result<()> {
        let images = random_uniform((2, 3, 16, 16), 0.0, 255.0)?;
        let model = sequential![Input::new(2), Dense::new(1)]?;
        let problem = Chart::transfer(&model, ("a", &images), ("b", &images)).unwrap_err().to_string();
        assert!(problem.contains("pretrained network inside"), "{problem}");
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        base.unfreeze_from("block5_conv1")?;
        let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
        let chart = Chart::transfer(&model, ("a<b", &images), ("c", &images))?;
        assert!(chart.text().contains("block4: frozen, block5: trainable"), "{}", chart.text());
        assert_eq!(chart.svg().matches("<image").count(), 4);
        assert!(chart.svg().contains("a&lt;b"));
        assert!(Chart::transfer(&model, ("a", &images.get(0)?), ("c", &images)).is_err());
        Ok(())
    }
}
