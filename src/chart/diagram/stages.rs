//! Diagram of a model as a row of stages.

use super::slab::{Slab, draw_slabs};
use super::{legend_of_states, sizes, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::chart::text_width::{text_width, wrapped};
use crate::chart::theme::TEXT;
use crate::nn::{Model, Row, thousands};

/// Distance from one stage to the next, in pixels.
const PITCH: i32 = 92;
const MARGIN: i32 = 8;
/// Largest number of stages in a row, so that text stays readable at a notebook's width.
const STAGES_PER_ROW: usize = 8;
/// Largest number of slabs drawn for one stage.
const MAX_SLABS: usize = 8;

/// Consecutive layers whose names have a common prefix: `block1_conv1` to `block1_pool`.
pub(super) struct Stage {
    /// Name, output shape and weights.
    pub(super) row: Row,
    /// Its layers in words: `2 conv, pool`.
    about: String,
    /// The nested model that contains the stage.
    pub(super) inside: Option<String>,
    /// Its convolutions or, if it has shortcuts, its residual blocks.
    pub(super) slabs: Vec<Slab>,
}

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
        Chart { svg: draw(self, &stages), text: in_words(self, &stages) }
    }
}

/// Returns the stages of a model and its nested models, in order.
pub(super) fn stages_of(model: &Model) -> Vec<Stage> {
    let mut stages = Vec::new();
    collect(model, None, &mut stages);
    stages
}

fn collect(model: &Model, inside: Option<&str>, stages: &mut Vec<Stage>) {
    let mut gathered: Vec<(String, Vec<Row>)> = Vec::new();
    for (node, row) in model.nodes()[1..].iter().zip(model.summary().rows) {
        if let Some(inner) = node.layer.model() {
            push(&mut gathered, inside, stages);
            collect(inner, Some(&node.name), stages);
            continue;
        }
        let name = stage_name(&row.name).to_owned();
        match gathered.last_mut() {
            Some((last, rows)) if *last == name => rows.push(row),
            _ => gathered.push((name, vec![row])),
        }
    }
    push(&mut gathered, inside, stages);
}

fn push(gathered: &mut Vec<(String, Vec<Row>)>, inside: Option<&str>, stages: &mut Vec<Stage>) {
    stages.extend(gathered.drain(..).map(|(name, rows)| Stage::new(name, rows, inside)));
}

/// Returns the stage of a layer: `conv2` for `conv2_block1_out`, `block3` for `block3a_dwconv`. For
/// layers outside stages, such as `dense_1` or `global_average_pooling2d`, it is the whole name.
fn stage_name(layer: &str) -> &str {
    let Some((first, rest)) = layer.split_once('_') else { return layer };
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return layer;
    }
    match first.trim_end_matches(|letter: char| letter.is_ascii_lowercase()) {
        // `block3a` is a part of `block3`.
        numbered if numbered.ends_with(|digit: char| digit.is_ascii_digit()) => numbered,
        _ => first,
    }
}

impl Stage {
    /// Creates the stage of the model's input.
    fn of_input(shape: &[usize]) -> Stage {
        let slab = match *shape {
            [channels, height, _] => {
                Slab { channels, height, has_shortcut: false, is_pooling: false, is_vector: false }
            }
            _ => Slab::vector(shape.iter().product()),
        };
        let row = Row {
            number: 0,
            name: "input".into(),
            kind: "",
            output_shape: shape.to_vec(),
            weights: 0,
            statistics: 0,
            trainable: 0,
        };
        Stage { row, about: String::new(), inside: None, slabs: vec![slab] }
    }

