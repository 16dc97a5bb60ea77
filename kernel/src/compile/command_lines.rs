//! The lines of a cell that are commands for evcxr or the shell, and not Rust.
//!
//! A command begins after a whole statement. A line in a string, in a comment or between brackets is never a command.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use ra_ap_rustc_lexer::{FrontmatterAllowed, TokenKind, tokenize};
use syn::{Expr, Lit, Stmt};

use crate::compile::evcxr_text::commands::{QUIT, is_command};
use crate::compile::grammar::{Completeness, completeness, parse};

/// Beginnings of a line that continues an expression.
const CONTINUATIONS: [&str; 5] = [".", "&&", "||", "==", "!="];
/// Suffixes of integers.
const INTEGERS: [&str; 13] =
    ["", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize"];

thread_local! {
    /// Names that the session's cells have defined; empty in threads that only format or check cells.
    static DEFINED: RefCell<BTreeSet<String>> = RefCell::default();
}

/// Sets the names that earlier cells have defined: `!name` is an expression, and not a shell command.
pub fn set_defined(names: BTreeSet<String>) {
    DEFINED.set(names);
}

/// Byte ranges of the commands, without the line feed at the end. A shell command that ends with a backslash
/// continues on the next line.
pub fn command_lines(cell: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut position = 0;
    // Begin of the code after the last command.
    let mut begin = None;
    // Each line here begins outside of strings, comments and brackets.
    while let Some(rest) = cell.get(position..).filter(|rest| !rest.is_empty()) {
        let line = rest.split('\n').next().unwrap_or_default();
        let before = begin.map_or("", |begin| &cell[begin..position]);
        let command = match line.trim().chars().next() {
            Some('!') if is_whole(before) && !is_negation(rest, || words(cell, &found, position)) => {
                Some(shell_command(rest))
            }
            Some(':') if is_evcxr_command(line, begin.is_none()) && is_whole(before) => Some(line),
            _ => None,
        };
        if let Some(command) = command {
            found.push(position..position + command.len());
            position += command.len() + 1;
            // evcxr looks for commands only before the code.
            begin = begin.map(|_| position.min(cell.len()));
        } else if begin.is_none() && (line.trim().is_empty() || line.starts_with("//")) {
            position += line.len() + 1;
        } else {
            begin = begin.or(Some(position));
            position += code_length(rest);
        }
    }
    found
}

/// Whether code ends with a whole statement, so that a command may follow.
fn is_whole(code: &str) -> bool {
    code.trim().is_empty() || completeness(code) == Completeness::Complete
}

/// Whether a line that begins with a colon is a command: before the code, every line except a path.
fn is_evcxr_command(line: &str, is_before_code: bool) -> bool {
    let text = line.trim();
    match is_before_code {
        true => !text.starts_with("::"),
        false => is_command(line) || is(text, QUIT),
    }
}

/// Whether a line that begins with `!` is an expression, such as `!list.is_empty()`. A command such as `!ls -l` may have
/// the form of an expression. Then the names decide: those of an expression occur in the cell before it, or in earlier
/// cells.
fn is_negation<'a>(rest: &str, before: impl FnOnce() -> BTreeSet<&'a str>) -> bool {
    let code = &rest[..expression_length(rest)];
    let Ok(block) = parse(code) else { return false };
    let [Stmt::Expr(expression, _)] = &block.stmts[..] else { return false };
    match operand(expression) {
        Expr::Call(_) | Expr::MethodCall(_) | Expr::Macro(_) | Expr::Paren(_) => true,
        // `!ls [ab]` is a command.
        Expr::Index(_) if !code.contains(" [") => true,
        Expr::Lit(literal) => match &literal.lit {
            Lit::Bool(_) => true,
            Lit::Int(number) => INTEGERS.contains(&number.suffix()),
            _ => false,
        },
        _ => names(expression).is_some_and(|names| are_known(&names, &before())),
    }
}

