//! A chart that compares several histories.

use std::borrow::Borrow;

use super::history::History;
use super::history_chart::{around, epoch_axis, path_of};
use crate::chart::Chart;
use crate::chart::axes::{Axis, BELOW, Frame, LEFT};
use crate::chart::lines::write_labels;
use crate::chart::range::{axis, spark};
use crate::chart::svg::{Stroke, Svg, widest};
use crate::chart::theme::PALETTE;
use crate::{Error, Result};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 720;
const HEIGHT: i32 = 340;
const TOP: i32 = 34;

impl Chart {
    /// Draws one metric of several trainings over the epochs. Validation values are solid lines,
    /// training values dashed lines. If only one of the two exists, its line is solid.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no history, or a history lacks the metric. The message lists the
    /// available metrics.
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
        let compared_values = |history: &'_ History| {
            history.get(&validation).or_else(|| history.get(metric)).map(<[f64]>::to_vec)
        };
        let lines: Vec<String> = histories
            .iter()
            .filter_map(|(name, history)| {
                let values = compared_values(history)?;
                Some(format!("{name:>16} {} {:.4}", spark(&values), values.last()?))
            })
            .collect();
        let text = format!("{metric}\n{}", lines.join("\n"));
        Ok(Chart::new(draw(metric, &histories).finish((WIDTH, HEIGHT), &text), text))
    }
}

fn draw(metric: &str, histories: &[(&str, &History)]) -> Svg {
    let validation = format!("val_{metric}");
    let values = |name: &str| {
        histories.iter().filter_map(|(_, history)| history.get(name)).flatten().copied().collect::<Vec<f64>>()
    };
    let all = [values(metric), values(&validation)].concat();
    let range = if histories.iter().any(|(_, history)| history.is_proportion(metric)) {
        let least = all.iter().copied().fold(0.5, f64::min);
        axis((least - 0.05).max(0.0), 1.02)
    } else {
        around(all.into_iter())
    };
    let epochs = histories.iter().map(|(_, history)| history.last_epoch()).max().unwrap_or(1).max(1);
    let initial = histories.iter().map(|(_, history)| history.initial_epoch).min().unwrap_or(0);
    let has_validation = histories.iter().any(|(_, history)| history.get(&validation).is_some());
    let mut svg = Svg::new();
    match has_validation {
        true => svg.title((4, 18), &format!("{metric}: validation (solid) and training (dashed)")),
        false => svg.title((4, 18), metric),
    }
    let beside = widest(histories.iter().map(|(name, _)| *name), true) as i32 + 22;
    let frame = Frame {
        left: LEFT,
        top: TOP,
        width: (WIDTH - LEFT - beside).max(200),
        height: HEIGHT - TOP - BELOW,
        x: epoch_axis(initial, epochs),
        y: Axis::linear(metric, range.start, range.end),
    };
    frame.draw(&mut svg);
    let mut labels = Vec::new();
    for (at, (name, history)) in histories.iter().enumerate() {
        let colour = PALETTE[at % PALETTE.len()];
        let trained = path_of(&frame, history.get(metric).unwrap_or_default(), history.initial_epoch);
        let shown = match history.get(&validation) {
            Some(values) => {
                svg.lines(&trained, colour, 1.5, Stroke::Dashed);
                path_of(&frame, values, history.initial_epoch)
            }
            None => trained,
        };
        svg.lines(&shown, colour, 2.0, Stroke::Solid);
        if shown.len() <= 40 {
            shown.iter().for_each(|point| svg.dot(*point, 3.0, colour, 1.0));
        }
        if let Some(end) = shown.last() {
            labels.push((end.1, colour, (*name).to_owned()));
        }
    }
    write_labels(&mut svg, frame.right() + 10, labels);
    svg
}
