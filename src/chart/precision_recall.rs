//! Precision and recall over the threshold.

use super::{Chart, Lines};
use crate::Result;
use crate::explain::PrecisionRecall;

impl Chart {
    pub(crate) fn of_precision_recall(curve: &PrecisionRecall) -> Result<Chart> {
        let points = |values: Vec<f64>| {
            curve.thresholds().into_iter().zip(values).map(|(x, y)| (x, y, 0.0)).collect::<Vec<_>>()
        };
        Lines::new(&curve.to_string(), "threshold", "share")
            .line("precision", points(curve.precision()))
            .line("recall", points(curve.recall()))
            .plot()
    }
}
