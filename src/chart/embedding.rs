//! Samples as points, a colour and a form for each class.

use plotters::prelude::*;

use super::range::{axis, drawable, extent};
use super::{Chart, theme};
use crate::explain::Embedding;
use crate::{Error, Result};

const SIZE: (u32, u32) = (560, 400);

impl Chart {
    pub(crate) fn of_embedding(embedding: &Embedding) -> Result<Chart> {
        let svg = draw(embedding).map_err(|error| Error::Chart(error.to_string()))?;
        Ok(Chart::titled(&svg, embedding.to_string()))
    }
}

fn draw(embedding: &Embedding) -> Result<String, Box<dyn std::error::Error>> {
    // The names of the classes stand to the right of the points.
    let component = |component: usize, beyond: f64| {
        let values = embedding.points().iter().map(|point| point[component]);
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let span = (high - low).max(1e-9);
        axis(low - 0.06 * span, high + beyond * span)
    };
    let ratios = embedding.explained_variance_ratio();
    let title =
        |axis: usize| format!("component {} ({:.0} % of the variance)", axis + 1, 100.0 * ratios[axis]);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(38)
            .y_label_area_size(56)
            .build_cartesian_2d(component(0, 0.4), component(1, 0.06))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(theme::MESH))
            .x_desc(title(0))
            .y_desc(title(1))
            .x_labels(6)
            .y_labels(6)
            .draw()?;
        for (class, name) in embedding.class_names().iter().enumerate() {
            let color = theme::PALETTE[class % theme::PALETTE.len()];
            let points = drawable(embedding.of_class(class).map(|[x, y]| (x, y)));
            let label = format!("{name} ({})", points.len());
            // Forms tell classes apart where colours do not.
            let series = match class % 3 {
                0 => chart
                    .draw_series(points.into_iter().map(|at| Circle::new(at, 4, color.mix(0.75).filled())))?,
                1 => {
                    let mark = |at| TriangleMarker::new(at, 6, color.mix(0.75).filled());
                    chart.draw_series(points.into_iter().map(mark))?
                }
                _ => chart
                    .draw_series(points.into_iter().map(|at| Cross::new(at, 4, color.stroke_width(2))))?,
            };
            series.label(label).legend(move |at| match class % 3 {
                0 => Circle::new(at, 4, color.filled()).into_dyn(),
                1 => TriangleMarker::new(at, 6, color.filled()).into_dyn(),
                _ => Cross::new(at, 4, color.stroke_width(2)).into_dyn(),
            });
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .label_font(theme::LABEL)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
