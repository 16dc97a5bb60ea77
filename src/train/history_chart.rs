//! Charts of accuracy and loss over the epochs.

use std::ops::Range;

use super::history::History;
use crate::Result;
use crate::chart::axes::{Axis, BELOW, Frame};
use crate::chart::lines::write_labels;
use crate::chart::range::{axis, drawable, extent, spark};
use crate::chart::svg::{Stroke, Svg, widest};
use crate::chart::theme::{BLUE, Rgb, VERMILION};
use crate::chart::{Chart, chart_bundle};
use crate::display::{Bundle, Show};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 760;
const HEIGHT: i32 = 300;
const TOP: i32 = 32;
/// Space for tick labels, in pixels.
const LEFT: i32 = 52;

impl History {
    /// Draws a chart of the accuracy and one of the loss, with the validation values if there are any.
    ///
    /// # Errors
    /// [`Error::Chart`](crate::Error::Chart) if the chart cannot be drawn.
    pub fn plot(&self) -> Result<Chart> {
        self.plot_running(self.last_epoch())
    }

    /// Draws a chart with space for the epochs until the last one, so that its layout stays the same during
    /// training.
    pub(super) fn plot_running(&self, epochs: usize) -> Result<Chart> {
        let line = |name: &String| {
            let values = &self[name.as_str()];
            let (first, last) = (values.first()?, values.last()?);
            Some(format!("{name:>13} {first:.4} {} {last:.4}", spark(values)))
        };
        let lines: Vec<String> = self.names().iter().filter_map(line).collect();
        let text = if lines.is_empty() { "no epoch is over yet".into() } else { lines.join("\n") };
        let epochs = epochs.max(self.initial_epoch.saturating_add(1));
        Ok(Chart::new(draw(self, epochs).finish((WIDTH, HEIGHT), &text), text))
    }
}

impl Show for History {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}

/// Draws one panel for each metric, accuracy first.
fn draw(history: &History, epochs: usize) -> Svg {
    let panels: Vec<&String> =
        history.names().iter().filter(|name| !name.starts_with("val_")).take(4).collect();
    let mut svg = Svg::new();
    let width = WIDTH / panels.len().max(1) as i32;
    for (panel, name) in panels.into_iter().enumerate() {
        draw_panel(&mut svg, panel as i32 * width, width, history, name, epochs);
    }
    svg
}

fn draw_panel(svg: &mut Svg, left: i32, width: i32, history: &History, name: &str, epochs: usize) {
    let validation = format!("val_{name}");
    let series: Vec<(&str, &[f64], Rgb)> = [("training", name, BLUE), ("validation", &validation, VERMILION)]
        .into_iter()
        .filter_map(|(label, name, colour)| Some((label, history.get(name)?, colour)))
        .collect();
    let range = match history.is_proportion(name) {
        true => {
            let values = series.iter().flat_map(|(_, values, _)| *values).copied();
            let least = values.filter(|value| value.is_finite()).fold(0.5, f64::min);
            axis((least - 0.05).max(0.0), 1.02)
        }
        false => around(series.iter().flat_map(|(_, values, _)| *values).copied()),
    };
    let names = if series.len() > 1 { series.iter().map(|(label, ..)| *label).collect() } else { Vec::new() };
    let beside = if names.is_empty() { 16 } else { widest(names.iter().copied(), true) as i32 + 18 };
    let frame = Frame {
        left: left + LEFT,
        top: TOP,
        width: (width - LEFT - beside).max(60),
        height: HEIGHT - TOP - BELOW,
        x: epoch_axis(history.initial_epoch, epochs),
        y: Axis::linear("", range.start, range.end),
    };
    svg.title((left + LEFT, 18), name);
    frame.draw(svg);
    let mut labels = Vec::new();
    for (label, values, colour) in series {
        let path = path_of(&frame, values, history.initial_epoch);
        svg.lines(&path, colour, 2.0, Stroke::Solid);
        if path.len() <= 40 {
            path.iter().for_each(|point| svg.dot(*point, 3.0, colour, 1.0));
        }
        if let Some(end) = path.last().filter(|_| !names.is_empty()) {
            labels.push((end.1, colour, label.to_owned()));
        }
    }
    write_labels(svg, frame.right() + 8, labels);
}

/// Creates the axis of the epochs after the `initial` ones, with integer ticks.
pub(super) fn epoch_axis(initial: usize, last: usize) -> Axis {
    let first = if last <= initial.saturating_add(1) { initial } else { initial + 1 };
    Axis::linear("epoch", first as f64, last as f64).ticks(epoch_ticks(initial, last))
}

/// The epochs with a tick: about eight, evenly spaced.
fn epoch_ticks(initial: usize, last: usize) -> Vec<f64> {
    let step = last.saturating_sub(initial).div_ceil(8).max(1);
    let first = (initial / step).saturating_add(1).saturating_mul(step);
    (first..=last).step_by(step).map(|epoch| epoch as f64).collect()
}

/// Returns the positions of values, one per epoch after the `initial` ones. Values that cannot be drawn are left out.
pub(super) fn path_of(frame: &Frame, values: &[f64], initial: usize) -> Vec<(f64, f64)> {
    let numbers = (1..=values.len()).map(|number| initial as f64 + number as f64);
    let points = drawable(numbers.zip(values.iter().copied()));
    points.into_iter().map(|point| frame.at(point)).collect()
}