    fn new(name: String, rows: Vec<Row>, inside: Option<&str>) -> Stage {
        let inside = inside.map(str::to_owned);
        let count = |what: &str| rows.iter().filter(|row| row.kind.contains(what)).count();
        let last = rows.last().expect("a stage has a layer");
        if let [only] = rows.as_slice() {
            let about = match only.kind {
                kind if only.name.starts_with(&kind.to_lowercase()) => "",
                kind if kind.starts_with("Global") => "global pool",
                kind if kind.contains("Pooling") => "pool",
                kind => kind,
            };
            return Stage { slabs: slabs_of(&rows), row: only.clone(), about: about.to_owned(), inside };
        }
        let mut parts = Vec::new();
        if let sums @ 1.. = count("Add") {
            parts.push(if sums == 1 { "1 skip".to_owned() } else { format!("{sums} skips") });
        }
        if let convolutions @ 1.. = count("Conv2D") {
            parts.push(format!("{convolutions} conv"));
        }
        if count("Pooling") > count("Global") {
            parts.push("pool".to_owned());
        }
        let row = Row {
            number: last.number,
            statistics: rows.iter().map(|row| row.statistics).sum(),
            name,
            kind: "",
            output_shape: last.output_shape.clone(),
            weights: rows.iter().map(|row| row.weights).sum(),
            trainable: rows.iter().map(|row| row.trainable).sum(),
        };
        Stage { row, about: parts.join(", "), inside, slabs: slabs_of(&rows) }
    }

    /// Whether the stage has no trainable weights. A stage without weights counts as frozen.
    pub(super) fn is_frozen(&self) -> bool {
        self.row.trainable == 0
    }

    fn about_lines(&self) -> Vec<String> {
        wrapped(&self.about, f64::from(PITCH - 6), TEXT)
    }

    fn weights(&self) -> String {
        match self.row.weights {
            0 => String::new(),
            weights => thousands(weights),
        }
    }
}

/// Returns the slabs of a stage: one per convolution and pooling layer, or one per residual block, with
/// an arc if it has a shortcut.
fn slabs_of(rows: &[Row]) -> Vec<Slab> {
    let slab = |row: &Row, has_shortcut: bool| match *row.output_shape.as_slice() {
        [channels, height, _] => Slab {
            channels,
            height,
            has_shortcut,
            is_pooling: row.kind.contains("Pooling"),
            is_vector: false,
        },
        ref shape => Slab::vector(shape.iter().product()),
    };
    let has_adds = rows.iter().any(|row| row.kind == "Add");
    let mut slabs: Vec<Slab> = Vec::new();
    let mut block = "";
    for row in rows {
        let is_pooling = row.kind.contains("Pooling") && row.output_shape.len() == 3;
        // The squeeze-and-excitation layers of EfficientNet are not drawn.
        let is_convolution = row.kind.contains("Conv2D") && !row.name.contains("_se_");
        if has_adds {
            let of = block_name(&row.name);
            if of != block {
                block = of;
                slabs.push(slab(row, false));
            } else if let Some(last) = slabs.last_mut() {
                *last = Slab { has_shortcut: last.has_shortcut || row.kind == "Add", ..slab(row, false) };
            }
        } else if is_convolution || is_pooling {
            slabs.push(slab(row, false));
        }
    }
    if slabs.is_empty() {
        slabs.push(slab(rows.last().expect("a stage has a layer"), false));
    }
    slabs.truncate(MAX_SLABS);
    slabs
}

/// Returns the block of a layer: `conv2_block1` for `conv2_block1_out`, `block3a` for `block3a_dwconv`.
fn block_name(layer: &str) -> &str {
    let Some((first, rest)) = layer.split_once('_') else { return layer };
    match rest.split_once('_') {
        Some((second, _)) if second.starts_with("block") => &layer[..first.len() + 1 + second.len()],
        _ => first,
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
    use super::*;
    use crate::prelude::*;

    #[test]
    fn layers_are_grouped_into_stages() {
        for (layer, stage) in [
            ("block1_conv1", "block1"),
            ("conv2_block1_0_bn", "conv2"),
            ("block3a_dwconv", "block3"),
            ("stem_conv", "stem"),
            ("dense_1", "dense_1"),
            ("flatten", "flatten"),
        ] {
            assert_eq!(stage_name(layer), stage);
        }
    }

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
