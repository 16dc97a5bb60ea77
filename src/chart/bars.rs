//! Bar charts of named values, from one or more runs each.

use super::summary::Sample;
use super::svg::{Anchor, Svg, widest};
use super::{Chart, theme};
use crate::{Error, Result};

/// Height of a row, height of its bar, length of the longest bar, and margin, in pixels.
const ROW: i32 = 30;
const BAR: i32 = 18;
const LENGTH: f64 = 380.0;
const MARGIN: i32 = 4;

impl Chart {
    /// Draws a bar for each name: the mean of its values. Several values also get their standard
    /// deviation as an error bar. All values must be 0 or more.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is nothing to draw, a name has no values, or a value is negative or
    /// not finite.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::bars("accuracy", &[("frozen", vec![0.91, 0.93]), ("from scratch", vec![0.61])])?;
    /// assert!(chart.text().contains("0.92 ± 0.01"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn bars(title: &str, values: &[(impl AsRef<str>, impl AsRef<[f64]>)]) -> Result<Chart> {
        let samples = values.iter().map(|(name, values)| Sample::new(name.as_ref(), values.as_ref()));
        let samples = Sample::all(samples)?;
        if let Some(sample) = samples.iter().find(|sample| sample.values.iter().any(|value| *value < 0.0)) {
            return Err(Error::Argument {
                name: "values",
                expected: "numbers of 0 or more; `Chart::dots` takes others".into(),
                found: format!("{:?} for `{}`", sample.values, sample.name),
            });
        }
        Ok(Chart::of_bars(title, &samples))
    }

    fn of_bars(title: &str, samples: &[Sample]) -> Chart {
        let most = samples.iter().flat_map(Sample::ends).fold(0.0, f64::max);
        let scale = LENGTH / if most > 0.0 { most } else { 1.0 };
        let letters = samples.iter().map(|sample| sample.name.chars().count()).max().unwrap_or(0);
        let left = MARGIN + widest(samples.iter().map(|sample| sample.name), false) as i32 + 10;
        let words: Vec<String> = samples.iter().map(Sample::in_words).collect();
        let beside = widest(words.iter().map(String::as_str), false) as i32 + 16;
        let top = 34;
        let mut svg = Svg::new();
        svg.title((MARGIN, 18), title);
        let mut text = title.to_owned();
        for (at, (sample, words)) in samples.iter().zip(&words).enumerate() {
            let y = top + at as i32 * ROW;
            let length = (sample.mean * scale) as i32;
            svg.text((left - 8, y + 14), Anchor::End, false, sample.name);
            svg.rect([left, y, length.max(1), BAR], "#cfe3f1", theme::BLUE);
            let mut end = left + length;
            if let Some(spread) = sample.spread {
                let position = |value: f64| f64::from(left) + value.max(0.0) * scale;
                let (from, to) = (position(sample.mean - spread), position(sample.mean + spread));
                let middle = f64::from(y + BAR / 2);
                svg.line((from, middle), (to, middle), theme::VERMILION, 2.0);
                for x in [from, to] {
                    svg.line((x, middle - 5.0), (x, middle + 5.0), theme::VERMILION, 2.0);
                }
                end = end.max(to as i32);
            }
            svg.text((end + 8, y + 14), Anchor::Start, false, words);
            let blocks = "█".repeat((sample.mean * scale / LENGTH * 30.0).round() as usize);
            text += &format!("\n{:>letters$}  {blocks} {words}", sample.name);
        }
        let size = (left + LENGTH as i32 + beside, top + samples.len() as i32 * ROW + 4);
        Chart { svg: svg.finish(size, &text), text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_bar_has_full_length_and_spread_is_the_sample_deviation() -> Result<()> {
        let chart = Chart::bars("seconds", &[("a<b", vec![1.0, 2.0, 3.0]), ("c", vec![1.0])])?;
        assert!(
            chart.text().contains("2.00 ± 1.00") && chart.text().contains("c  ██████████ 1.00"),
            "{}",
            chart.text()
        );
        assert!(chart.svg().contains("a&lt;b") && !chart.svg().contains("a<b"));
        Ok(())
    }

    #[test]
    fn invalid_values_are_refused() {
        for values in [&[][..], &[("a", &[][..])], &[("a", &[f64::NAN])], &[("a", &[-1.0])]] {
            assert!(Chart::bars("x", values).unwrap_err().to_string().contains("values"));
        }
    }
}
