//! Token-based edits of Rust sources.

use std::ops::Range;

use ra_ap_rustc_lexer::{DocStyle, FrontmatterAllowed, TokenKind, is_id_continue, tokenize};

/// Words of a text that could be identifiers, also in strings and comments.
pub fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_id_continue(c)).filter(|word| !word.is_empty())
}

/// Replaces the syntax of const traits by blanks: `const trait`, `const impl`, `impl const`, `[const]
/// Bound`. It is not valid Rust outside the standard library, and syn cannot parse it.
pub fn without_const_traits(source: &str) -> String {
    let mut position = 0;
    let tokens: Vec<(&str, Range<usize>)> = tokenize(source, FrontmatterAllowed::No)
        .filter_map(|token| {
            let range = position..position + token.len as usize;
            position = range.end;
            let is_code = !matches!(
                token.kind,
                TokenKind::Whitespace | TokenKind::LineComment { .. } | TokenKind::BlockComment { .. }
            );
            is_code.then(|| (&source[range.clone()], range))
        })
        .collect();
    let at = |at: usize| tokens.get(at).map_or("", |(text, _)| text);
    let mut result = source.as_bytes().to_owned();
    let mut blank = |at: usize| result[tokens[at].1.clone()].fill(b' ');
    for here in (0..tokens.len()).filter(|here| at(*here) == "const") {
        let (before, after) = (at(here.wrapping_sub(1)), at(here + 1));
        if (before, after) == ("[", "]") {
            (here - 1..here + 2).for_each(&mut blank);
        } else if before != "*" && ["trait", "auto", "impl"].contains(&after)
            || (after, at(here + 2)) == ("unsafe", "trait")
            || before == "impl"
            || before == ">" && follows_impl(&tokens[..here])
            || [":", "+"].contains(&before) && after.starts_with(|c: char| c.is_ascii_uppercase())
        {
            blank(here);
        }
    }
    String::from_utf8(result).unwrap_or_else(|_| source.to_owned())
}

/// Whether the tokens end with `impl` and its generic parameters.
fn follows_impl(tokens: &[(&str, Range<usize>)]) -> bool {
    let mut open = 0;
    for (at, (text, _)) in tokens.iter().enumerate().rev() {
        match *text {
            // Part of an arrow as in `Fn() -> T`, not a bracket.
            ">" if at > 0 && tokens[at - 1].0 == "-" => {}
            ">" => open += 1,
            "<" => open -= 1,
            "{" | "}" | ";" => return false,
            _ => {}
        }
        if open == 0 {
            return at > 0 && tokens[at - 1].0 == "impl";
        }
    }
    false
}

/// Removes comments other than documentation, and joins consecutive lines of documentation to one comment,
/// because rust-analyzer stores every token.
pub fn with_fewer_comments(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut lines = Vec::new();
    let mut style = DocStyle::Outer;
    let mut position = 0;
    for token in tokenize(source, FrontmatterAllowed::No) {
        let text = &source[position..position + token.len as usize];
        position += text.len();
        match token.kind {
            TokenKind::LineComment { doc_style: Some(doc_style) } => {
                if doc_style != style {
                    write_documentation(&mut result, style, &mut lines);
                    style = doc_style;
                }
                lines.push(text);
            }
            TokenKind::LineComment { doc_style: None } | TokenKind::BlockComment { doc_style: None, .. } => {}
            TokenKind::Whitespace if !lines.is_empty() => {}
            TokenKind::Whitespace => result.push(if text.contains('\n') { '\n' } else { ' ' }),
            _ => {
                write_documentation(&mut result, style, &mut lines);
                result.push_str(text);
            }
        }
    }
    write_documentation(&mut result, style, &mut lines);
    result
}

/// Writes the lines, which begin with `///` or `//!`, and empties `lines`.
fn write_documentation(result: &mut String, style: DocStyle, lines: &mut Vec<&str>) {
    let ends_one = |line: &&str| line[3..].contains("*/") || line[3..].contains("/*");
    if lines.len() > 1 && !lines.iter().any(ends_one) {
        result.push_str(match style {
            DocStyle::Outer => "/**",
            DocStyle::Inner => "/*!",
        });
        // A comment that begins with more than two asterisks is not documentation.
        if lines[0][3..].starts_with(['*', '/']) {
            result.push('\n');
        }
        for line in lines.iter() {
            result.push_str(&line[3..]);
            result.push('\n');
        }
        result.push_str("*/\n");
    } else {
        for line in lines.iter() {
            result.push_str(line);
            result.push('\n');
        }
    }
    lines.clear();
}

/// Replaces ranges of a source, which are in order and do not overlap.
pub fn replace(source: &str, changes: impl Iterator<Item = (Range<usize>, String)>) -> String {
    let mut result = String::with_capacity(source.len());
    let mut copied = 0;
    for (range, text) in changes {
        result.push_str(&source[copied..range.start]);
        result.push_str(&text);
        copied = range.end;
    }
    result + &source[copied..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn const_traits_become_plain_traits() {
        let source = "pub const unsafe trait A: [const] B { const C: u8; }\n\
            impl<T: const B, F: Fn() -> u8> const A for T { const fn f() {} }\nimpl const A for [u8; const { 1 }] {}";
        let expected = "pub       unsafe trait A:         B { const C: u8; }\n\
            impl<T:       B, F: Fn() -> u8>       A for T { const fn f() {} }\nimpl       A for [u8; const { 1 }] {}";
        assert_eq!(without_const_traits(source), expected);
    }

    #[test]
    fn documentation_is_joined_and_other_comments_are_removed() {
        let source = "//! A.\n//!\n//! B.\n\n/* gone */ use x; // gone\n/// One.\nfn a() {}\n\
            /// Two,\n    // gone\n    /// more.\nfn b() { \"// stays\" }\n/// `/*`\n/// stays.\nfn c() {}\n";
        let expected = "/*! A.\n\n B.\n*/\nuse x; \n/// One.\nfn a() {}\n\
            /** Two,\n more.\n*/\nfn b() { \"// stays\" }\n/// `/*`\n/// stays.\nfn c() {}\n";
        assert_eq!(with_fewer_comments(source), expected);
        assert_eq!(with_fewer_comments("///* a\n/// b\nfn c() {}"), "/**\n* a\n b\n*/\nfn c() {}");
    }
}
