//! Plain text of a cell: spaces, line ends and names as evcxr and rustc compare them.

use std::ops::Range;

use icu_normalizer::ComposingNormalizerBorrowed;
use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};

use crate::compile::cell::code;
use crate::compile::command_lines::{command_lines, is};
use crate::compile::evcxr_text::commands::{DEPENDENCY, QUIT, TOKIO_FEATURES, TOKIO_FULL};
use crate::engine::lint_levels;

/// Space characters in text copied from web pages and other programs, which Rust does not accept as
/// whitespace.
const BLANKS: [char; 24] = [
    '\u{a0}', '\u{1680}', '\u{180e}', '\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}', '\u{2004}', '\u{2005}',
    '\u{2006}', '\u{2007}', '\u{2008}', '\u{2009}', '\u{200a}', '\u{200b}', '\u{200c}', '\u{200d}',
    '\u{202f}', '\u{205f}', '\u{2060}', '\u{3000}', '\u{feff}', '\u{61c}', '\u{ad}',
];

/// Edits that normalise spaces and line ends, and names to the form in which rustc compares them (NFC).
/// Then evcxr finds a variable however its name was typed.
pub fn edits(cell: &str) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    let quits: Vec<_> =
        command_lines(cell).into_iter().filter(|range| is(&cell[range.clone()], QUIT)).collect();
    // A line end belongs to one edit.
    let is_edited = |at: usize| quits.iter().any(|range| range.contains(&at));
    let ends: Vec<_> = cell.match_indices("\r\n").map(|(at, _)| at).filter(|at| !is_edited(*at)).collect();
    // The kernel ends after the cell.
    edits.extend(quits.into_iter().map(|range| (range, String::new())));
    edits.extend(tokio_edits(cell));
    edits.extend(lint_levels::edits(&code(cell)));
    if cell.is_ascii() && !cell.contains('\r') {
        return edits;
    }
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let mut position = 0;
    for token in tokenize(cell, FrontmatterAllowed::No) {
        let range = position..position + token.len as usize;
        position = range.end;
        let text = &cell[range.clone()];
        match token.kind {
            TokenKind::Ident | TokenKind::RawIdent if !normalizer.is_normalized(text) => {
                edits.push((range, normalizer.normalize(text).into_owned()));
            }
            TokenKind::Unknown | TokenKind::InvalidIdent => {
                let blanks = text.char_indices().filter(|(_, c)| BLANKS.contains(c));
                let place = |(at, c): (usize, char)| range.start + at..range.start + at + c.len_utf8();
                edits.extend(blanks.map(|blank| (place(blank), " ".to_owned())));
            }
            _ => {}
        }
    }
    edits.extend(ends.into_iter().map(|at| (at..at + 1, String::new())));
    edits
}

/// Replaces tokio's feature `full` in `:dep` lines.
fn tokio_edits(cell: &str) -> impl Iterator<Item = (Range<usize>, String)> {
    command_lines(cell).into_iter().filter_map(|range| {
        let line = &cell[range.clone()];
        let dependency = line.trim_start().strip_prefix(DEPENDENCY)?.trim_start().strip_prefix("tokio")?;
        let is_tokio = dependency.trim_start().starts_with('=');
        let (at, full) = TOKIO_FULL.iter().find_map(|full| Some((line.find(full)?, full)))?;
        let at = range.start + at;
        is_tokio.then(|| (at..at + full.len(), TOKIO_FEATURES.to_owned()))
    })
}
