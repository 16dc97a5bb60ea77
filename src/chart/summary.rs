//! Mean and standard deviation of repeated measurements.

use crate::{Error, Result};

/// Named values with their mean.
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) values: &'a [f64],
    pub(super) mean: f64,
    /// The sample standard deviation, for two or more values.
    pub(super) spread: Option<f64>,
}

impl<'a> Sample<'a> {
    pub(super) fn new(name: &'a str, values: &'a [f64]) -> Result<Sample<'a>> {
        if values.is_empty() || values.iter().any(|value| !super::range::can_be_drawn(*value)) {
            return Err(Error::Argument {
                name: "values",
                expected: "finite numbers, at least one for each name".into(),
                found: format!("{values:?} for `{name}`"),
            });
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Ok(Sample { name, values, mean, spread: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) })
    }

    /// Collects all samples, at least one.
    pub(super) fn all(samples: impl Iterator<Item = Result<Sample<'a>>>) -> Result<Vec<Sample<'a>>> {
        let samples = samples.collect::<Result<Vec<_>>>()?;
        if samples.is_empty() {
            return Err(Error::Argument {
                name: "values",
                expected: "at least one name with values".into(),
                found: "none".into(),
            });
        }
        Ok(samples)
    }

    /// Formats mean and standard deviation: `0.92 ± 0.01`, with more decimals for small numbers and
    /// fewer for large ones.
    pub(super) fn in_words(&self) -> String {
        let size = self.mean.abs().max(self.spread.unwrap_or(0.0));
        if size != 0.0 && size < 1e-3 {
            return match self.spread {
                Some(spread) => format!("{:.1e} ± {spread:.1e}", self.mean),
                None => format!("{:.1e}", self.mean),
            };
        }
        let is_count = self.spread.is_none() && size >= 10.0 && self.mean.fract() == 0.0;
        let decimals = match size {
            _ if is_count => 0,
            0.1.. => 2,
            0.01.. => 3,
            0.0 => 2,
            _ => 4,
        };
        let spread = self.spread.map_or(String::new(), |spread| format!(" ± {spread:.decimals$}"));
        format!("{:.decimals$}{spread}", self.mean)
    }

    /// Returns the values and the ends of mean ± spread.
    pub(super) fn ends(&self) -> impl Iterator<Item = f64> {
        let spread = self.spread.unwrap_or(0.0);
        self.values.iter().copied().chain([self.mean - spread, self.mean + spread])
    }
}
