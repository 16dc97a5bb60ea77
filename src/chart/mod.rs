//! Charts and diagrams as SVG, each with the same in plain text.

mod axes;
mod bars;
mod comparison;
mod confusion;
mod diagram;
mod dots;
mod embedding;
mod history;
mod learning_rates;
mod lines;
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

/// A picture of numbers: SVG for the page, text for where no picture can be.
#[derive(Clone)]
pub struct Chart {
    svg: String,
    text: String,
}

impl Chart {
    /// The picture, a whole SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The same in words and block characters.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the picture to a file, whole or not at all.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> crate::Result<()> {
        crate::files::write_whole(path.as_ref(), self.svg.as_bytes())
    }
}
