//! Estimates of text width, so that text does not overlap and is not cut off.
//!
//! The font of the page is unknown. The widths are those of DejaVu Sans, the widest common sans-serif
//! font; narrower fonts leave some space.

/// Returns an upper bound of the width of `text`, in pixels, at a font size in pixels.
pub(crate) fn text_width(text: &str, size: i32, bold: bool) -> f64 {
    let ems: f64 = text.chars().map(ems).sum();
    ems * f64::from(size) * if bold { 1.13 } else { 1.0 }
}

/// The width of a character in ems.
fn ems(character: char) -> f64 {
    match character {
        'i' | 'j' | 'l' | 'I' | '\'' | '|' => 0.3,
        ' ' | '.' | ',' | ':' | ';' | '!' => 0.34,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.99,
        'A'..='Z' => 0.77,
        '+' | '=' | '<' | '>' | '±' | '×' | '→' | '…' | '≥' => 0.84,
        // East Asian characters and emoji fill a square.
        wide if wide >= '\u{1100}' && !('\u{2000}'..'\u{2e80}').contains(&wide) => 1.1,
        _ => 0.65,
    }
}

/// Breaks text between words into lines of at most `width` pixels.
pub(crate) fn wrapped(text: &str, width: f64, size: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size, false) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Shortens `text` with `…` if it is wider than `width` pixels.
pub(crate) fn shortened(text: &str, width: f64, size: i32) -> String {
    if text_width(text, size, false) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if text_width(&format!("{short}{character}…"), size, false) > width {
            break;
        }
        short.push(character);
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_fit_and_keep_all_words() {
        let text = "the last layers too, in small steps";
        let lines = wrapped(text, 90.0, 13);
        assert!(lines.len() > 1 && lines.iter().all(|line| text_width(line, 13, false) <= 90.0), "{lines:?}");
        assert_eq!(lines.join(" "), text);
    }

    #[test]
    fn only_long_names_are_shortened() {
        assert_eq!(shortened("cats", 100.0, 13), "cats");
        let short = shortened("supercalifragilistic", 80.0, 13);
        assert!(short.ends_with('…') && text_width(&short, 13, false) <= 80.0, "{short}");
    }
}
