//! Detection of incomplete cells, for consoles.

use std::ops::Range;

use crate::compile::cell::code;
use crate::compile::command_lines::command_lines;
use crate::compile::grammar;
pub use crate::compile::grammar::Completeness;

/// Checks whether a cell is complete. A console sends it when Enter is pressed.
pub fn completeness(cell: &str) -> Completeness {
    let is_continued = |range: &Range<usize>| {
        let command = cell[range.clone()].trim();
        cell[range.end..].trim().is_empty() && command.starts_with('!') && command.ends_with('\\')
    };
    match command_lines(cell).last().is_some_and(is_continued) {
        true => Completeness::Incomplete { indent: String::new() },
        false => grammar::completeness(&code(cell)),
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
            ("!echo a \\", incomplete(0)),
            ("f();\n!echo a \\\n", incomplete(0)),
            ("!echo a \\\n b", Completeness::Complete),
            ("f()\n!ls", Completeness::Complete),
            ("::std::f(", incomplete(1)),
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
