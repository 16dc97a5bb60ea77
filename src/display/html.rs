//! Escaping of text for HTML and SVG.

/// Escapes text for use between tags and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // No other control character may be in an SVG.
            '\t' | '\n' | '\r' => safe.push(c),
            c if c.is_control() => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn escaped_text_contains_no_markup() {
        let text = super::escape("<img src='x' onerror=\"a&b\">");
        assert_eq!(text, "&lt;img src=&#39;x&#39; onerror=&quot;a&amp;b&quot;&gt;");
        assert_eq!(super::escape("a\u{0}\u{1b}[1m\tb\n"), "a\u{fffd}\u{fffd}[1m\tb\n");
    }
}
