//! Diagram of one part of a model, layer by layer, with its branches.

use super::layer_kind::{LayerKind, layers_with_rows};
use super::{sizes, state_colours};
use crate::chart::Chart;
use crate::chart::svg::{Anchor, Svg};
use crate::chart::text_width::text_width;
use crate::chart::theme::{self, NEUTRAL};
use crate::nn::{LayerConfig, Model, Node, Row};
use crate::{Error, Result};

/// Height of a box, in pixels.
const HEIGHT: i32 = 26;
/// Radius of the circle of an addition, in pixels.
const SUM_RADIUS: i32 = 13;
/// Vertical space between boxes, and margin, in pixels.
const GAP: i32 = 16;
const MARGIN: i32 = 12;
/// Space between the two columns, in pixels.
const COLUMN_GAP: i32 = 46;
/// Space between lines that bypass layers, in pixels.
const LANE_WIDTH: i32 = 16;

/// The position of a layer: its column, 0 for the longest path, and its row.
struct Place {
    column: i32,
    row: i32,
}

/// Converts positions to pixels. All boxes have the same width.
struct Sheet {
    width: i32,
}

impl Sheet {
    fn left(&self, place: &Place) -> i32 {
        MARGIN + place.column * (self.width + COLUMN_GAP)
    }

    fn right(&self, place: &Place) -> i32 {
        self.left(place) + self.width
    }

    fn top(&self, place: &Place) -> i32 {
        // The first row is for the input.
        MARGIN + (place.row + 1) * (HEIGHT + GAP)
    }

    fn middle(&self, place: &Place) -> i32 {
        self.left(place) + self.width / 2
    }

    /// Where a horizontal arrow ends: at the box, or at the circle in its middle.
    fn side(&self, place: &Place, is_sum: bool) -> i32 {
        if is_sum { self.middle(place) + SUM_RADIUS + 2 } else { self.right(place) + 2 }
    }

    /// Draws an arrow from a layer or the input to another layer. An arrow that bypasses layers gets its
    /// own lane.
    fn connect(&self, svg: &mut Svg, from: &Place, (to, is_sum): (&Place, bool), lane: &mut i32) {
        let (begin, end) = (self.top(from) + HEIGHT, self.top(to) - 2);
        let level = self.top(to) + HEIGHT / 2;
        // From the bottom of a box, beside the straight connection.
        let out = (self.middle(from) + 12, begin - 2);
        let below = begin + 5;
        let straight = [(self.middle(from), begin), (self.middle(to), end)];
        match (from.column, to.column) {
            (0, 0) if from.row + 1 < to.row => {
                svg.arrow(&[
                    out,
                    (out.0, below),
                    (*lane, below),
                    (*lane, level),
                    (self.side(to, is_sum), level),
                ]);
                *lane += LANE_WIDTH;
            }
            (0, 1) => svg.arrow(&[out, (out.0, below), (self.middle(to), below), straight[1]]),
            (1, 0) => svg.arrow(&[straight[0], (straight[0].0, level), (self.side(to, is_sum), level)]),
            _ => svg.arrow(&straight),
        }
    }
}

