//! Charts and diagrams as SVG, each with a plain-text version.

mod axes;
mod bars;
mod calibration;
mod comparison;
mod confusion;
mod diagram;
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

    /// Writes the SVG to a file, atomically.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> crate::Result<()> {
        crate::files::write_whole(path.as_ref(), self.svg.as_bytes())
    }
}
