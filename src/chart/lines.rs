//! Line charts with bands, with the name of each line at its end.

use super::Chart;
use super::axes::{Axis, BELOW, Frame, LEFT, Scale};
use super::dot_labels::{Dot, write_beside};
use super::range::{can_be_drawn, drawable, extent, spark};
use super::svg::{Anchor, LINE, Stroke, Svg, widest};
use super::theme::{INK, PALETTE, Rgb};
use crate::{Error, Result};

/// Size of the chart, and height of its heading, in pixels.
const WIDTH: i32 = 720;
const HEIGHT: i32 = 340;
const TOP: i32 = 34;

/// x, y, and the half-width of the band.
type Point = (f64, f64, f64);

/// One line of a chart.
#[derive(Clone)]
struct Series {
    name: String,
    points: Vec<Point>,
    colour: Rgb,
    stroke: Stroke,
}

/// A line chart: values over x, with a band for the spread of repeated runs.
///
/// A spread that is not finite counts as 0. A line of one point is a dot, with its name beside it and its spread as a
/// bar. Such dots compare networks by time and accuracy, for example.
///
/// ```
/// use headstart::prelude::*;
/// let chart = Lines::new("accuracy by number of training images", "images", "accuracy")
///     .log_x()
///     .line("transfer", [(10.0, 0.86, 0.03), (100.0, 0.94, 0.01)])
///     .line("from scratch", [(10.0, 0.5, 0.0), (100.0, 0.62, 0.05)])
///     .reference("chance", 0.5)
///     .plot()?;
/// assert!(chart.text().contains("from scratch"));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct Lines {
    title: String,
    x_title: String,
    y_title: String,
    x_scale: Scale,
    y_scale: Scale,
    x_ticks: Option<Vec<f64>>,
    series: Vec<Series>,
    reference: Option<(String, f64)>,
}

impl Lines {
    /// Creates a chart without lines. Add them with [`Lines::line`].
    pub fn new(title: &str, x_title: &str, y_title: &str) -> Lines {
        Lines {
            title: title.into(),
            x_title: x_title.into(),
            y_title: y_title.into(),
            x_scale: Scale::Linear,
            y_scale: Scale::Linear,
            x_ticks: None,
            series: Vec::new(),
            reference: None,
        }
    }

    /// Makes the horizontal axis logarithmic.
    pub fn log_x(self) -> Lines {
        Lines { x_scale: Scale::Log, ..self }
    }

    /// Makes the vertical axis logarithmic.
    pub fn log_y(self) -> Lines {
        Lines { y_scale: Scale::Log, ..self }
    }

    /// Sets the tick marks of the horizontal axis.
    pub fn x_ticks(self, values: impl IntoIterator<Item = f64>) -> Lines {
        Lines { x_ticks: Some(values.into_iter().collect()), ..self }
    }

    /// Adds a line with points `(x, y, spread)`. The band is from `y - spread` to `y + spread`.
    pub fn line(self, name: &str, points: impl IntoIterator<Item = (f64, f64, f64)>) -> Lines {
        self.series(name, points, Stroke::Solid)
    }

    /// Adds a dashed line in the colour of the previous line.
    pub fn dashed(self, name: &str, points: impl IntoIterator<Item = (f64, f64, f64)>) -> Lines {
        self.series(name, points, Stroke::Dashed)
    }

    /// Adds a dashed horizontal line, such as the accuracy of guessing. A value that is not finite, or 0 or less on a
    /// logarithmic axis, is not drawn.
    pub fn reference(self, name: &str, value: f64) -> Lines {
        Lines { reference: Some((name.into(), value)), ..self }
    }

    fn series(
        mut self,
        name: &str,
        points: impl IntoIterator<Item = (f64, f64, f64)>,
        stroke: Stroke,
    ) -> Lines {
        let solid = self.series.iter().filter(|series| matches!(series.stroke, Stroke::Solid)).count();
        let number = match stroke {
            Stroke::Solid => solid,
            Stroke::Dashed => solid.saturating_sub(1),
        };
        let colour = PALETTE[number % PALETTE.len()];
        self.series.push(Series { name: name.into(), points: points.into_iter().collect(), colour, stroke });
        self
    }

