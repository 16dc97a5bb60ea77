//! The lines of a cell that are commands for evcxr or the shell, and not Rust.
//!
//! A line in a string, in a comment or between brackets is never a command.

use std::ops::Range;

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};

use crate::compile::evcxr_text::commands::{QUIT, is_command};

/// Byte ranges of the commands, without the line feed at the end. A shell command that ends with a backslash
/// continues on the next line.
pub fn command_lines(cell: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut position = 0;
    let mut is_before_code = true;
    // Each line here begins outside of strings, comments and brackets.
    while let Some(rest) = cell.get(position..).filter(|rest| !rest.is_empty()) {
        let line = rest.split('\n').next().unwrap_or_default();
        let text = line.trim();
        let is_shell = is_before_code && text.starts_with('!');
        let is_command = match is_before_code {
            true => text.starts_with(':'),
            false => is_command(line) || text == QUIT,
        };
        if is_shell || is_command {
            let length = if is_shell { shell_length(rest) } else { line.len() };
            found.push(position..position + length);
            position += length + 1;
        } else if is_before_code && (text.is_empty() || line.starts_with("//")) {
            position += line.len() + 1;
        } else {
            is_before_code = false;
            position += code_length(rest);
        }
    }
    found
}

/// The commands of a cell, without blanks around them.
pub fn commands(cell: &str) -> impl Iterator<Item = &str> {
    command_lines(cell).into_iter().map(|range| cell[range].trim())
}

/// Whether a cell has this command.
pub fn has(cell: &str, command: &str) -> bool {
    commands(cell).any(|found| found == command)
}

/// Length of a shell command with the lines that continue it.
fn shell_length(text: &str) -> usize {
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        length += line.len();
        if !line.trim_end_matches(['\r', '\n']).ends_with('\\') {
            break;
        }
    }
    text[..length].trim_end_matches('\n').len()
}

/// Number of bytes before the next line that begins outside of strings, comments and brackets.
fn code_length(code: &str) -> usize {
    let (mut position, mut depth) = (0, 0_usize);
    for token in tokenize(code, FrontmatterAllowed::No) {
        let text = &code[position..position + token.len as usize];
        match token.kind {
            TokenKind::OpenParen | TokenKind::OpenBracket | TokenKind::OpenBrace => depth += 1,
            TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace => {
                depth = depth.saturating_sub(1);
            }
            TokenKind::Whitespace if depth == 0 => {
                if let Some(end) = text.find('\n') {
                    return position + end + 1;
                }
            }
            _ => {}
        }
        position += text.len();
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cell: &str) -> Vec<&str> {
        commands(cell).collect()
    }

    #[test]
    fn commands_are_found_before_and_after_code() {
        assert_eq!(
            found(":dep a = \"1\"\n\n// x\n !ls it's\n  :env A=1\nf();\n:vars\n"),
            [":dep a = \"1\"", "!ls it's", ":env A=1", ":vars"]
        );
        assert_eq!(found("let a = 1;\n :quit \na"), [":quit"]);
        assert_eq!(found("f();\r\n:vars\r\n"), [":vars"]);
        assert_eq!(found("!echo a \\\n  b \\\n  c\n:vars"), ["!echo a \\\n  b \\\n  c", ":vars"]);
        assert_eq!(found("!echo a \\"), ["!echo a \\"]);
        assert_eq!(found(""), [] as [&str; 0]);
    }

    #[test]
    fn text_and_rust_are_no_commands() {
        for cell in [
            "let help = \"commands:\n:quit\n:vars\";",
            "let help = r#\"\n:clear\n\"#;\nhelp",
            "/*\n:quit\n*/\n1",
            "f(\n:vars\n)",
            "use std\n::io;",
            "let a = b\n!c",
            "let x\n    :f64 = 1.0;",
            "f();\n// :quit",
            "// :quit",
        ] {
            assert_eq!(found(cell), [] as [&str; 0], "{cell}");
        }
        assert_eq!(found("let s = \"\n:clear\n\";\n:vars\nlet t = \"\n:quit\";"), [":vars"]);
    }
}