/// Returns a range with a margin around all values that can be drawn. It is wide enough that small noise
/// looks small.
pub(super) fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let Some((low, high)) = extent(values) else { return 0.0..1.0 };
    let room = (high - low).max(0.2 * high.abs()).max(1e-6);
    let middle = low.midpoint(high);
    // A loss of 0 or more needs no space below 0.
    let least = if low < 0.0 { f64::NEG_INFINITY } else { 0.0 };
    axis((middle - 0.6 * room).max(least), middle + 0.6 * room)
}

#[cfg(test)]
mod tests {
    use super::around;
    use crate::chart::Chart;
    use crate::train::History;

    #[test]
    fn range_contains_all_values_and_does_not_magnify_noise() {
        for values in [vec![2.0, 0.1], vec![0.69, 0.68], vec![0.0], vec![1e-9, 3e4]] {
            let range = around(values.iter().copied());
            assert!(values.iter().all(|value| range.contains(value)), "{values:?} in {range:?}");
            assert!(range.start >= 0.0 && range.end - range.start >= 0.2 * values[0], "{range:?}");
        }
        assert_eq!(around(std::iter::empty()), 0.0..1.0);
        let negative = around([-3.0, -1.0].into_iter());
        assert!(negative.contains(&-3.0) && negative.contains(&-1.0), "{negative:?}");
    }

    /// A range to infinity would have no ticks.
    #[test]
    fn diverged_training_has_a_chart() -> crate::Result<()> {
        let losses = [0.5, 1e30, f64::MAX, f64::INFINITY, f64::NAN, f64::NEG_INFINITY, 1e300, -1e308];
        for values in [&losses[..], &losses[2..], &losses[4..], &[1e17, 1e17 + 16.0]] {
            let names = vec!["accuracy".to_owned(), "loss".into(), "val_accuracy".into(), "val_loss".into()];
            let (times, rates) = (vec![std::time::Duration::ZERO; values.len()], vec![0.1; values.len()]);
            let mut history = History::new(names, vec!["accuracy".to_owned()], 0);
            history.restore(vec![values.to_vec(); 4], times, rates, 0);
            for chart in [history.plot()?, history.plot_running(100)?] {
                let (_, drawn) = chart.svg().split_once("</title>").unwrap();
                assert!(
                    !drawn.contains("NaN") && !drawn.contains("inf") && drawn.trim().ends_with("</svg>"),
                    "{drawn}"
                );
            }
            for metric in ["loss", "accuracy"] {
                Chart::comparison(metric, &[("one", &history), ("other", &history)])?;
            }
        }
        assert_eq!(crate::chart::range::spark(&[0.0, f64::INFINITY, 1.0, f64::NAN]), "▁?█?");
        Ok(())
    }

    /// The name of a user's metric says nothing about its range.
    #[test]
    fn range_depends_on_the_metric_and_not_on_its_name() -> crate::Result<()> {
        let plot = |proportions: &[&str]| {
            let proportions = proportions.iter().map(|name| (*name).to_owned()).collect();
            let mut history = History::new(vec!["accuracy".into(), "my_accuracy".into()], proportions, 0);
            history.restore(vec![vec![70.0, 90.0]; 2], vec![std::time::Duration::ZERO; 2], vec![0.1; 2], 0);
            history.plot()
        };
        let [none, both] = [plot(&[])?, plot(&["accuracy", "my_accuracy"])?];
        assert_ne!(none.svg(), both.svg());
        assert!(none.svg().contains(">80<") || none.svg().contains(">80.00<"), "{}", none.svg());
        Ok(())
    }

    /// A training until `EarlyStopping` ends it can have `usize::MAX` epochs.
    #[test]
    fn axis_of_very_many_epochs_has_few_ticks() {
        for epochs in [1, 7, 8, 1000, usize::MAX] {
            let ticks = super::epoch_ticks(0, epochs).len();
            assert!((1..=10).contains(&ticks), "{epochs}: {ticks}");
        }
        assert_eq!(super::epoch_ticks(10, 20), [12.0, 14.0, 16.0, 18.0, 20.0]);
        assert_eq!(super::epoch_ticks(10, 11), [11.0]);
    }

    /// As the axis of the same number of epochs that begins with the first one.
    #[test]
    fn epochs_after_an_initial_epoch_have_their_own_numbers() -> crate::Result<()> {
        let of = |initial_epoch: usize| {
            let (times, rates) = (vec![std::time::Duration::ZERO; 4], vec![0.1; 4]);
            let mut history = History::new(vec!["loss".into()], Vec::new(), initial_epoch);
            history.restore(vec![vec![0.4, 0.3, 0.2, 0.1]], times, rates, initial_epoch);
            history
        };
        let (first, later) = (of(0).plot()?, of(4).plot()?);
        let numbers = |chart: &Chart| {
            (1..=8).filter(|epoch| chart.svg().contains(&format!(">{epoch}</text>"))).collect::<Vec<_>>()
        };
        assert_eq!((numbers(&first), numbers(&later)), (vec![1, 2, 3, 4], vec![5, 6, 7, 8]));
        assert_eq!(later.svg().matches("<circle").count(), first.svg().matches("<circle").count());
        Chart::comparison("loss", &[("all", &of(0)), ("later", &of(4))])?;
        Ok(())
    }
}
