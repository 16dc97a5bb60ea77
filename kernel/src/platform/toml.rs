//! Strings in TOML.

/// Writes a text as a TOML string. Rust's own form of a string differs for combining marks and other characters.
pub fn toml_string(text: &str) -> String {
    let mut string = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => string.extend(['\\', c]),
            c if c.is_control() => string += &format!("\\u{:04X}", u32::from(c)),
            c => string.push(c),
        }
    }
    string + "\""
}

#[cfg(test)]
mod tests {
    use super::toml_string;

    #[test]
    fn only_quotes_backslashes_and_control_characters_are_escaped() {
        for (text, expected) in [
            ("/home/ค่า/José/हिन्दी", "\"/home/ค่า/José/हिन्दी\""),
            ("a \"b\" \\c", "\"a \\\"b\\\" \\\\c\""),
            ("a\nb\u{7f}", "\"a\\u000Ab\\u007F\""),
        ] {
            assert_eq!(toml_string(text), expected);
        }
    }
}
