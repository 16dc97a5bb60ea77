//! A part of a model, layer by layer, with its branches.

use super::state_colours;
use crate::chart::Chart;
use crate::chart::svg::{Anchor, LINE, Svg};
use crate::nn::{Model, Node, Row};
use crate::{Error, Result};

const WIDTH: i32 = 204;
const HEIGHT: i32 = 24;
const GAP: i32 = 16;
const MARGIN: i32 = 12;
/// Between the two columns.
const BETWEEN: i32 = 46;

/// A layer's place: its column, 0 for the longest way through, and its row.
struct Place {
    column: i32,
    row: i32,
}

impl Place {
    fn left(&self) -> i32 {
        MARGIN + self.column * (WIDTH + BETWEEN)
    }

    fn top(&self) -> i32 {
        // The first row is for what comes in.
        MARGIN + (self.row + 1) * (HEIGHT + GAP)
    }

    fn middle(&self) -> i32 {
        self.left() + WIDTH / 2
    }
}

impl Model {
    /// Draws the layers whose names begin so, from top to bottom, with their branches: of ResNet50's
    /// `conv2_block1`, the convolutions on one side and the shortcut on the other.
    ///
    /// # Errors
    /// [`Error::UnknownLayer`] if there are none, with the names that there are.
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
                hint: "give what the names of some layers begin with".into(),
            });
        };
        let is_inside = |at: &usize| nodes[*at].name.starts_with(prefix);
        let inside: Vec<usize> = (1..nodes.len()).filter(is_inside).collect();
        let inputs_of = |at: usize| -> Vec<usize> { nodes[at].inputs().collect() };
        let places = places(&inside, &inputs_of);
        let place = |at: usize| inside.iter().position(|other| *other == at).map(|found| &places[found]);
        let mut svg = Svg::new();
        let mut text = format!("{}: {prefix}…", self.name());
        for (at, here) in inside.iter().zip(&places) {
            let row = &rows[at - 1];
            let (fill, stroke) = state_colours(row.state());
            svg.rect([here.left(), here.top(), WIDTH, HEIGHT], fill, stroke);
            let name = row.name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or(&row.name);
            let shape: Vec<String> = row.output_shape.iter().map(usize::to_string).collect();
            let label = format!("{name} · {} · {}", row.kind, shape.join("×"));
            svg.text((here.middle(), here.top() + 16), Anchor::Middle, false, &label);
            let from: Vec<&str> =
                inputs_of(*at).into_iter().map(|input| nodes[input].name.as_str()).collect();
            text += &format!("\n{} ({}) ← {}", row.name, row.kind, from.join(", "));
            for input in inputs_of(*at) {
                connect(&mut svg, place(input), here);
            }
        }
        let outside = inside.iter().flat_map(|at| inputs_of(*at)).find(|at| !inside.contains(at));
        if let Some(outside) = outside {
            let entry = Place { column: 0, row: -1 };
            let label = format!("from {}", nodes[outside].name);
            svg.text((entry.middle(), entry.top() + HEIGHT - 6), Anchor::Middle, true, &label);
        }
        let last = places.iter().map(|place| place.row).max().unwrap_or(0);
        let bottom = Place { column: 0, row: last }.top() + HEIGHT;
        let size = (2 * (WIDTH + MARGIN) + BETWEEN, bottom + MARGIN + LINE / 2);
        Ok(Chart { svg: svg.finish(size, &text), text })
    }
}

/// The nodes of the model, or of the first inside it, that has a layer of such a name.
fn nodes_of<'a>(model: &'a Model, prefix: &str) -> Option<(&'a [Node], Vec<Row>)> {
    let nodes = model.nodes();
    match nodes.iter().skip(1).any(|node| node.name.starts_with(prefix) && node.layer.model().is_none()) {
        true => Some((nodes, model.summary().rows)),
        false => nodes.iter().filter_map(|node| node.layer.model()).find_map(|inner| nodes_of(inner, prefix)),
    }
}

/// The longest way is the first column; a layer stands below all that it takes.
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

/// An arrow from one layer, or from what comes in, to another.
fn connect(svg: &mut Svg, from: Option<&Place>, to: &Place) {
    let entry = Place { column: 0, row: -1 };
    let from = from.unwrap_or(&entry);
    let (begin, end) = (from.top() + HEIGHT, to.top() - 2);
    if from.column == to.column && from.row + 1 == to.row {
        return svg.arrow(&[(from.middle(), begin), (to.middle(), end)]);
    }
    let side = Place { column: 1, row: 0 }.middle();
    let level = to.top() + HEIGHT / 2;
    match (from.column, to.column) {
        // Past the layers between, and in from the right.
        (0, 0) => svg.arrow(&[
            (from.middle() + 12, begin - 2),
            (from.middle() + 12, begin + 5),
            (side, begin + 5),
            (side, level),
            (to.left() + WIDTH + 2, level),
        ]),
        (0, _) => svg.arrow(&[
            (from.middle() + 12, begin - 2),
            (from.middle() + 12, begin + 5),
            (to.middle(), begin + 5),
            (to.middle(), end),
        ]),
        (_, 0) => {
            svg.arrow(&[(from.middle(), begin), (from.middle(), level), (to.left() + WIDTH + 2, level)])
        }
        _ => svg.arrow(&[(from.middle(), begin), (to.middle(), end)]),
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn a_shortcut_stands_beside_the_convolutions() -> crate::Result<()> {
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
        // Ten layers on the longest way, two beside them, and the background.
        assert_eq!(chart.svg().matches("<rect x=").count(), 12);
        let columns = |x: i32| chart.svg().matches(&format!("<rect x=\"{x}\"")).count();
        assert_eq!((columns(super::MARGIN), columns(super::Place { column: 1, row: 0 }.left())), (10, 2));
        Ok(())
    }

    #[test]
    fn a_part_that_is_not_there_is_answered_with_what_is() -> crate::Result<()> {
        let model = sequential![Input::new(2), Dense::new(1)]?;
        let problem = model.plot_block("conv9").unwrap_err().to_string();
        assert!(problem.contains("conv9") && problem.contains("dense"), "{problem}");
        Ok(())
    }
}
