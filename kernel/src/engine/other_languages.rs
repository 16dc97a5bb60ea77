//! Hints for lines of Python, IPython and the shell in a cell, and for Rust code that needs other files.

use evcxr::CompilationError;

/// First words of Python's statements, each with a hint.
const STATEMENTS: [(&[&str], &str); 9] = [
    (
        &["import", "from"],
        "add a crate with `:dep name = \"version\"`, and import from it with `use name::Item;`; Headstart's names are \
         already imported",
    ),
    (&["def"], "write a function as `fn name(x: f64) -> f64 { … }`"),
    (&["class"], "write a type as `struct Name { … }`, and its methods in `impl Name { … }`"),
    (&["elif"], "write `else if … { … }`"),
    (&["try", "except", "raise", "finally"], "return an error with `?`, or handle it with `match`"),
    (&["with"], "put the code into a block `{ … }`: a value is closed at its end"),
    (&["lambda"], "write a closure as `|x| x + 1`"),
    (&["pass"], "write an empty block as `{}`"),
    (&["del", "global", "nonlocal"], "call `drop(x)` to end a variable before its block ends"),
];
/// Words before a block, which ends with a colon in Python.
const BLOCKS: [&str; 4] = ["for", "while", "if", "else"];
/// Functions of Python, each with a hint.
const FUNCTIONS: [(&[&str], &str); 12] = [
    (
        &["print"],
        "print with a format: `println!(\"{x}\")`, or `{x:?}` for lists; the last expression is shown anyway",
    ),
    (&["len"], "call the method `x.len()`"),
    (&["range"], "write a range as `0..n`"),
    (&["str", "repr"], "convert a value to text with `x.to_string()`, or `format!(\"{x:?}\")`"),
    (&["int", "float"], "convert numbers with `x as f64`, and text with `text.parse::<f64>()?`"),
    (&["list", "tuple"], "collect an iterator with `.collect::<Vec<_>>()`"),
    (&["dict", "set"], "use the maps and sets of `std::collections`: `HashMap::from([(\"a\", 1)])`"),
    (&["sum"], "sum an iterator: `x.iter().sum::<f64>()`"),
    (&["abs", "round", "pow"], "call methods of the number: `x.abs()`, `x.round()`, `x.powi(2)`"),
    (
        &["sorted", "reversed"],
        "sort a list in place with `x.sort()`, or iterate backwards with `x.iter().rev()`",
    ),
    (&["enumerate", "zip", "map", "filter"], "call methods of iterators: `x.iter().enumerate()`"),
    (&["open"], "read a file with `std::fs::read_to_string(path)?`"),
];
const MAGIC: &str = "use `:timing` to show the times of cells, `!command` to run a program, and `:help` to list the \
     commands: `%` commands belong to IPython";
const SHELL: &str = "write a shell command on a line between whole statements: end the statement before it with `;`, and \
     write no command inside brackets";
const INCLUDED: &str = "write an absolute path, or read the file when the cell runs, `std::fs::read_to_string(\"name\")?`: \
     paths of `include!` and `include_str!` do not begin in the notebook's folder";
const MODULE: &str = "write `mod name { … }`, or add the crate that has the file, \
     `:dep name = { path = \"/folder\" }`";
const DESCRIBED: &str = "press Shift+Tab with the cursor in a name to see its description";

/// Hint for an error of rustc in a cell.
pub fn of_error(error: &CompilationError, cell: &str) -> Option<String> {
    let mut spanned = error.spanned_messages().iter().filter(|message| message.is_primary);
    // Each line of the cell has the same number in the source that evcxr gets.
    let number = spanned.find_map(|message| message.span.as_ref()).map_or(0, |span| span.start_line);
    let line = number.checked_sub(1).and_then(|at| cell.lines().nth(at)).unwrap_or_default();
    hint(error.code(), &error.message(), line)
}

/// Hint for an error in a line. `code`: rustc's code, which syntax errors do not have.
fn hint(code: Option<&str>, message: &str, line: &str) -> Option<String> {
    let line = line.trim();
    let found = match code {
        None if message.starts_with("couldn't read") => Some(INCLUDED),
        None => of_syntax(line),
        // "file not found for module"
        Some("E0583") => Some(MODULE),
        Some("E0425") if is_shell(line) => Some(SHELL),
        Some("E0423" | "E0425") if message.contains("function") => of_function(message),
        Some("E0614") if has_power(line) => {
            Some("write a power as `x.powi(2)`, or as `x.pow(2)` for integers")
        }
        Some("E0277")
            if message.contains("can only be applied") && line.strip_suffix('?').is_some_and(is_name) =>
        {
            Some(DESCRIBED)
        }
        _ => None,
    };
    found.map(str::to_owned)
}

/// Hint for a line with a syntax error.
fn of_syntax(line: &str) -> Option<&'static str> {
    let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    let rest = line[word.len()..].trim_start();
    // Not an assignment to a variable with this name, nor a field `name: type`.
    let is_statement = ["", ":"].contains(&rest) || rest.starts_with(char::is_alphabetic);
    match line.chars().next()? {
        '#' if !line.starts_with("#[") && !line.starts_with("#!") => Some("write comments with `//`"),
        '%' if !line.starts_with("% ") => Some(MAGIC),
        '!' if is_shell(line) => Some(SHELL),
        '?' => Some(DESCRIBED),
        _ if line.ends_with(':') && BLOCKS.contains(&word) => {
            Some("put blocks in braces: `for i in 0..3 { … }`, `if x > 1 { … } else { … }`")
        }
        _ if has_f_string(line) => Some("write `format!(\"… {x} …\")`, or `println!(\"… {x} …\")`"),
        _ if is_statement => with_word(&STATEMENTS, word),
        _ => None,
    }
}

