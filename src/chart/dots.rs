//! Dot plots of repeated measurements: one dot per run, with mean and standard deviation.

use super::axes::{Axis, BELOW, Frame, LEFT};
use super::range::extent;
use super::summary::Sample;
use super::svg::{Anchor, LINE, Stroke, Svg, widest};
use super::theme::{BLUE, INK, VERMILION};
use super::{Chart, theme};
use crate::Result;

/// Width of the chart, height of a row, height of the heading, and height of a chart of pairs, in pixels.
const WIDTH: i32 = 720;
const ROW: i32 = 34;
const TOP: i32 = 34;
const PAIRED_HEIGHT: i32 = 320;

impl Chart {
    /// Draws a row for each name: a dot for each run, and the mean with its standard deviation as a
    /// line. The axis need not start at 0, because dots, unlike bars, do not show a length.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if there is nothing to draw, a name has no values, or a value is not
    /// finite.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::dots("accuracy", &[("frozen", vec![0.91, 0.93]), ("from scratch", vec![0.61])])?;
    /// assert!(chart.text().contains("0.92 ± 0.01"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn dots(title: &str, values: &[(impl AsRef<str>, impl AsRef<[f64]>)]) -> Result<Chart> {
        let samples = values.iter().map(|(name, values)| Sample::new(name.as_ref(), values.as_ref()));
        Chart::of_dots(title, &Sample::all(samples)?)
    }

    /// Draws two measurements of each run, joined by a line: for example two networks on the same images
    /// with the same seed.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the numbers of values differ or are 0, or a value is not finite.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::paired("accuracy", ("VGG16", &[0.93, 0.94]), ("ResNet50", &[0.92, 0.91]))?;
    /// assert!(chart.text().contains("difference -0.020 ± 0.014"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn paired(title: &str, first: (&str, &[f64]), second: (&str, &[f64])) -> Result<Chart> {
        let (a, b) = (Sample::new(first.0, first.1)?, Sample::new(second.0, second.1)?);
        if a.values.len() != b.values.len() {
            return Err(crate::Error::Argument {
                name: "second",
                expected: format!("{} values, one for each of `{}`", a.values.len(), a.name),
                found: format!("{} values", b.values.len()),
            });
        }
        let differences: Vec<f64> = a.values.iter().zip(b.values).map(|(a, b)| b - a).collect();
        let difference = Sample::new("difference", &differences)?;
        let text = format!(
            "{title}, {} pairs\n{} {}\n{} {}\ndifference {}",
            a.values.len(),
            a.name,
            a.in_words(),
            b.name,
            b.in_words(),
            difference.in_words()
        );
        Ok(Chart { svg: draw_pairs(title, &a, &b, &difference).finish((WIDTH, PAIRED_HEIGHT), &text), text })
    }

    fn of_dots(title: &str, samples: &[Sample]) -> Result<Chart> {
        let words: Vec<String> = samples.iter().map(Sample::in_words).collect();
        let left = widest(samples.iter().map(|sample| sample.name), false).min(260.0) as i32 + 18;
        let beside = widest(words.iter().map(String::as_str), false) as i32 + 22;
        let ends = samples.iter().flat_map(Sample::ends);
        let (low, high) = extent(ends).unwrap_or((0.0, 1.0));
        let room = (high - low).max(1e-3 * high.abs()).max(1e-9) * 0.08;
        let height = samples.len() as i32 * ROW;
        let frame = Frame {
            left,
            top: TOP,
            width: (WIDTH - left - beside).max(160),
            height,
            x: Axis::linear("", low - room, high + room),
            // The vertical axis has rows, not values.
            y: Axis::linear("", 0.0, 1.0).ticks(Vec::new()),
        };
        let mut svg = Svg::new();
        svg.title((4, 18), title);
        frame.draw(&mut svg);
        let mut text = title.to_owned();
        let letters = samples.iter().map(|sample| sample.name.chars().count()).max().unwrap_or(0);
        for (at, (sample, words)) in samples.iter().zip(&words).enumerate() {
            let y = f64::from(TOP + at as i32 * ROW + ROW / 2);
            let x = |value: f64| frame.at((value, 0.0)).0;
            let name = super::text_width::shortened(sample.name, f64::from(left - 12), theme::TEXT);
            svg.text((left - 8, y as i32 + 5), Anchor::End, false, &name);
            for value in sample.values {
                svg.dot((x(*value), y), 5.0, BLUE, 0.45);
            }
            if let Some(spread) = sample.spread {
                svg.line((x(sample.mean - spread), y), (x(sample.mean + spread), y), VERMILION, 2.0);
            }
            let mean = x(sample.mean);
            svg.line((mean, y - 9.0), (mean, y + 9.0), VERMILION, 3.0);
            svg.text((frame.right() + 10, y as i32 + 5), Anchor::Start, false, words);
            text += &format!("\n{:>letters$}  {words}", sample.name);
        }
        let bottom = TOP + height + BELOW - 14;
        Ok(Chart { svg: svg.finish((WIDTH, bottom), &text), text })
    }
}

