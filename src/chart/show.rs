//! How charts look on a page.

use super::Chart;
use crate::Result;
use crate::display::{Bundle, Show, debug_as_text};

impl Show for Chart {
    fn bundle(&self) -> Bundle {
        vec![("text/plain".into(), self.text().into()), ("image/svg+xml".into(), self.svg().into())]
    }
}

debug_as_text!(Chart);

/// The bundle of a value that is shown as a chart: the chart, or why it could not be drawn.
pub(crate) fn chart_bundle(chart: Result<Chart>) -> Bundle {
    match chart {
        Ok(chart) => chart.bundle(),
        Err(error) => vec![("text/plain".into(), error.to_string())],
    }
}
