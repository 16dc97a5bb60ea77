//! The chart of `headstart results`: one row and one dot for each notebook.

use std::fmt::Write;

use crate::cli::highlight::escape;

/// Heights and widths in pixels.
const ROW: usize = 26;
const TOP: usize = 40;
const BELOW: usize = 36;
const PLOT: f64 = 360.0;
/// Average width of a letter, in pixels.
const LETTER: usize = 7;
/// Largest number of letters of a label.
const MAX_LABEL: usize = 60;
/// Number of ticks below the plot.
const TICKS: usize = 4;
/// Text colour that is readable on light and dark pages.
const INK: &str = "#797979";
const BLUE: &str = "#0072b2";

/// A notebook in the chart.
pub struct Trial {
    pub label: String,
    pub value: f64,
}

/// Draws the trials from top to bottom. The values are finite, because they come from JSON.
pub fn svg(title: &str, trials: &[Trial]) -> String {
    let labels: Vec<String> = trials.iter().map(|trial| shortened(&trial.label)).collect();
    let letters = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let left = (letters * LETTER + 20) as f64;
    let (width, bottom) = (left + PLOT + 90.0, TOP + trials.len() * ROW);
    let values = || trials.iter().map(|trial| trial.value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    // Halves first: the difference of the largest numbers is infinite.
    let room = ((high / 2.0 - low / 2.0) * 0.1).max(high.abs() * 1e-3).max(1e-9);
    let (low, high) = ((low - room).max(f64::MIN), (high + room).min(f64::MAX));
    let x = |value: f64| left + PLOT * ((value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)).clamp(0.0, 1.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{0}\" viewBox=\"0 0 {width} {0}\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" font-size=\"13\" fill=\"{INK}\" \
         role=\"img\"><title>{1}</title><text x=\"4\" y=\"20\" font-weight=\"bold\">{1}</text>",
        bottom + BELOW,
        escape(title)
    );
    for tick in 0..=TICKS {
        let share = tick as f64 / TICKS as f64;
        let value = low * (1.0 - share) + high * share;
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"{INK}\" stroke-opacity=\"0.25\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>",
            x(value),
            bottom + 18,
            number(value)
        );
    }
    for (at, (trial, label)) in trials.iter().zip(&labels).enumerate() {
        let y = TOP + at * ROW + ROW / 2;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{1}\" text-anchor=\"end\">{2}</text>\
             <circle cx=\"{3:.1}\" cy=\"{y}\" r=\"5\" fill=\"{BLUE}\"/><text x=\"{4:.1}\" y=\"{1}\">{5}</text>",
            left - 10.0,
            y + 5,
            escape(label),
            x(trial.value),
            left + PLOT + 12.0,
            number(trial.value)
        );
    }
    svg + "</svg>\n"
}

/// A number with four significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size => format!("{value:.*}", (3 - size.log10().floor() as i32).max(0) as usize),
    }
}

fn shortened(label: &str) -> String {
    match label.chars().count() > MAX_LABEL {
        true => label.chars().take(MAX_LABEL - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_values_and_labels_are_drawn() {
        let trials = |values: &[f64]| {
            values
                .iter()
                .map(|value| Trial { label: "<a & b>".repeat(20), value: *value })
                .collect::<Vec<_>>()
        };
        for values in [&[0.5][..], &[0.0, 0.0], &[-1e300, 1e300], &[f64::MAX, f64::MIN], &[1e-12, 2e-12]] {
            let svg = svg("<loss>", &trials(values));
            assert_eq!(svg.matches("<circle").count(), values.len());
            assert!(
                svg.contains("&lt;a &amp; b&gt;") && !svg.contains("<a") && !svg.contains("NaN"),
                "{svg}"
            );
        }
        assert_eq!(
            [0.93125, 12.0, 0.0, 1e-4, 123_456.0].map(number),
            ["0.9313", "12.00", "0", "1.00e-4", "1.23e5"]
        );
    }
}
