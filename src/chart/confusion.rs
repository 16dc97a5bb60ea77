//! A confusion matrix as a heat map.

use super::svg::FONTS;
use super::theme::{INK, TEXT};
use super::{Chart, theme};
use crate::display::escape;

/// Side of a cell, in pixels.
const CELL: usize = 64;

impl Chart {
    /// Draws the counts with one row per true class and one column per predicted class. `samples` are the numbers of
    /// samples of the true classes, and `caption` is the line below.
    pub(crate) fn of_confusion(
        classes: &[String],
        counts: &[Vec<usize>],
        samples: &[usize],
        caption: &str,
        text: &str,
    ) -> Chart {
        let longest = classes.iter().map(|name| short(name).chars().count()).max().unwrap_or(0);
        let margin = 48 + 9 * longest;
        let side = CELL.min(640 / classes.len().max(1)).max(18);
        let end = margin + side * classes.len();
        let (width, height) = (end + 20, if caption.is_empty() { end + 20 } else { end + 40 });
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             style=\"max-width:100%;height:auto\" font-family=\"{FONTS}\" font-size=\"{TEXT}\" role=\"img\"><title>{}</title>\
             <text x=\"{}\" y=\"18\" text-anchor=\"middle\" font-size=\"15\" fill=\"{INK}\">predicted</text>\
             <text x=\"18\" y=\"{}\" text-anchor=\"middle\" font-size=\"15\" fill=\"{INK}\" transform=\"rotate(-90 18 {})\">true</text>",
            escape(text),
            margin + side * classes.len() / 2,
            margin + side * classes.len() / 2,
            margin + side * classes.len() / 2,
        );
        for (row, (name, (counts, all))) in classes.iter().zip(counts.iter().zip(samples)).enumerate() {
            let middle = margin + row * side + side / 2;
            let name = escape(&short(name));
            svg += &format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{INK}\">{name}</text>\
                 <text x=\"{middle}\" y=\"{}\" fill=\"{INK}\" transform=\"rotate(-45 {middle} {})\">{name}</text>",
                margin - 8,
                middle + 5,
                margin - 8,
                margin - 8
            );
            let all = (*all).max(1) as f64;
            for (column, count) in counts.iter().enumerate() {
                // From white to blue, by the share of the true class.
                let share = *count as f64 / all;
                let mix = |full: u8| (255.0 + (f64::from(full) - 255.0) * share) as u8;
                let ink = if share > 0.55 { "#fff" } else { "#222" };
                let (x, y) = (margin + column * side, margin + row * side);
                svg += &format!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" fill=\"rgb({},{},{})\" stroke=\"#ddd\"/>\
                     <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{ink}\">{count}</text>",
                    mix(theme::BLUE.0),
                    mix(theme::BLUE.1),
                    mix(theme::BLUE.2),
                    x + side / 2,
                    y + side / 2 + 5
                );
            }
        }
        if !caption.is_empty() {
            let caption = escape(caption);
            svg += &format!("<text x=\"{margin}\" y=\"{}\" fill=\"{INK}\">{caption}</text>", end + 24);
        }
        Chart { svg: svg + "</svg>", text: text.to_owned() }
    }
}

/// Shortens a name to the space beside the matrix.
fn short(name: &str) -> String {
    // As many as fit above a column.
    const MAX_CHARACTERS: usize = 14;
    if name.chars().count() <= MAX_CHARACTERS {
        name.to_owned()
    } else {
        name.chars().take(MAX_CHARACTERS - 1).chain(['…']).collect()
    }
}
