//! Precision and recall over the threshold.

use super::{Chart, Lines};
use crate::Result;
use crate::explain::PrecisionRecall;

/// Maximum number of points of a line.
const POINTS: usize = 60;

impl Chart {
    pub(crate) fn of_precision_recall(curve: &PrecisionRecall) -> Result<Chart> {
        let thresholds = curve.thresholds();
        let (step, last) = (thresholds.len().div_ceil(POINTS), thresholds.len() - 1);
        let points = |values: Vec<f64>| {
            let all = thresholds.iter().zip(values).enumerate();
            let some = all.filter(|(at, _)| at % step == 0 || *at == last);
            some.map(|(_, (threshold, value))| (*threshold, value, 0.0)).collect::<Vec<_>>()
        };
        Lines::new(&curve.to_string(), "threshold", "precision and recall")
            .line("precision", points(curve.precision()))
            .line("recall", points(curve.recall()))
            .plot()
    }
}