/// Whether a line is a command such as `!ls` or `!ls -l`, and not a condition such as `!seen.contains(&x)`.
fn is_shell(line: &str) -> bool {
    let Some(command) = line.strip_prefix('!') else { return false };
    let rest = command.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    let argument = rest.trim_start();
    let is_path = command.starts_with(['.', '/', '~']);
    // An operator has a space behind it, as in `!a - b`.
    let is_argument = argument.starts_with(char::is_alphanumeric)
        || argument.starts_with(['-', '.', '/', '~', '$', '"', '\'']) && argument.chars().nth(1) != Some(' ');
    is_path || argument.is_empty() || argument != rest && is_argument
}

/// Whether a line has `**` between two values, as in `x ** 2`, and not in front of a reference, as in `**x`.
fn has_power(line: &str) -> bool {
    let ends_value = |c: char| c.is_alphanumeric() || "_)]".contains(c);
    line.match_indices("**").any(|(at, _)| line[..at].trim_end().ends_with(ends_value))
}

/// Whether a line has a string of Python with values, `f"…"`.
fn has_f_string(line: &str) -> bool {
    let is_word = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    // After an odd number of quotes, the `f` is the end of a string.
    let is_in_string = |before: &str| before.matches('"').count() % 2 == 1;
    line.match_indices("f\"").any(|(at, _)| !is_word(&line[..at]) && !is_in_string(&line[..at]))
}

/// Hint for a call of an unknown function, or of a macro without its `!`.
fn of_function(message: &str) -> Option<&'static str> {
    with_word(&FUNCTIONS, message.split('`').nth(1)?)
}

fn with_word<'a>(table: &[(&[&str], &'a str)], word: &str) -> Option<&'a str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_:.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn lines_of_other_languages_are_recognised() {
        let found = "expected one of `!`, `.`, `::`, `;`, `?`, `{`, `}`, or an operator, found `x`";
        for (code, message, line, expected) in [
            (None, found, "import numpy as np", "`:dep name"),
            (None, found, "def f(x):", "`fn name("),
            (None, found, "    for i in range(3):", "in braces"),
            (None, found, "else:", "in braces"),
            (None, found, "try:", "with `?`"),
            (None, "expected `[`, found `a`", "# a comment", "`//`"),
            (None, "expected expression, found `%`", "%time f()", "`:timing`"),
            (None, found, "!echo hi", "between whole statements"),
            (Some("E0425"), "cannot find value `ls` in this scope", "!ls", "between whole statements"),
            (Some("E0425"), "cannot find value `ls` in this scope", "!ls -l", "between whole statements"),
            (None, found, "!./run a", "between whole statements"),
            (Some("E0425"), "cannot find function `len` in this scope", "len(v)", "`x.len()`"),
            (Some("E0423"), "expected function, found macro `print`", "print(v)", "`println!"),
            (None, "prefix `f` is unknown", "f\"{x}\"", "`format!"),
            (None, "expected `;`, found `\"{x}\"`", "print(f\"{x}\")", "`format!"),
            (
                None,
                "couldn't read `src/a.txt`: No such file",
                "let a = include_str!(\"a.txt\");",
                "absolute path",
            ),
            (Some("E0583"), "file not found for module `a`", "mod a;", "`mod name"),
            (Some("E0614"), "type `{integer}` cannot be dereferenced", "x ** 2", "`x.powi(2)`"),
            (Some("E0277"), "the `?` operator can only be applied", "model?", "Shift+Tab"),
        ] {
            assert!(hint(code, message, line).unwrap_or_default().contains(expected), "{line}");
        }
    }

    #[test]
    fn code_of_rust_gets_no_such_hint() {
        for (code, message, line) in [
            (None, "expected expression, found `;`", "from = ;"),
            (None, "expected expression, found `;`", "let import = ;"),
            (None, "expected `)`", "async fn f(x: u8 {"),
            (None, "expected item", "#[derive(Clone)]"),
            (None, "expected `;`, found `}`", "let a = \"of\" }"),
            (None, "expected type", "if x { y } else { z"),
            (Some("E0425"), "cannot find value `len` in this scope", "len"),
            (Some("E0425"), "cannot find function `fit` in this scope", "fit(x)"),
            (Some("E0277"), "the `?` operator can only be applied", "f(x)?;"),
            (Some("E0277"), "`?` couldn't convert the error to `Error`", "result?"),
            (Some("E0425"), "cannot find value `seen` in this scope", "!seen.contains(&x)"),
            (Some("E0425"), "cannot find value `a` in this scope", "!a && b"),
            (None, "mismatched closing delimiter: `)`", "!x.is_empty())"),
            (Some("E0614"), "type `i32` cannot be dereferenced", "v.iter().filter(|x| **x > 2)"),
            (None, "expected `,`, found `class`", "class: usize,"),
            (None, "expected `)`", "% 7"),
            (None, "expected `;`, found `let`", "println!(\"size of f\") let a = 1;"),
            (Some("E0308"), "mismatched types", "import(x)"),
            (None, "expected expression", ""),
        ] {
            assert_eq!(hint(code, message, line), None, "{line}");
        }
    }
}
