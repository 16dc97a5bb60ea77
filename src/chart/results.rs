//! Table of accuracies and times, each with a bar.

use super::summary::Sample;
use super::theme::{BLUE, VERMILION};
use crate::Result;
use crate::check::{check, check_not_negative};
use crate::display::{Bundle, Show, escape};

/// A table of the accuracies and times (seconds) of repeated runs, with one row per training method.
///
/// ```
/// use headstart::prelude::*;
/// let table = ResultsTable::new(1000)
///     .row("frozen", &[0.93, 0.94], &[0.5, 0.6])?
///     .row("from scratch", &[0.55, 0.61], &[9.0, 8.0])?;
/// assert!(table.to_string().contains("0.58 ± 0.04"));
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct ResultsTable {
    images: usize,
    rows: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    name: String,
    runs: usize,
    accuracy: (f64, String),
    seconds: (f64, String),
}

impl ResultsTable {
    /// Creates an empty table. `images` is the number of test images.
    pub fn new(images: usize) -> ResultsTable {
        ResultsTable { images, rows: Vec::new() }
    }

    /// Adds a row with the accuracy and the time in seconds of each run.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if there are no values, an accuracy is not from 0 to 1, or a time is not finite or
    /// negative.
    pub fn row(mut self, name: &str, accuracies: &[f64], seconds: &[f64]) -> Result<ResultsTable> {
        for accuracy in accuracies {
            check("accuracy", accuracy, (0.0..=1.0).contains(accuracy), "a share from 0 to 1")?;
        }
        seconds.iter().try_for_each(|time| check_not_negative("seconds", *time))?;
        let (accuracy, time) = (Sample::new(name, accuracies)?, Sample::new(name, seconds)?);
        self.rows.push(Row {
            name: name.to_owned(),
            runs: accuracies.len(),
            accuracy: (accuracy.mean, accuracy.in_words()),
            seconds: (time.mean, format!("{:.1}", time.mean)),
        });
        Ok(self)
    }

    fn note(&self) -> String {
        format!(
            "Accuracy: mean ± standard deviation over the runs, each measured on {} images. Time: mean, everything included.",
            self.images
        )
    }
}

impl std::fmt::Display for ResultsTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        writeln!(f, "{:width$}  {:>4}  {:>13}  {:>8}", "", "runs", "accuracy", "seconds")?;
        for Row { name, runs, accuracy, seconds } in &self.rows {
            writeln!(f, "{name:width$}  {runs:>4}  {:>13}  {:>8}", accuracy.1, seconds.1)?;
        }
        f.write_str(&self.note())
    }
}

impl std::fmt::Debug for ResultsTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Show for ResultsTable {
    fn bundle(&self) -> Bundle {
        let slowest = self.rows.iter().map(|row| row.seconds.0).fold(0.0, f64::max).max(1e-9);
        let bar = |share: f64, colour: String| {
            let width = (120.0 * share.clamp(0.0, 1.0)).round();
            format!(
                "<span style=\"display:inline-block;height:0.7em;margin-right:0.5em;width:{width}px;background:{colour}\"></span>"
            )
        };
        let row = |row: &Row| {
            format!(
                "<tr><td style=\"text-align:left\">{}</td><td>{}</td><td style=\"text-align:left\">{}{}</td>\
                 <td style=\"text-align:left\">{}{} s</td></tr>",
                escape(&row.name),
                row.runs,
                bar(row.accuracy.0, BLUE.to_string()),
                row.accuracy.1,
                bar(row.seconds.0 / slowest, VERMILION.to_string()),
                row.seconds.1
            )
        };
        let rows: String = self.rows.iter().map(row).collect();
        let html = format!(
            "<table><tr><th></th><th>runs</th><th style=\"text-align:left\">accuracy, from 0 to 1</th>\
             <th style=\"text-align:left\">time</th></tr>{rows}</table><p>{}</p>",
            self.note()
        );
        vec![("text/plain".into(), self.to_string()), ("text/html".into(), html)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_bars_are_shares() -> Result<()> {
        let table = ResultsTable::new(10).row("a<b", &[0.5], &[2.0])?.row("c", &[1.0], &[4.0])?;
        let html = &table.bundle()[1].1;
        assert!(html.contains("a&lt;b") && !html.contains("a<b"));
        assert_eq!(html.matches("width:60px").count(), 2);
        assert_eq!(html.matches("width:120px").count(), 2);
        assert!(table.row("d", &[f64::NAN], &[1.0]).is_err());
        Ok(())
    }
}
