//! Rust's grammar in code without commands: its statements, and whether they are finished.

use std::borrow::Cow;

use ra_ap_rustc_lexer::{DocStyle, FrontmatterAllowed, LiteralKind, TokenKind, tokenize};
use syn::Block;

/// Parses statements, without the attributes of the whole cell. Positions are one byte larger than in the code, because
/// of the block's brace.
pub fn parse(code: &str) -> syn::Result<Block> {
    // The closing brace is on its own line, so that a comment does not hide it.
    syn::parse_str(&format!("{{{}\n}}", without_inner_attributes(code)))
}

/// Replaces the attributes at the beginning, such as `#![allow(unused)]`, by blanks: syn allows them only in functions.
fn without_inner_attributes(code: &str) -> Cow<'_, str> {
    let (mut position, mut end, mut depth) = (0, 0, 0);
    let mut is_in_attribute = false;
    for token in tokenize(code, FrontmatterAllowed::No) {
        let rest = &code[position..];
        position += token.len as usize;
        match token.kind {
            TokenKind::OpenBracket if is_in_attribute => depth += 1,
            TokenKind::CloseBracket if is_in_attribute => {
                depth -= 1;
                if depth == 0 {
                    (is_in_attribute, end) = (false, position);
                }
            }
            _ if is_in_attribute => {}
            TokenKind::LineComment { doc_style: Some(DocStyle::Inner) }
            | TokenKind::BlockComment { doc_style: Some(DocStyle::Inner), .. } => end = position,
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => {}
            TokenKind::Pound if rest.starts_with("#![") => is_in_attribute = true,
            _ => break,
        }
    }
    if end == 0 {
        return Cow::Borrowed(code);
    }
    Cow::Owned(blanks(&code[..end]) + &code[end..])
}

/// As many blanks as a text has bytes, with its line feeds.
pub fn blanks(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

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

/// Checks whether code is complete: its brackets, strings and comments are closed, and Rust's grammar
/// expects nothing more at its end. rustc reports errors before the end.
pub fn completeness(code: &str) -> Completeness {
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

    #[test]
    fn attributes_of_a_cell_are_blanks() {
        assert_eq!(
            without_inner_attributes("// a\n#![allow(unused)]\n//! é\n#![cfg(a[0])] [1, 2]"),
            "    \n                 \n      \n              [1, 2]"
        );
        for code in ["[1, 2]", "#[allow(a)] fn f() {}", "#!/bin/sh", "f(); #![a]", "/// a\nfn f() {}"] {
            assert_eq!(without_inner_attributes(code), code);
        }
        assert_eq!(parse("#![allow(unused)]\nlet f = |x: i32| x;\nf(1)").unwrap().stmts.len(), 2);
    }
}
