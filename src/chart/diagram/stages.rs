//! A model as a row of its stages.

use super::{legend_of_states, sizes, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::nn::{Model, Row, thousands};

/// From one stage to the next.
const PITCH: i32 = 88;
const MARGIN: i32 = 14;
/// Where the boxes stand: their middle, and how high the highest is.
const MIDDLE: i32 = 104;
const TALLEST: i32 = 130;
/// How many letters fit under a box.
const LETTERS: usize = 15;

/// Layers in a row whose names begin alike: `block1_conv1` to `block1_pool`.
struct Stage {
    /// Name, output shape, weights.
    row: Row,
    /// What it is made of: `2 conv, pool`.
    about: String,
    /// The model inside the model that it belongs to.
    inside: Option<String>,
}

impl Model {
    /// Draws the model from left to right, stage by stage: the higher a box, the larger the maps, the
    /// wider, the more channels. What is frozen is hatched blue, what learns is orange; a model inside
    /// has a frame. Keras's `plot_model`, in short.
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
        let mut stages = Vec::new();
        collect(self, None, &mut stages);
        Chart { svg: draw(self, &stages), text: in_words(self, &stages) }
    }
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

/// What the name begins with: `conv2` of `conv2_block1_out`, `block3` of `block3a_dwconv`; the whole of
/// `dense_1` and of `global_average_pooling2d`, which are no part of anything.
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
            return Stage { row: only.clone(), about: about.to_owned(), inside };
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
        Stage { row, about: parts.join(", "), inside }
    }

    fn weights(&self) -> String {
        match self.row.weights {
            0 => String::new(),
            weights => thousands(weights),
        }
    }

    /// Width and height, for maps beside the largest of the model.
    fn size(&self, largest: usize) -> (i32, i32) {
        let log = |n: usize| (n.max(1) as f64).log2();
        match *self.row.output_shape.as_slice() {
            [channels, height, _] => {
                let share = (height as f64 / largest.max(1) as f64).sqrt();
                ((14.0 + 4.5 * log(channels)) as i32, (24.0 + f64::from(TALLEST - 24) * share) as i32)
            }
            ref sizes => (16, (24.0 + 7.0 * log(sizes.iter().product())) as i32),
        }
    }
}

fn draw(model: &Model, stages: &[Stage]) -> String {
    let mut svg = Svg::new();
    let heights = stages.iter().map(|stage| &stage.row.output_shape).filter(|shape| shape.len() == 3);
    let largest = heights.map(|shape| shape[1]).max().unwrap_or(1);
    let left = |at: usize| MARGIN + at as i32 * PITCH;
    let names: Vec<Vec<String>> = stages.iter().map(|stage| in_lines(&stage.row.name)).collect();
    let name_lines = names.iter().map(Vec::len).max().unwrap_or(1) as i32;
    let below = MIDDLE + TALLEST / 2 + 10;
    let bottom = below + (name_lines + 3) * LINE + 4;
    for (at, (stage, name)) in stages.iter().zip(&names).enumerate() {
        let centre = left(at) + PITCH / 2;
        let (width, height) = stage.size(largest);
        let (fill, stroke) = state_colours(stage.row.state());
        svg.rect([centre - width / 2, MIDDLE - height / 2, width, height], fill, stroke);
        if let Some(next) = stages.get(at + 1) {
            let begin = centre + width / 2 + 4;
            svg.arrow(&[(begin, MIDDLE), (centre + PITCH - next.size(largest).0 / 2 - 4, MIDDLE)]);
        }
        let mut y = below + LINE;
        for line in name {
            svg.text((centre, y), Anchor::Middle, true, line);
            y += LINE;
        }
        y = below + (name_lines + 1) * LINE;
        for line in [stage.about.as_str(), &sizes(&stage.row.output_shape), &stage.weights()] {
            svg.text((centre, y), Anchor::Middle, false, line);
            y += LINE;
        }
    }
    let runs = stages.chunk_by(|a, b| a.inside == b.inside);
    let mut at = 0;
    for run in runs {
        if let Some(name) = &run[0].inside {
            let width = run.len() as i32 * PITCH;
            svg.frame([left(at) + 2, 22, width - 4, bottom - 22]);
            svg.text((left(at) + 10, 17), Anchor::Start, true, name);
        }
        at += run.len();
    }
    let width = left(stages.len()) + MARGIN;
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
    legend_of_states(&mut svg, (MARGIN, bottom + 12), &legend);
    svg.finish((width.max(360), bottom + 36), &format!("the stages of {}", model.name()))
}

/// A long name, broken where its parts meet.
fn in_lines(name: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive('_') {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() <= LETTERS => line.push_str(part),
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
    fn layers_of_one_stage_stand_together() {
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
    fn a_diagram_counts_what_is_there() -> crate::Result<()> {
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
