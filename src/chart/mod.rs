//! Charts of plain data as SVG, each with a plain-text version.
//!
//! The charts of a type, such as a history, are in the folder of the type. They use the drawing tools of this folder.

pub(crate) mod axes;
mod bars;
mod confusion;
mod dot_labels;
mod dots;
pub(crate) mod lines;
pub(crate) mod range;
mod results;
mod show;
mod summary;
pub(crate) mod svg;
pub(crate) mod text_width;
pub(crate) mod theme;

use crate::check::check;

pub use lines::Lines;
pub use results::ResultsTable;
pub(crate) use show::chart_bundle;

/// A chart: SVG for notebooks, text for terminals.
#[derive(Clone)]
pub struct Chart {
    svg: String,
    text: String,
}

impl Chart {
    /// Creates a chart of a complete SVG document and its plain-text version.
    pub(crate) fn new(svg: String, text: String) -> Chart {
        Chart { svg, text }
    }

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