    /// Draws the chart.
    ///
    /// # Errors
    /// [`Error::Argument`] if no point can be drawn: no points, no finite point, or only values of 0 or less
    /// on a logarithmic axis.
    pub fn plot(&self) -> Result<Chart> {
        let is_on = |scale: Scale, value: f64| scale == Scale::Linear || value > 0.0;
        let points_of = |series: &Series| -> Vec<Point> {
            let on_axes = |&(x, y, _): &Point| {
                !drawable([(x, y)]).is_empty() && is_on(self.x_scale, x) && is_on(self.y_scale, y)
            };
            let points = series.points.iter().copied().filter(on_axes);
            points.map(|(x, y, spread)| (x, y, if can_be_drawn(spread) { spread } else { 0.0 })).collect()
        };
        let lines: Vec<(&Series, Vec<Point>)> = self
            .series
            .iter()
            .map(|series| (series, points_of(series)))
            .filter(|(_, p)| !p.is_empty())
            .collect();
        let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        let Some((left, right)) = extent(all().map(|(x, ..)| x)) else {
            return Err(Error::Argument {
                name: "lines",
                expected: "at least one finite point, above 0 on a logarithmic axis".into(),
                found: format!("{} lines without one", self.series.len()),
            });
        };
        let ends = all().flat_map(|(_, y, spread)| {
            let low = if is_on(self.y_scale, y - spread) { y - spread } else { y };
            [low, y + spread]
        });
        let is_visible = |value: f64| can_be_drawn(value) && is_on(self.y_scale, value);
        let reference = self.reference.as_ref().filter(|(_, value)| is_visible(*value));
        let (low, high) = extent(ends.chain(reference.iter().map(|(_, value)| *value))).unwrap_or((0.0, 1.0));
        let has_dots = lines.iter().any(|(_, points)| points.len() == 1);
        let ends = if has_dots { self.with_margin(left, right) } else { (left, right) };
        let (x_axis, y_axis) = self.axes(ends, (low, high));
        let long = lines.iter().filter(|(_, points)| points.len() > 1);
        let mut names: Vec<&str> = long.map(|(series, _)| series.name.as_str()).collect();
        names.extend(reference.iter().map(|(name, _)| name.as_str()));
        let beside = widest(names, true) as i32 + 22;
        let frame = Frame {
            left: LEFT,
            top: TOP,
            width: (WIDTH - LEFT - beside).max(200),
            height: HEIGHT - TOP - BELOW,
            x: x_axis,
            y: y_axis,
        };
        let mut svg = Svg::new();
        svg.title((4, 18), &self.title);
        frame.draw(&mut svg);
        let (mut labels, mut dots) = (Vec::new(), Vec::new());
        if let Some((name, value)) = reference {
            let (from, to) = (frame.at((left, *value)), frame.at((right, *value)));
            svg.lines(
                &[(f64::from(frame.left), from.1), (f64::from(frame.right()), to.1)],
                INK,
                1.5,
                Stroke::Dashed,
            );
            labels.push((to.1, INK, name.clone()));
        }
        for (series, points) in &lines {
            let at = |x: f64, y: f64| frame.at((x, y));
            let floor = |y: f64, spread: f64| if is_on(self.y_scale, y - spread) { y - spread } else { y };
            if let &[(x, y, spread)] = points.as_slice() {
                svg.line(at(x, floor(y, spread)), at(x, y + spread), series.colour, 2.0);
                svg.dot(at(x, y), 5.0, series.colour, 1.0);
                dots.push(Dot { at: at(x, y), colour: series.colour, name: series.name.clone() });
                continue;
            }
            if points.iter().any(|(_, _, spread)| *spread > 0.0) {
                let above = points.iter().map(|(x, y, spread)| at(*x, y + spread));
                let below = points.iter().rev().map(|(x, y, spread)| at(*x, floor(*y, *spread)));
                svg.band(&above.chain(below).collect::<Vec<_>>(), series.colour);
            }
            let path: Vec<(f64, f64)> = points.iter().map(|(x, y, _)| at(*x, *y)).collect();
            svg.lines(&path, series.colour, 2.0, series.stroke);
            if path.len() <= 40 && matches!(series.stroke, Stroke::Solid) {
                path.iter().for_each(|point| svg.dot(*point, 3.0, series.colour, 1.0));
            }
            if !series.name.is_empty() {
                let end = path.last().expect("a line has a point");
                labels.push((end.1, series.colour, series.name.clone()));
            }
        }
        write_labels(&mut svg, frame.right() + 10, labels);
        write_beside(&mut svg, [frame.left, frame.top, frame.right(), frame.bottom()].map(f64::from), &dots);
        let in_words = lines.iter().map(|(series, points)| {
            if let &[(x, y, _)] = points.as_slice() {
                let [x, y] = [x, y].map(|value| super::range::label(&value));
                return format!("{:>22} {y} at {x}", series.name);
            }
            let values: Vec<f64> = points.iter().map(|point| point.1).collect();
            let last = values.last().expect("a line has a point");
            format!("{:>22} {} {}", series.name, spark(&values), super::range::label(last))
        });
        let text = format!("{}\n{}", self.title, in_words.collect::<Vec<_>>().join("\n"));
        Ok(Chart { svg: svg.finish((WIDTH, HEIGHT), &text), text })
    }

    /// The ends of the horizontal axis, with a margin beside the outermost dots.
    fn with_margin(&self, left: f64, right: f64) -> (f64, f64) {
        // Share of the axis's length.
        const SHARE: f64 = 0.04;
        match self.x_scale {
            Scale::Linear => {
                let margin = (right - left).max(1e-3 * right.abs()).max(1e-9) * SHARE;
                (left - margin, right + margin)
            }
            Scale::Log => {
                let factor = (right / left).max(1.1).powf(SHARE);
                (left / factor, right * factor)
            }
        }
    }