/// Length of an expression with the lines that continue it.
fn expression_length(text: &str) -> usize {
    let mut length = code_length(text);
    while CONTINUATIONS.iter().any(|begin| {
        let rest = text[length..].trim_start().strip_prefix(begin);
        rest.is_some_and(|rest| *begin != "." || rest.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    }) {
        length += code_length(&text[length..]);
    }
    length
}

/// The operand of the first `!` in an expression.
fn operand(expression: &Expr) -> &Expr {
    match expression {
        Expr::Unary(unary) => operand(&unary.expr),
        Expr::Binary(binary) => operand(&binary.left),
        Expr::Cast(cast) => operand(&cast.expr),
        Expr::Field(field) => match operand(&field.base) {
            Expr::Path(_) => expression,
            base => base,
        },
        _ => expression,
    }
}

/// Names in an expression of names, fields and operators; `None` for other expressions.
fn names(expression: &Expr) -> Option<Vec<String>> {
    match expression {
        Expr::Path(path) => path.path.segments.first().map(|name| vec![name.ident.to_string()]),
        Expr::Field(field) => names(&field.base),
        Expr::Unary(unary) => names(&unary.expr),
        Expr::Paren(inner) => names(&inner.expr),
        Expr::Cast(cast) => names(&cast.expr),
        Expr::Binary(binary) => Some([names(&binary.left)?, names(&binary.right)?].concat()),
        Expr::Lit(_) | Expr::Call(_) | Expr::MethodCall(_) | Expr::Macro(_) | Expr::Index(_) => {
            Some(Vec::new())
        }
        _ => None,
    }
}

/// Whether names occur in the code before, or in earlier cells.
fn are_known(names: &[String], before: &BTreeSet<&str>) -> bool {
    let is_known = |name: &String| {
        before.contains(name.as_str()) || DEFINED.with_borrow(|defined| defined.contains(name))
    };
    !names.is_empty() && names.iter().all(is_known)
}

/// The identifiers before a position, without those in commands, strings and comments.
fn words<'a>(cell: &'a str, commands: &[Range<usize>], end: usize) -> BTreeSet<&'a str> {
    let begins = [0].into_iter().chain(commands.iter().map(|range| range.end));
    let ends = commands.iter().map(|range| range.start).chain([end]);
    let mut words = BTreeSet::new();
    for code in begins.zip(ends).map(|(begin, end)| &cell[begin..end]) {
        let mut position = 0;
        for token in tokenize(code, FrontmatterAllowed::No) {
            let text = &code[position..position + token.len as usize];
            position += text.len();
            if token.kind == TokenKind::Ident {
                words.insert(text);
            }
        }
    }
    words
}

/// The commands of a cell, without blanks around them.
pub fn commands(cell: &str) -> impl Iterator<Item = &str> {
    command_lines(cell).into_iter().map(|range| cell[range].trim())
}

/// Whether a cell has this command, with or without arguments.
pub fn has(cell: &str, command: &str) -> bool {
    commands(cell).any(|found| is(found, command))
}

/// Whether a line is this command, with or without arguments.
pub fn is(line: &str, command: &str) -> bool {
    line.split_whitespace().next() == Some(command)
}

