//! Detection of incomplete cells, for consoles.

use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};

use crate::compile::cell::{code, parse};

/// Reply to a console's `is_complete_request`, which it sends when Enter is pressed.
#[derive(Debug, PartialEq, Eq)]
pub enum Completeness {
    Complete,
    /// More lines are needed; the next line starts with `indent`.
    Incomplete {
        indent: String,
    },
    Invalid,
}

/// Checks whether a cell is complete: its brackets, strings and comments are closed, and Rust's grammar
/// expects nothing more at its end. rustc reports errors before the end.
pub fn completeness(cell: &str) -> Completeness {
    let code = &code(cell);
    let mut open = Vec::new();
    let mut end = 0;
    let mut position = 0;
    let mut ends_in_operator = false;
    for token in tokenize(code, FrontmatterAllowed::No) {
        position += token.len as usize;
        match token.kind {
            TokenKind::OpenParen => open.push(TokenKind::CloseParen),
            TokenKind::OpenBracket => open.push(TokenKind::CloseBracket),
            TokenKind::OpenBrace => open.push(TokenKind::CloseBrace),
            close @ (TokenKind::CloseParen | TokenKind::CloseBracket | TokenKind::CloseBrace)
                if open.pop() != Some(close) =>
            {
                return Completeness::Invalid;
            }
            TokenKind::Literal { kind, .. } if !terminated(kind) => {
                return Completeness::Incomplete { indent: String::new() };
            }
            TokenKind::BlockComment { terminated: false, .. } => {
                return Completeness::Incomplete { indent: String::new() };
            }
            _ => {}
        }
        let is_blank = matches!(
            token.kind,
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
        );
        if !is_blank {
            end = position;
            ends_in_operator =
                matches!(token.kind, TokenKind::Eq | TokenKind::Dot | TokenKind::Comma | TokenKind::Plus);
        }
    }
    let unfinished = match parse(code) {
        _ if ends_in_operator && !code[..end].ends_with("..") => true,
        Ok(_) => false,
        // Positions are one byte larger, because of the opening brace.
        Err(error) => error.span().byte_range().start > end,
    };
    match open.is_empty() && !unfinished {
        true => Completeness::Complete,
        false => Completeness::Incomplete { indent: "    ".repeat(open.len()) },
    }
}

fn terminated(kind: LiteralKind) -> bool {
    match kind {
        LiteralKind::Str { terminated }
        | LiteralKind::ByteStr { terminated }
        | LiteralKind::CStr { terminated } => terminated,
        LiteralKind::RawStr { n_hashes }
        | LiteralKind::RawByteStr { n_hashes }
        | LiteralKind::RawCStr { n_hashes } => n_hashes.is_some(),
        // A character literal never continues on the next line, so more lines cannot complete it.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code that Rust's grammar does not allow to end here.
    const UNFINISHED: [&str; 40] = [
        "let",
        "let x",
        "let mut",
        "let x: u8",
        "let x =",
        "let x = 1",
        "let x = if a { 1 }",
        "let (a, b)",
        "fn f",
        "fn f()",
        "fn f() -> u8",
        "struct A",
        "enum A",
        "impl A",
        "impl A for",
        "trait A",
        "use std::",
        "use std",
        "mod",
        "pub",
        "#[derive(Debug)]",
        "if x",
        "if x { } else",
        "match x",
        "for i in",
        "for i in 0..3",
        "while x",
        "loop",
        "unsafe",
        "a +",
        "a &&",
        "a ==",
        "a as",
        "a.",
        "a,",
        "x =",
        "|x|",
        "&",
        "println!",
        "macro_rules! m",
    ];

    #[test]
    fn brackets_strings_and_comments_determine_completeness() {
        let incomplete = |levels: usize| Completeness::Incomplete { indent: "    ".repeat(levels) };
        for (code, expected) in [
            ("", Completeness::Complete),
            ("let a = 1;", Completeness::Complete),
            ("'{'", Completeness::Complete),
            ("\"{ // \"", Completeness::Complete),
            ("let s: &'static str = r#\"{\"#; // (", Completeness::Complete),
            ("/* { /* */ */", Completeness::Complete),
            (":dep rand", Completeness::Complete),
            ("fn f() {", incomplete(1)),
            ("f(vec![1,", incomplete(2)),
            ("\"open", incomplete(0)),
            ("r#\"open\"", incomplete(0)),
            ("/* open", incomplete(0)),
            ("let a =", incomplete(0)),
            ("}", Completeness::Invalid),
            ("(]", Completeness::Invalid),
            ("x\n", Completeness::Complete),
            ("a..", Completeness::Complete),
            ("let x = 1; // let", Completeness::Complete),
            (":vars\n", Completeness::Complete),
            ("!ls (", Completeness::Complete),
            ("let let = 1;", Completeness::Complete),
        ] {
            assert_eq!(completeness(code), expected, "{code}");
        }
        for code in UNFINISHED {
            assert_eq!(completeness(code), incomplete(0), "{code}");
            assert_eq!(completeness(&format!("{code} // …\n")), incomplete(0), "{code}");
        }
    }
}