    fn axes(&self, (left, right): (f64, f64), (low, high): (f64, f64)) -> (Axis, Axis) {
        let x = match self.x_scale {
            Scale::Linear => Axis::linear(&self.x_title, left, right),
            Scale::Log => Axis::log(&self.x_title, left, right),
        };
        let x = match &self.x_ticks {
            Some(ticks) => x.ticks(ticks.clone()),
            None => x,
        };
        let y = match self.y_scale {
            Scale::Linear => {
                let room = (high - low).max(1e-9) * 0.06;
                Axis::linear(&self.y_title, low - room, high + room)
            }
            Scale::Log => Axis::log(&self.y_title, low / 1.5, high * 1.5),
        };
        (x, y)
    }
}

/// Writes names at the ends of their lines, moved apart where they would overlap.
pub(crate) fn write_labels(svg: &mut Svg, x: i32, mut labels: Vec<(f64, Rgb, String)>) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let gap = f64::from(LINE);
    // Move overlapping names down, then each group up by half of its total shift, so that names stay
    // near their lines.
    let wanted: Vec<f64> = labels.iter().map(|(y, ..)| *y).collect();
    let mut placed: Vec<f64> = Vec::new();
    for y in &wanted {
        placed.push(placed.last().map_or(*y, |last| y.max(last + gap)));
    }
    let mut begin = 0;
    while begin < placed.len() {
        let mut end = begin + 1;
        while end < placed.len() && placed[end] - placed[end - 1] <= gap + 1e-9 {
            end += 1;
        }
        let moved = (begin..end).map(|at| placed[at] - wanted[at]).sum::<f64>() / (end - begin) as f64;
        let floor = if begin == 0 { gap } else { placed[begin - 1] + gap };
        let shift = moved.min((placed[begin] - floor).max(0.0));
        placed[begin..end].iter_mut().for_each(|y| *y -= shift);
        begin = end;
    }
    for ((_, colour, name), y) in labels.into_iter().zip(placed) {
        svg.coloured((f64::from(x), y + 4.0), Anchor::Start, colour, &name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_chart_is_refused_and_extreme_values_are_drawn() -> Result<()> {
        assert!(Lines::new("t", "x", "y").plot().is_err());
        let zero = Lines::new("t", "x", "y").log_x().line("a", [(0.0, 1.0, 0.0)]);
        assert!(zero.plot().unwrap_err().to_string().contains("above 0"));
        let wild = [(1.0, f64::NAN, 0.0), (2.0, 1e300, 0.0), (3.0, 0.5, f64::INFINITY), (4.0, 0.6, 0.1)];
        for chart in [Lines::new("t", "x", "y"), Lines::new("t", "x", "y").log_x().log_y()] {
            let chart =
                chart.line("a<b", wild).dashed("", [(1.0, 0.2, 0.0)]).reference("chance", 0.5).plot()?;
            let drawn = chart.svg().split_once("</title>").unwrap().1;
            assert!(!drawn.contains("NaN") && !drawn.contains("inf") && drawn.contains("a&lt;b"), "{drawn}");
        }
        for reference in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let chart = Lines::new("t", "x", "y").log_y().line("a", [(1.0, 0.5, 0.0), (2.0, 0.1, 0.0)]);
            let chart = chart.reference("target", reference).plot()?;
            let drawn = chart.svg().split_once("</title>").unwrap().1;
            assert!(!drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("target"), "{drawn}");
        }
        Ok(())
    }

    #[test]
    fn a_line_of_one_point_is_a_named_dot() -> Result<()> {
        let chart = Lines::new("top-1 by time", "milliseconds", "top-1 (%)").log_x().x_ticks([30.0, 100.0]);
        let chart = chart.line("small", [(30.0, 75.0, 0.0)]).line("large", [(120.0, 84.0, 0.5)]).plot()?;
        assert!(chart.text().contains("small 75.00 at 30.00"), "{}", chart.text());
        let drawn = chart.svg().split_once("</title>").unwrap().1;
        assert_eq!(drawn.matches("<circle").count(), 2);
        // The names are beside the dots: the one of the rightmost dot is left of it.
        assert!(
            drawn.contains(">small</text>") && drawn.contains("text-anchor=\"end\" font-weight=\"bold\"")
        );
        for wild in [[(5e-324, 1.0, 0.0)], [(-3.0, 1.0, f64::NAN)]] {
            let chart = Lines::new("t", "x", "y").line("a", wild).plot()?;
            assert!(!chart.svg().contains("NaN") && !chart.svg().contains("inf"), "{}", chart.svg());
        }
        Ok(())
    }

    #[test]
    fn line_labels_do_not_overlap() {
        let mut svg = Svg::new();
        let labels = [100.0, 100.0, 101.0, 200.0].map(|y| (y, INK, format!("at {y}")));
        write_labels(&mut svg, 0, labels.to_vec());
        let text = svg.finish((1, 1), "");
        let ys: Vec<f64> = text
            .split(" y=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        let ys: Vec<f64> = ys.into_iter().filter(|y| *y > 10.0).collect();
        assert_eq!(ys.len(), 4, "{text}");
        assert!(ys.windows(2).all(|pair| pair[1] - pair[0] >= f64::from(LINE) - 0.1), "{ys:?}");
    }
}
