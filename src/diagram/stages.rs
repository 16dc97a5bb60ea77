//! Diagram of a model as a row of stages.

use super::slab::draw_slabs;
use super::stage::{Stage, stages_of};
use super::{PITCH, legend_of_states, sizes, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::chart::text_width::text_width;
use crate::chart::theme::TEXT;
use crate::nn::{Model, thousands};

/// Margin, in pixels.
const MARGIN: i32 = 8;
/// Largest number of stages in a row, so that text stays readable at a notebook's width.
const STAGES_PER_ROW: usize = 8;

impl Model {
    /// Draws the model from left to right, stage by stage: a compact form of Keras's `plot_model`.
    ///
    /// A slab is a convolution, or a residual block with an arc for its shortcut. Its height shows the
    /// size of the feature maps, its width the number of channels. Frozen stages are hatched blue,
    /// trainable ones orange. A nested model has a frame.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// base.freeze();
    /// let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    /// println!("{}", model.plot().text());
    /// # assert!(model.plot().text().contains("3 conv, pool"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn plot(&self) -> Chart {
        let stages = stages_of(self);
        Chart::new(draw(self, &stages), in_words(self, &stages))
    }
}

/// A row of stages with the space that it needs.
struct StageRow<'a> {
    members: &'a [&'a Stage],
    above: i32,
    below: i32,
    name_lines: i32,
    about_lines: i32,
}

impl<'a> StageRow<'a> {
    fn new(members: &'a [&'a Stage], largest: usize) -> StageRow<'a> {
        let extents = || members.iter().flat_map(|stage| &stage.slabs).map(|slab| slab.extent(largest));
        let has_frame = members.iter().any(|stage| stage.inside.is_some());
        let lines = |count: &dyn Fn(&Stage) -> usize| {
            members.iter().map(|stage| count(stage)).max().unwrap_or(0) as i32
        };
        StageRow {
            members,
            above: extents().map(|(above, _)| above).max().unwrap_or(20) + if has_frame { 34 } else { 8 },
            below: extents().map(|(_, below)| below).max().unwrap_or(20),
            name_lines: lines(&|stage| in_lines(&stage.row.name).len()),
            about_lines: lines(&|stage| stage.about_lines().len()),
        }
    }

    fn height(&self) -> i32 {
        self.above + self.below + 8 + (self.name_lines + self.about_lines + 2) * LINE + 18
    }
}

fn draw(model: &Model, stages: &[Stage]) -> String {
    let mut svg = Svg::new();
    let input = Stage::of_input(model.input_shape());
    let all: Vec<&Stage> = std::iter::once(&input).chain(stages).collect();
    let heights =
        all.iter().flat_map(|stage| &stage.slabs).map(|slab| if slab.is_vector { 1 } else { slab.height });
    let largest = heights.max().unwrap_or(1);
    let rows: Vec<StageRow> =
        in_rows(&all).into_iter().map(|members| StageRow::new(members, largest)).collect();
    let mut top = 0;
    for (number, row) in rows.iter().enumerate() {
        draw_row(&mut svg, row, top, largest, number + 1 < rows.len());
        top += row.height();
    }
    let summary = model.summary();
    let of = |state: &str, count| {
        let text = if state == "partly" {
            "frozen in part".into()
        } else {
            format!("{state}: {} weights", thousands(count))
        };
        stages.iter().any(|stage| stage.row.state() == state).then(|| (state.to_owned(), text))
    };
    let states = [
        of("frozen", summary.weights - summary.trainable),
        of("trainable", summary.trainable),
        of("partly", 0),
    ];
    let legend: Vec<_> = states.into_iter().flatten().collect();
    legend_of_states(&mut svg, (MARGIN, top + 2), &legend);
    let most = rows.iter().map(|row| row.members.len()).max().unwrap_or(1) as i32;
    let width = (2 * MARGIN + most * PITCH).max(420);
    svg.finish((width, top + 24), &format!("the stages of {}", model.name()))
}

