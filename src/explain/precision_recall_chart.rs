//! Chart of precision and recall over the threshold.

use super::precision_recall::PrecisionRecall;
use crate::Result;
use crate::chart::{Chart, Lines, chart_bundle};
use crate::display::{Bundle, Show};

/// Maximum number of points of a line.
const POINTS: usize = 60;

impl PrecisionRecall {
    /// Precision and recall over the threshold.
    ///
    /// # Errors
    /// [`Error::Chart`](crate::Error::Chart) if the chart cannot be drawn.
    pub fn plot(&self) -> Result<Chart> {
        let thresholds = self.thresholds();
        let (step, last) = (thresholds.len().div_ceil(POINTS), thresholds.len() - 1);
        let points = |values: Vec<f64>| {
            let all = thresholds.iter().zip(values).enumerate();
            let some = all.filter(|(at, _)| at % step == 0 || *at == last);
            some.map(|(_, (threshold, value))| (*threshold, value, 0.0)).collect::<Vec<_>>()
        };
        Lines::new(&self.to_string(), "threshold", "precision and recall")
            .line("precision", points(self.precision()))
            .line("recall", points(self.recall()))
            .plot()
    }
}

impl Show for PrecisionRecall {
    fn bundle(&self) -> Bundle {
        chart_bundle(self.plot())
    }
}
