//! Charts and diagrams as SVG, each with a plain-text version.

mod axes;
mod bars;
mod calibration;
mod comparison;
mod confusion;
mod diagram;
mod dot_labels;
mod dots;
mod embedding;
mod history;
mod learning_rates;
mod lines;
mod precision_recall;
mod range;
mod results;
mod show;
mod summary;
mod svg;
mod text_width;
mod theme;

use crate::check::check;

pub use lines::Lines;
use range::spark;
pub use results::ResultsTable;
pub(crate) use show::chart_bundle;

/// A chart: SVG for notebooks, text for terminals.
#[derive(Clone)]
pub struct Chart {
    svg: String,
    text: String,
}

impl Chart {
    /// The chart as a complete SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The chart as text, with block characters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the chart to an SVG file, atomically.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the path does not end in `.svg`; [`crate::Error::Io`] if the file cannot be
    /// written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> crate::Result<()> {
        let path = path.as_ref();
        let is_svg = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
        check(
            "path",
            path.display(),
            is_svg,
            "a file name that ends in `.svg`; other formats are not written",
        )?;
        crate::files::write_whole(path, self.svg.as_bytes())
    }
}
