//! Accuracy and loss, epoch by epoch.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::range::{axis, can_be_drawn, drawable, extent, label};
use super::{Chart, theme};
use crate::train::History;
use crate::{Error, Result};

const SIZE: (u32, u32) = (760, 300);

impl Chart {
    pub(crate) fn of_history(history: &History) -> Result<Chart> {
        Chart::of_running(history, history.epochs())
    }

    /// A chart that leaves room for the epochs to come, so that it does not jump as it grows.
    pub(crate) fn of_running(history: &History, epochs: usize) -> Result<Chart> {
        let svg = draw(history, epochs.max(1)).map_err(|error| Error::Chart(error.to_string()))?;
        let line = |name: &String| {
            let values = &history[name.as_str()];
            let (first, last) = (values.first()?, values.last()?);
            Some(format!("{name:>13} {first:.4} {} {last:.4}", spark(values)))
        };
        let lines: Vec<String> = history.names().iter().filter_map(line).collect();
        let text = if lines.is_empty() { "no epoch is over yet".into() } else { lines.join("\n") };
        Ok(Chart::titled(&svg, text))
    }
}

/// One panel for each number, accuracy first.
fn draw(history: &History, epochs: usize) -> Result<String, Box<dyn std::error::Error>> {
    let panels: Vec<&String> = history.names().iter().filter(|name| !name.starts_with("val_")).collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, name) in area.split_evenly((1, panels.len().max(1))).iter().zip(panels) {
            draw_panel(panel, history, name, epochs)?;
        }
        area.present()?;
    }
    Ok(svg)
}

fn draw_panel(
    area: &DrawingArea<SVGBackend, Shift>,
    history: &History,
    name: &str,
    epochs: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let validation = format!("val_{name}");
    let series = [("training", name, theme::BLUE), ("validation", validation.as_str(), theme::VERMILION)];
    let series = series.iter().filter_map(|(label, name, color)| Some((*label, history.get(name)?, *color)));
    let series: Vec<(&str, &[f64], RGBColor)> = series.collect();
    let has_validation = series.len() > 1;
    let range = match is_share(name) {
        true => 0.0..1.04,
        false => around(series.iter().flat_map(|(_, values, _)| *values).copied()),
    };
    let first = if epochs == 1 { 0.0 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(name, theme::CAPTION)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(34)
        .y_label_area_size(46)
        .build_cartesian_2d(axis(first, epochs as f64), range)?;
    draw_axes(&mut chart, epochs)?;
    for (label, values, color) in series {
        let points = drawable((1..).map(f64::from).zip(values.iter().copied()));
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    if !has_validation {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(corner(name))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    Ok(())
}

/// A numbered axis of epochs, and one of what was measured.
pub(super) fn draw_axes(
    chart: &mut ChartContext<SVGBackend, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    epochs: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(theme::MESH))
        .x_desc("epoch")
        .x_labels(epochs.min(10))
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .y_labels(6)
        .y_label_formatter(&label)
        .draw()?;
    Ok(())
}

/// Where the names of the lines stand: away from where these are to end.
pub(super) fn corner(name: &str) -> SeriesLabelPosition {
    if is_share(name) { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperRight }
}

/// Whether a number goes from 0 to 1, and is the better the larger it is.
pub(super) fn is_share(name: &str) -> bool {
    ["accuracy", "auc", "precision", "recall", "f1_score"].iter().any(|share| name.ends_with(share))
}

/// A range that holds all values that can be drawn with some room, wide enough that small noise looks small.
pub(super) fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let Some((low, high)) = extent(values) else { return 0.0..1.0 };
    let room = (high - low).max(0.2 * high.abs()).max(1e-6);
    let middle = low.midpoint(high);
    // A loss of 0 or more has no place below 0.
    let least = if low < 0.0 { f64::NEG_INFINITY } else { 0.0 };
    axis((middle - 0.6 * room).max(least), middle + 0.6 * room)
}

/// Numbers as a row of blocks, from the lowest to the highest of them; `?` for one that is not finite.
pub(super) fn spark(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = extent(values.iter().copied()).unwrap_or_default();
    let span = (high - low).max(f64::EPSILON);
    let block = |value: &f64| match can_be_drawn(*value) {
        true => BLOCKS[(((value - low) / span * 7.0).round() as usize).min(7)],
        false => '?',
    };
    values.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::around;
    use crate::chart::Chart;
    use crate::train::History;

    #[test]
    fn the_range_holds_every_value_and_does_not_magnify_noise() {
        for values in [vec![2.0, 0.1], vec![0.69, 0.68], vec![0.0], vec![1e-9, 3e4]] {
            let range = around(values.iter().copied());
            assert!(values.iter().all(|value| range.contains(value)), "{values:?} in {range:?}");
            assert!(range.start >= 0.0 && range.end - range.start >= 0.2 * values[0], "{range:?}");
        }
        assert_eq!(around(std::iter::empty()), 0.0..1.0);
        let negative = around([-3.0, -1.0].into_iter());
        assert!(negative.contains(&-3.0) && negative.contains(&-1.0), "{negative:?}");
    }

    /// plotters looks for key points of an infinite axis without end.
    #[test]
    fn a_training_that_diverged_has_a_chart() -> crate::Result<()> {
        let losses = [0.5, 1e30, f64::MAX, f64::INFINITY, f64::NAN, f64::NEG_INFINITY, 1e300, -1e308];
        for values in [&losses[..], &losses[2..], &losses[4..], &[1e17, 1e17 + 16.0]] {
            let names = vec!["accuracy".to_owned(), "loss".into(), "val_accuracy".into(), "val_loss".into()];
            let (times, rates) = (vec![std::time::Duration::ZERO; values.len()], vec![0.1; values.len()]);
            let history = History::of(names, vec![values.to_vec(); 4], times, rates);
            for chart in [history.plot()?, Chart::of_running(&history, 100)?] {
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
        assert_eq!(super::spark(&[0.0, f64::INFINITY, 1.0, f64::NAN]), "▁?█?");
        Ok(())
    }
}
