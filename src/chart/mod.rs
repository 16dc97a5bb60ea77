//! Charts, drawn by plotters, and diagrams, as SVG with a twin in plain text.

mod bars;
mod comparison;
mod confusion;
mod diagram;
mod embedding;
mod history;
mod learning_rates;
mod range;
mod show;
mod svg;
mod theme;

use crate::display::escape;
pub(crate) use show::chart_bundle;

/// A picture of numbers: SVG for the page, text for where no picture can be.
#[derive(Clone)]
pub struct Chart {
    svg: String,
    text: String,
}

impl Chart {
    /// A document by plotters, which has no words for those who cannot see it.
    fn titled(svg: &str, text: String) -> Chart {
        let (root, rest) = svg.split_once('>').unwrap_or((svg, ""));
        Chart { svg: format!("{root} role=\"img\"><title>{}</title>{rest}", escape(&text)), text }
    }

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
