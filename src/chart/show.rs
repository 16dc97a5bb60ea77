//! Display of charts in notebooks.

use super::Chart;
use crate::Result;
use crate::display::{Bundle, Show, debug_as_text};

impl Show for Chart {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.text().into()), ("image/svg+xml".into(), self.svg().into())]
    }
}

debug_as_text!(Chart);

/// Returns the bundle of a chart, or the error message if it cannot be drawn.
pub(crate) fn chart_bundle(chart: Result<Chart>) -> Bundle {
    match chart {
        Ok(chart) => chart.bundle(),
        Err(error) => vec![("text/plain".into(), error.to_string())],
    }
}
