//! Several trainings in one chart.

use std::borrow::Borrow;

use plotters::prelude::*;

use super::history::{around, corner, draw_axes, is_share, spark};
use super::range::{axis, drawable};
use super::{Chart, theme};
use crate::train::History;
use crate::{Error, Result};

const SIZE: (u32, u32) = (640, 340);

impl Chart {
    /// One number of several trainings, epoch by epoch: on the validation data as a line, on the
    /// training data dashed, where both were measured.
    ///
    /// # Errors
    /// [`Error::Argument`], with the numbers that there are, if one of them lacks this one, or there
    /// is no training; [`Error::Chart`].
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    /// # let mut train = || -> HeadstartResult<History> {
    /// #     let mut model = sequential![Input::new(2), Dense::new(1)]?;
    /// #     model.compile(Adam::default(), MeanSquaredError, []);
    /// #     model.fit((&x, &y), Fit::epochs(3).validation_split(0.5).verbose(false))
    /// # };
    /// let (one, other) = (train()?, train()?);
    /// let chart = Chart::comparison("loss", &[("one", &one), ("other", &other)])?;
    /// assert!(chart.text().contains("other"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn comparison(metric: &str, histories: &[(impl AsRef<str>, impl Borrow<History>)]) -> Result<Chart> {
        let histories: Vec<(&str, &History)> =
            histories.iter().map(|(name, history)| (name.as_ref(), history.borrow())).collect();
        Chart::of_histories(metric, histories)
    }

    fn of_histories(metric: &str, histories: Vec<(&str, &History)>) -> Result<Chart> {
        if histories.is_empty() {
            return Err(Error::Argument {
                name: "histories",
                expected: "at least one".into(),
                found: "none".into(),
            });
        }
        for (name, history) in &histories {
            if history.get(metric).is_none() {
                let known = history.names().iter().filter(|name| !name.starts_with("val_"));
                let expected = known.cloned().collect::<Vec<_>>().join(", ");
                let found = format!("{metric}, of `{name}`");
                return Err(Error::Argument {
                    name: "metric",
                    expected: format!("one of {expected}"),
                    found,
                });
            }
        }
        let validation = format!("val_{metric}");
        let judged = |history: &'_ History| {
            history.get(&validation).or_else(|| history.get(metric)).map(<[f64]>::to_vec)
        };
        let lines: Vec<String> = histories
            .iter()
            .filter_map(|(name, history)| {
                let values = judged(history)?;
                Some(format!("{name:>16} {} {:.4}", spark(&values), values.last()?))
            })
            .collect();
        let svg = draw(metric, &histories).map_err(|error| Error::Chart(error.to_string()))?;
        Ok(Chart::titled(&svg, format!("{metric}\n{}", lines.join("\n"))))
    }
}

fn draw(metric: &str, histories: &[(&str, &History)]) -> Result<String, Box<dyn std::error::Error>> {
    let validation = format!("val_{metric}");
    let values = |name: &str| {
        histories.iter().filter_map(|(_, history)| history.get(name)).flatten().copied().collect::<Vec<f64>>()
    };
    let all = [values(metric), values(&validation)].concat();
    let range = if is_share(metric) {
        let least = all.iter().copied().fold(0.5, f64::min);
        axis((least - 0.05).max(0.0), 1.02)
    } else {
        around(all.into_iter())
    };
    let epochs = histories.iter().map(|(_, history)| history.epochs()).max().unwrap_or(1).max(1);
    let is_judged = histories.iter().any(|(_, history)| history.get(&validation).is_some());
    let caption =
        if is_judged { format!("{metric}: validation, and training (dashed)") } else { metric.to_owned() };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, theme::CAPTION)
            .margin(10)
            .margin_right(18)
            .x_label_area_size(36)
            .y_label_area_size(46)
            .build_cartesian_2d(axis(if epochs == 1 { 0.0 } else { 1.0 }, epochs as f64), range)?;
        draw_axes(&mut chart, epochs)?;
        for (at, (name, history)) in histories.iter().enumerate() {
            let color = theme::PALETTE[at % theme::PALETTE.len()];
            let points = |values: &[f64]| drawable((1..).map(f64::from).zip(values.iter().copied()));
            let trained = points(history.get(metric).unwrap_or_default());
            let judged = history.get(&validation).map(points);
            if judged.is_some() {
                chart.draw_series(DashedLineSeries::new(
                    trained.clone(),
                    5,
                    4,
                    color.mix(0.7).stroke_width(2),
                ))?;
            }
            let shown = judged.unwrap_or(trained);
            chart
                .draw_series(LineSeries::new(shown.iter().copied(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            chart.draw_series(shown.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(corner(metric))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font(theme::LABEL)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