impl Model {
    /// Draws the layers whose names start with `prefix`, from top to bottom, with their branches. For
    /// ResNet50's `conv2_block1`, the convolutions are on one side and the shortcut is on the other.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`], with the existing names, if no layer has this prefix.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let network = ResNet50::new(Weights::Demo).include_top(false).build()?;
    /// println!("{}", network.plot_block("conv2_block1_")?.text());
    /// # assert!(network.plot_block("conv2_block1_")?.text().contains("conv2_block1_add"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn plot_block(&self, prefix: &str) -> Result<Chart> {
        let Some((nodes, rows)) = nodes_of(self, prefix) else {
            return Err(Error::UnknownLayer {
                model: self.name().to_owned(),
                name: format!("{prefix}…"),
                known: self.layer_names().join(", "),
                hint: "pass the prefix of some layers' names".into(),
            });
        };
        let is_inside = |at: &usize| nodes[*at].name.starts_with(prefix);
        let inside: Vec<usize> = (1..nodes.len()).filter(is_inside).collect();
        let inputs_of = |at: usize| -> Vec<usize> { nodes[at].inputs().collect() };
        let places = places(&inside, &inputs_of);
        let place = |at: usize| inside.iter().position(|other| *other == at).map(|found| &places[found]);
        let row = |at: usize| &rows[at - (nodes.len() - rows.len())];
        let is_sum = |at: usize| LayerKind::of(&nodes[at]) == LayerKind::Sum;
        let label = |at: usize| {
            let input = inputs_of(at).first().map(|input| nodes[*input].layer.output_shape().to_vec());
            label(&nodes[at], &input.unwrap_or_default())
        };
        let longest =
            inside.iter().map(|at| text_width(&label(*at), theme::TEXT, false)).fold(120.0, f64::max);
        let sheet = Sheet { width: longest as i32 + 16 };
        let entry = Place { column: 0, row: -1 };
        let (mut svg, mut text) = (Svg::new(), format!("{}: {prefix}…", self.name()));
        // Connections that bypass layers are drawn to the right of all layers.
        let columns = 1 + places.iter().map(|place| place.column).max().unwrap_or(0);
        let mut lane = MARGIN + columns * (sheet.width + COLUMN_GAP) - COLUMN_GAP / 2;
        for (at, here) in inside.iter().zip(&places) {
            let row = row(*at);
            if is_sum(*at) {
                draw_sum(&mut svg, &sheet, here);
            } else {
                draw_layer(&mut svg, &sheet, here, row.state(), &label(*at));
            }
            for input in inputs_of(*at) {
                sheet.connect(&mut svg, place(input).unwrap_or(&entry), (here, is_sum(*at)), &mut lane);
            }
            let from: Vec<&str> =
                inputs_of(*at).into_iter().map(|input| nodes[input].name.as_str()).collect();
            text += &format!("\n{} ({}) ← {}", row.name, row.kind, from.join(", "));
        }
        let mut entry_width = 0;
        let outside = inside.iter().flat_map(|at| inputs_of(*at)).find(|at| !inside.contains(at));
        if let Some(outside) = outside {
            let shape = sizes(nodes[outside].layer.output_shape());
            let label = format!("x, from {}, {shape}", nodes[outside].name);
            svg.text((MARGIN, sheet.top(&entry) + HEIGHT - 8), Anchor::Start, true, &label);
            entry_width = MARGIN + text_width(&label, theme::TEXT, true) as i32;
        }
        let last = places.iter().map(|place| place.row).max().unwrap_or(0);
        let bottom = sheet.top(&Place { column: 0, row: last }) + HEIGHT;
        Ok(Chart::new(svg.finish((lane.max(entry_width), bottom + MARGIN), &text), text))
    }
}

/// Describes a layer as in the figures of papers: kernel, filters and stride of a convolution.
fn label(node: &Node, input: &[usize]) -> String {
    let kernel = node.layer.params().first().map(|param| param.variable().dims().to_vec());
    let stride = match (input, node.layer.output_shape()) {
        (&[_, before, _], &[_, after, _]) if after > 0 && before > after => {
            format!(", stride {}", before.div_ceil(after))
        }
        _ => String::new(),
    };
    match (&node.config, kernel.as_deref()) {
        (Some(LayerConfig::Conv2D(config)), Some(&[filters, _, height, width])) => {
            let depthwise = if config.is_depthwise() { "depthwise " } else { "" };
            format!("{height}×{width} {depthwise}conv, {filters}{stride}")
        }
        (Some(LayerConfig::BatchNormalization(_)), _) => "batch norm".into(),
        (Some(LayerConfig::Activation(activation)), _) => format!("{activation:?}"),
        (Some(LayerConfig::Dense(_)), Some(&[units, _])) => format!("dense, {units}"),
        _ => node.layer.kind().to_owned(),
    }
}

