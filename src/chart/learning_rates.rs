//! The loss over the learning rate.

use plotters::prelude::*;

use super::range::{axis, drawable, extent, label};
use super::{Chart, theme};
use crate::train::LearningRateCurve;
use crate::{Error, Result};

const SIZE: (u32, u32) = (560, 320);

impl Chart {
    pub(crate) fn of_learning_rates(curve: &LearningRateCurve) -> Result<Chart> {
        let svg = draw(curve).map_err(|error| Error::Chart(error.to_string()))?;
        Ok(Chart::titled(&svg, curve.to_string()))
    }
}

fn draw(curve: &LearningRateCurve) -> Result<String, Box<dyn std::error::Error>> {
    let exponents = curve.learning_rates.iter().map(|rate| rate.log10());
    let points = drawable(exponents.zip(curve.losses.iter().copied()));
    let (low, high) = extent(points.iter().map(|(_, loss)| *loss)).unwrap_or((0.0, 1.0));
    let room = (high - low).max(1e-6) * 0.08;
    let (from, to) = (points.first().map_or(-7.0, |p| p.0), points.last().map_or(0.0, |p| p.0).max(-6.9));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("loss over learning rate", theme::CAPTION)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(38)
            .y_label_area_size(50)
            .build_cartesian_2d(axis(from, to), axis(low - room, high + room))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(theme::MESH))
            .x_desc("learning rate")
            .x_labels(8)
            .x_label_formatter(&|exponent| format!("{:.0e}", 10f64.powf(*exponent)))
            .y_label_formatter(&label)
            .draw()?;
        chart.draw_series(LineSeries::new(points.iter().copied(), theme::BLUE.stroke_width(2)))?;
        let suggested = curve.suggestion();
        if let Some(point) = points.iter().find(|(exponent, _)| *exponent == suggested.log10()) {
            chart.draw_series([Circle::new(*point, 6, theme::VERMILION.filled())])?;
            let label = Text::new(format!("try {suggested:.0e}"), (point.0, high), theme::LABEL);
            chart.draw_series([label])?;
        }
        area.present()?;
    }
    Ok(svg)
}