fn draw_pairs(title: &str, a: &Sample, b: &Sample, difference: &Sample) -> Svg {
    let (low, high) = extent(a.ends().chain(b.ends())).unwrap_or((0.0, 1.0));
    let room = (high - low).max(1e-9) * 0.08;
    let names = [format!("{} {}", a.name, a.in_words()), format!("{} {}", b.name, b.in_words())];
    let half = names.each_ref().map(|name| widest([name.as_str()], true) as i32 / 2);
    let left = (half[0] + 8).max(LEFT);
    let width = (WIDTH - left - half[1] - 8).clamp(160, 420);
    // Names that do not fit side by side stand one below the other.
    let second_line = if half[0] + half[1] + 16 > width { LINE } else { 0 };
    let frame = Frame {
        left,
        top: TOP,
        width,
        height: PAIRED_HEIGHT - TOP - 62,
        x: Axis::linear("", 0.0, 1.0).ticks(Vec::new()),
        y: Axis::linear("", low - room, high + room),
    };
    let mut svg = Svg::new();
    svg.title((4, 18), title);
    frame.draw(&mut svg);
    for (first, second) in a.values.iter().zip(b.values) {
        let (from, to) = (frame.at((0.0, *first)), frame.at((1.0, *second)));
        svg.lines(&[from, to], INK, 1.0, Stroke::Solid);
        svg.dot(from, 5.0, BLUE, 0.6);
        svg.dot(to, 5.0, VERMILION, 0.6);
    }
    let ends = [(0.0, a, BLUE, &names[0], 0), (1.0, b, VERMILION, &names[1], second_line)];
    for (position, sample, colour, name, lower) in ends {
        let (x, y) = frame.at((position, sample.mean));
        svg.line((x - 12.0, y), (x + 12.0, y), colour, 3.0);
        svg.coloured((x, f64::from(frame.bottom() + 20 + lower)), Anchor::Middle, colour, name);
    }
    let words = format!(
        "difference {} (mean ± standard deviation of {} pairs)",
        difference.in_words(),
        a.values.len()
    );
    let centre = (frame.left + frame.width / 2).max(widest([words.as_str()], false) as i32 / 2 + 4);
    svg.text((centre, frame.bottom() + 54), Anchor::Middle, false, &words);
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_a_dot_and_names_are_escaped() -> Result<()> {
        let chart = Chart::dots("accuracy", &[("a<b", vec![0.9, 0.92, 0.94]), ("c", vec![0.5])])?;
        assert_eq!(chart.svg().matches("<circle").count(), 4);
        assert!(chart.text().contains("a<b  0.92 ± 0.02"), "{}", chart.text());
        assert!(chart.svg().contains("a&lt;b") && !chart.svg().contains("a<b"));
        Ok(())
    }

    #[test]
    fn paired_values_must_match() {
        let problem = Chart::paired("x", ("a", &[1.0, 2.0]), ("b", &[1.0])).unwrap_err().to_string();
        assert!(problem.contains("2 values") && problem.contains('1'), "{problem}");
        let chart = Chart::paired("x", ("a", &[1.0, 2.0]), ("b", &[2.0, 4.0])).unwrap();
        assert!(chart.text().ends_with("difference 1.50 ± 0.71"), "{}", chart.text());
    }

    #[test]
    fn invalid_values_are_refused() {
        for values in [&[][..], &[("a", &[][..])], &[("a", &[f64::NAN])], &[("a", &[f64::INFINITY])]] {
            assert!(Chart::dots("x", values).unwrap_err().to_string().contains("values"));
        }
    }
}
