//! Things compared by one number each, measured once or often.

use super::svg::{Anchor, Svg};
use super::{Chart, theme};
use crate::{Error, Result};

const ROW: i32 = 30;
const BAR: i32 = 18;
const LENGTH: f64 = 380.0;
const LETTER: f64 = 6.4;
const MARGIN: i32 = 12;

/// What was measured of one thing.
struct Bar<'a> {
    name: &'a str,
    mean: f64,
    /// The standard deviation, of two values or more.
    spread: Option<f64>,
}

impl Bar<'_> {
    fn value(&self) -> String {
        let decimals = if self.mean != 0.0 && self.mean.abs() < 0.1 { 4 } else { 2 };
        let spread = self.spread.map_or(String::new(), |spread| format!(" ± {spread:.decimals$}"));
        match self.mean != 0.0 && self.mean.abs() < 1e-3 {
            true => {
                format!("{:.1e}{}", self.mean, self.spread.map_or(String::new(), |s| format!(" ± {s:.1e}")))
            }
            false => format!("{:.decimals$}{spread}", self.mean),
        }
    }
}

impl Chart {
    /// A bar for each name: the mean of its values, with their standard deviation as a line where
    /// there are several. All must be 0 or more.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is nothing to draw, a name has no values, or one is negative or no
    /// number.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let chart = Chart::bars("accuracy", &[("frozen", vec![0.91, 0.93]), ("from scratch", vec![0.61])])?;
    /// assert!(chart.text().contains("0.92 ± 0.01"));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn bars(title: &str, values: &[(impl AsRef<str>, impl AsRef<[f64]>)]) -> Result<Chart> {
        let bars = values.iter().map(|(name, values)| bar(name.as_ref(), values.as_ref()));
        Chart::of_bars(title, bars.collect::<Result<_>>()?)
    }

    fn of_bars(title: &str, bars: Vec<Bar>) -> Result<Chart> {
        if bars.is_empty() {
            return Err(Error::Argument {
                name: "values",
                expected: "at least one name with values".into(),
                found: "none".into(),
            });
        }
        let most = bars.iter().map(|bar| bar.mean + bar.spread.unwrap_or(0.0)).fold(0.0, f64::max);
        let scale = LENGTH / if most > 0.0 { most } else { 1.0 };
        let letters = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0);
        let left = MARGIN + (letters as f64 * LETTER) as i32 + 8;
        let top = 34;
        let mut svg = Svg::new();
        svg.text((MARGIN, 20), Anchor::Start, true, title);
        let mut text = title.to_owned();
        for (at, bar) in bars.iter().enumerate() {
            let y = top + at as i32 * ROW;
            let length = (bar.mean * scale) as i32;
            svg.text((left - 8, y + 13), Anchor::End, false, bar.name);
            svg.rect([left, y, length.max(1), BAR], "#cfe3f1", theme::BLUE);
            let mut end = left + length;
            if let Some(spread) = bar.spread {
                let [from, to] = [bar.mean - spread, bar.mean + spread]
                    .map(|value| left + (value.max(0.0) * scale) as i32);
                let middle = y + BAR / 2;
                svg.line((from, middle), (to, middle), theme::VERMILION, 2.0);
                for x in [from, to] {
                    svg.line((x, middle - 5), (x, middle + 5), theme::VERMILION, 2.0);
                }
                end = end.max(to);
            }
            svg.text((end + 8, y + 13), Anchor::Start, false, &bar.value());
            let blocks = "█".repeat((bar.mean * scale / LENGTH * 30.0).round() as usize);
            text += &format!("\n{:>letters$}  {blocks} {}", bar.name, bar.value());
        }
        let size = (left + LENGTH as i32 + 110, top + bars.len() as i32 * ROW + 4);
        Ok(Chart { svg: svg.finish(size, &text), text })
    }
}

fn bar<'a>(name: &'a str, values: &[f64]) -> Result<Bar<'a>> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite() || *value < 0.0) {
        return Err(Error::Argument {
            name: "values",
            expected: "numbers of 0 or more, at least one for each name".into(),
            found: format!("{values:?} for `{name}`"),
        });
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Ok(Bar { name, mean, spread: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_its_place_and_spread_is_that_of_a_sample() -> Result<()> {
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
    fn what_cannot_be_drawn_is_refused() {
        for values in [&[][..], &[("a", &[][..])], &[("a", &[f64::NAN])], &[("a", &[-1.0])]] {
            assert!(Chart::bars("x", values).unwrap_err().to_string().contains("values"));
        }
    }
}