/// A shell command with the lines that continue it.
fn shell_command(text: &str) -> &str {
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        length += line.len();
        if !line.trim_end_matches(['\r', '\n']).ends_with('\\') {
            break;
        }
    }
    text[..length].trim_end_matches('\n')
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
            "let x\n:f64 = 1.0;",
            "fn f<T\n:std::fmt::Debug>(t: T) {}",
            "fn f<T>(t: T) where T\n:std::fmt::Debug {}",
            "trait A\n:Send {}",
            "'a\n:loop { break 'a; }",
            "impl<T> A for T where\n    T\n:Clone {}",
            "const A\n:f64 = 1.0;",
            "let _: fn() -> A\n::B;",
            "::std::println!(\"a\");",
            "  ::std::mem::drop(1)",
            "macro_rules! m {\n(:a) => {\n:vars\n}\n}",
            "m! {\n:vars\n!ls\n%time\n}",
            "let s = b\"\n!ls\n:vars\";",
            "let s = br##\"\n!ls\n\"#\n:vars\"##;",
            "let s = c\"\n:vars\";",
            "let s = \"\\\"\n:vars\n\";",
            "/* /*\n!ls\n*/\n:quit\n*/ 1",
            "/** a\n!ls\n*/\nfn f() {}",
            "let a = b ||\n!c;",
            "let a = b &&\n    !c;",
            "let a =\n!b.c();",
            "x = y\n% z;",
            "if a {\n!b\n} else {\n!c\n}",
            "!true",
            "!false && a",
            "!0u8",
            "!0xFF_u32",
            "! 7",
            "!list.is_empty()",
            "!std::path::Path::new(\"a\").exists()",
            "!v[0]",
            "!matches!(a, Some(_))",
            "!(a && b)",
            "!list\n    .iter()\n    .any(|x| *x)",
            "!f(\n    a,\n)\n",
            "!!f(a)",
            "let done = f();\n!done",
            "let done = f();\n!done && !other(1)",
            "let done = f();\nlet a = 1;\n!done // not yet",
            "let s = f();\n!s.is_done",
            "let flag = true;\n!flag;\n!flag",
            "fn f(b: bool) -> bool {\n!b\n}",
            "match a {\nB => 1,\n_ =>\n!0,\n}",
            "let c = |a: bool|\n!a;",
            "f();\n// :quit",
            "// :quit",
        ] {
            assert_eq!(found(cell), [] as [&str; 0], "{cell}");
        }
        assert_eq!(found("let s = \"\n:clear\n\";\n:vars\nlet t = \"\n:quit\";"), [":vars"]);
    }

    #[test]
    fn shell_commands_are_no_expressions() {
        for command in [
            "!ls",
            "!ls -l",
            "!ls -1",
            "!pwd",
            "!nvidia-smi",
            "!./run.sh",
            "!make && make test",
            "!echo (hello",
            "!echo it's",
            "!echo \"a",
            "!(cd /tmp; ls)",
            "![ -f a ] && echo yes",
            "!7z x a.zip",
            "!true && echo hi",
            "!ls *.csv",
            "!x=1; echo $x",
            "!cat <<< a",
            "!python3 -c 'print(1)'",
            "!git status",
            "!! ls",
        ] {
            assert_eq!(found(command), [command]);
            for (before, after) in
                [("let a = f();\n", ""), ("f()\n", "\nlet b = 1;"), ("fn f() {}\n", "\nf()")]
            {
                let cell = format!("{before}{command}{after}");
                // An unfinished string or bracket ends with the line.
                assert_eq!(found(&cell), [command], "{cell}");
            }
        }
        assert_eq!(found("f();\n:dep a = \"1\"\n!ls\ng();\n:vars"), [":dep a = \"1\"", "!ls", ":vars"]);
        let path = "let p = \"/tmp/a\";\n!cat /tmp/a\n// cat tmp\n!cat /tmp/a";
        assert_eq!(found(path), ["!cat /tmp/a", "!cat /tmp/a"]);
        assert_eq!(found("let a = f()\n!ls"), [] as [&str; 0], "an unfinished statement");
    }

    #[test]
    fn a_name_of_an_earlier_cell_is_no_command() {
        assert_eq!(found("!done"), ["!done"]);
        set_defined(["done".to_owned(), "other".to_owned()].into());
        assert_eq!(found("!done"), [] as [&str; 0]);
        assert_eq!(found("f();\n!done && other"), [] as [&str; 0]);
        assert_eq!(found("!done -l"), ["!done -l"]);
        set_defined(BTreeSet::new());
    }
}