/// Splits the stages into rows. If one row is too short, the first row ends where the feature maps end,
/// if both rows fit.
fn in_rows<'a>(all: &'a [&'a Stage]) -> Vec<&'a [&'a Stage]> {
    if all.len() <= STAGES_PER_ROW {
        return vec![all];
    }
    let maps = all.iter().take_while(|stage| stage.row.output_shape.len() == 3).count();
    if (2..=STAGES_PER_ROW).contains(&maps) && all.len() - maps <= STAGES_PER_ROW {
        let (first, second) = all.split_at(maps);
        return vec![first, second];
    }
    all.chunks(STAGES_PER_ROW).collect()
}

fn draw_row(svg: &mut Svg, row: &StageRow, top: i32, largest: usize, goes_on: bool) {
    let left = |at: usize| MARGIN + at as i32 * PITCH;
    let middle = top + row.above;
    let below = middle + row.below + 8;
    let mut end_before: Option<i32> = None;
    for (at, stage) in row.members.iter().enumerate() {
        let centre = left(at) + PITCH / 2;
        let (begin, end) =
            draw_slabs(svg, (centre, middle), &stage.slabs, largest, state_colours(stage.row.state()));
        if let Some(before) = end_before {
            svg.arrow(&[(before + 3, middle), (begin - 3, middle)]);
        }
        if goes_on && at + 1 == row.members.len() {
            svg.arrow(&[(end + 3, middle), (left(at + 1) + MARGIN - 2, middle)]);
        }
        end_before = Some(end);
        for (line, text) in (1..).zip(in_lines(&stage.row.name)) {
            svg.text((centre, below + line * LINE), Anchor::Middle, true, &text);
        }
        let facts = below + row.name_lines * LINE;
        for (line, text) in (1..).zip(stage.about_lines()) {
            svg.text((centre, facts + line * LINE), Anchor::Middle, false, &text);
        }
        let numbers = facts + row.about_lines * LINE;
        for (line, text) in (1..).zip([sizes(&stage.row.output_shape), stage.weights()]) {
            svg.text((centre, numbers + line * LINE), Anchor::Middle, false, &text);
        }
    }
    let mut at = 0;
    for run in row.members.chunk_by(|a, b| a.inside == b.inside) {
        if let Some(name) = &run[0].inside {
            svg.frame([left(at) + 1, top + 20, run.len() as i32 * PITCH - 2, row.height() - 28]);
            svg.text((left(at) + 8, top + 15), Anchor::Start, true, name);
        }
        at += run.len();
    }
}

/// Breaks a long name at its underscores.
fn in_lines(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive('_') {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line}{part}"), TEXT, true) <= f64::from(PITCH - 4) => {
                line.push_str(part)
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

fn in_words(model: &Model, stages: &[Stage]) -> String {
    let width = stages.iter().map(|stage| stage.row.name.len()).max().unwrap_or(0);
    let about = stages.iter().map(|stage| stage.about.len()).max().unwrap_or(0);
    let mut text = model.name().to_owned();
    for stage in stages {
        let inside = stage.inside.as_ref().map_or(String::new(), |name| format!("  (in {name})"));
        let line = format!(
            "\n▸ {:width$}  {:about$}  {:>13}  {:>12}  {}{inside}",
            stage.row.name,
            stage.about,
            sizes(&stage.row.output_shape),
            stage.weights(),
            stage.row.state(),
        );
        text += line.trim_end();
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn diagram_shows_all_stages() -> crate::Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        base.unfreeze_from("block5_conv2")?;
        let model = sequential![&base, Flatten, Dense::new(1).activation(Sigmoid)]?;
        let chart = model.plot();
        let lines: Vec<&str> = chart.text().lines().collect();
        assert_eq!(lines.len(), 1 + 5 + 2, "{}", chart.text());
        assert!(
            lines[1].contains("2 conv, pool") && lines[1].ends_with("frozen  (in vgg16)"),
            "{}",
            lines[1]
        );
        assert!(lines[5].contains("partly") && lines[7].contains("trainable"), "{}", chart.text());
        let trainable = crate::nn::thousands(model.summary().trainable);
        assert!(chart.svg().contains(&format!("trainable: {trainable} weights")), "{}", chart.svg());
        let net = ResNet50::new(Weights::Demo).include_top(false).build()?.plot();
        assert!(net.text().contains("6 skips, 19 conv"), "{}", net.text());
        Ok(())
    }
}