/// Draws an addition: a circle with its two inputs labelled.
fn draw_sum(svg: &mut Svg, sheet: &Sheet, place: &Place) {
    let (middle, top) = (sheet.middle(place), sheet.top(place));
    svg.node((middle, top + HEIGHT / 2), SUM_RADIUS, "#f4f7fa", NEUTRAL);
    svg.boxed((middle, top + HEIGHT / 2 + 5), true, "+");
    svg.text((middle - SUM_RADIUS - 8, top + HEIGHT / 2 - 8), Anchor::End, true, "f(x)");
    svg.text((middle + SUM_RADIUS + 12, top + HEIGHT / 2 - 8), Anchor::Start, true, "x");
}

/// Draws a layer as a box with its description.
fn draw_layer(svg: &mut Svg, sheet: &Sheet, place: &Place, state: &str, label: &str) {
    let (middle, top) = (sheet.middle(place), sheet.top(place));
    let (fill, stroke) = state_colours(state);
    svg.rect([sheet.left(place), top, sheet.width, HEIGHT], fill, stroke);
    svg.boxed((middle, top + 18), false, label);
}

/// Returns the nodes of the model, or of the first nested model, that has a layer with this prefix.
fn nodes_of<'a>(model: &'a Model, prefix: &str) -> Option<(&'a [Node], Vec<Row>)> {
    let nodes = model.nodes();
    match nodes.iter().skip(1).any(|node| node.name.starts_with(prefix) && node.layer.model().is_none()) {
        true => Some((nodes, layers_with_rows(model).map(|(_, row)| row).collect())),
        false => nodes.iter().filter_map(|node| node.layer.model()).find_map(|inner| nodes_of(inner, prefix)),
    }
}

/// Computes the positions. The longest path is the first column, and each layer is below all its inputs.
fn places(inside: &[usize], inputs_of: &impl Fn(usize) -> Vec<usize>) -> Vec<Place> {
    let index = |at: usize| inside.iter().position(|other| *other == at);
    let mut depths: Vec<i32> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::new();
    for at in inside {
        let deepest = inputs_of(*at).into_iter().filter_map(index).max_by_key(|input| depths[*input]);
        depths.push(deepest.map_or(0, |input| depths[input] + 1));
        before.push(deepest);
    }
    let mut places: Vec<Place> = depths.iter().map(|row| Place { column: 1, row: *row }).collect();
    let mut next = (0..inside.len()).max_by_key(|at| depths[*at]);
    while let Some(at) = next {
        places[at].column = 0;
        next = before[at];
    }
    places
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn shortcut_is_beside_the_convolutions() -> crate::Result<()> {
        let base = ResNet50::new(Weights::Demo).include_top(false).build()?;
        let model = sequential![&base, Flatten, Dense::new(1)]?;
        let chart = model.plot_block("conv2_block1_")?;
        assert!(
            chart.text().ends_with(
                "conv2_block1_add (Add) ← conv2_block1_0_bn, conv2_block1_3_bn\n\
                 conv2_block1_out (Activation) ← conv2_block1_add"
            ),
            "{}",
            chart.text()
        );
        // Nine boxes and a circle on the longest path, two boxes beside them.
        assert_eq!(chart.svg().matches("<rect x=").count(), 11);
        assert_eq!(chart.svg().matches("<circle").count(), 1);
        assert!(chart.svg().contains("3×3 conv, 16") && chart.svg().contains(">f(x)<"));
        assert_eq!(chart.svg().matches(&format!("<rect x=\"{}\"", super::MARGIN)).count(), 9);
        Ok(())
    }

    #[test]
    fn unknown_prefix_error_lists_the_layers() -> crate::Result<()> {
        let model = sequential![Input::new(2), Dense::new(1)]?;
        let problem = model.plot_block("conv9").unwrap_err().to_string();
        assert!(problem.contains("conv9") && problem.contains("dense"), "{problem}");
        Ok(())
    }
}
