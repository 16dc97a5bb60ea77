//! Levels of lints at the top of a cell, such as `#![forbid(unsafe_code)]`.
//!
//! They would also hold for the code that evcxr and the kernel generate around each cell, which has `unsafe` blocks. So
//! these lints only warn.

use std::ops::Range;

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};

/// Levels that make a lint an error.
const LEVELS: [&str; 2] = ["deny", "forbid"];

/// Shown before a cell with such a level.
pub const NOTE: &str = "note: `#![deny(…)]` and `#![forbid(…)]` only warn in a notebook: they would also hold for the code that is \
     generated around each cell\n";

/// Edits that change these levels to `warn`, for the code of a cell.
pub fn edits(code: &str) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    let (mut position, mut depth, mut is_attribute) = (0, 0_usize, false);
    for token in tokenize(code, FrontmatterAllowed::No) {
        let start = position;
        position += token.len as usize;
        let rest = &code[start..];
        match token.kind {
            TokenKind::OpenBracket | TokenKind::OpenParen if is_attribute => depth += 1,
            TokenKind::CloseBracket | TokenKind::CloseParen if is_attribute => {
                depth = depth.saturating_sub(1);
                is_attribute = depth > 0;
            }
            TokenKind::Ident if depth == 1 && LEVELS.contains(&&code[start..position]) => {
                edits.push((start..position, "warn".to_owned()));
            }
            TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => {}
            TokenKind::Pound if depth == 0 && rest.starts_with("#![") => is_attribute = true,
            TokenKind::Bang if depth == 0 && is_attribute => {}
            // The attributes of the cell have ended.
            _ if depth == 0 => break,
            _ => {}
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use crate::engine::prepare::Prepared;

    #[test]
    fn levels_that_make_a_lint_an_error_only_warn() {
        for (cell, sent) in [
            (
                "// é\n#![forbid(unsafe_code)]\n#![deny(missing_docs, deny)]\nfn f() {}",
                "// é\n#![warn(unsafe_code)]\n#![warn(missing_docs, deny)]\nfn f() {}",
            ),
            ("#![allow(a)]\n#![ deny(b)] f();", "#![allow(a)]\n#![ warn(b)] f();"),
        ] {
            let prepared = Prepared::new(cell);
            assert_eq!(prepared.sent(), sent);
            assert_eq!(prepared.original(sent.find("f()").unwrap()), cell.find("f()").unwrap());
        }
        for cell in
            ["#[deny(a)] fn f() {}", "f();\n#![deny(a)]", "fn f() { #![forbid(a)] }", "deny(1);", "[deny];"]
        {
            assert_eq!(Prepared::new(cell).sent(), cell);
        }
    }
}
