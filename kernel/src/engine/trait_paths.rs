//! Types of variables that name a trait which is not in scope.
//!
//! rust-analyzer writes the traits of trait objects without their path: the type of
//! `Box::<dyn std::error::Error>::from("a")` becomes `Box<dyn Error>`, which does not compile without a `use`.
//! rustc then says where the trait is. The kernel writes the type with the path into the cell.

use evcxr::{CompilationError, Error};
use serde_json::Value;

use crate::compile::evcxr_text::source::put_variables;

/// Errors of rustc for a name that is not a trait: unknown, and of something else.
const NO_TRAIT: [&str; 2] = ["E0405", "E0404"];

/// Variables of a cell whose types name a trait without its path, with the types that name it. `source` is
/// the source that rustc refused.
pub fn types_with_paths(error: &Error, source: &str, cell: &str) -> Vec<(String, String)> {
    let Error::CompilationErrors(errors) = error else { return Vec::new() };
    let paths: Vec<(String, String)> = errors.iter().filter_map(|error| path_of_trait(error, cell)).collect();
    let mut types: Vec<(String, String)> = Vec::new();
    for (name, type_) in put_variables(source) {
        let with_paths =
            paths.iter().fold(type_.to_owned(), |type_, (name, path)| replace_word(&type_, name, path));
        if with_paths != type_ && types.iter().all(|(known, _)| known != name) {
            types.push((name.to_owned(), with_paths));
        }
    }
    types
}

/// The trait that an error is about, and its path according to rustc's suggestion.
fn path_of_trait(error: &CompilationError, cell: &str) -> Option<(String, String)> {
    error.code().filter(|code| NO_TRAIT.contains(code))?;
    let message = error.message();
    let name = message.split('`').nth(1)?;
    let paths = suggested_paths(&error.json, name);
    // Several crates have a `Write`: the cell says which one it means.
    let named = paths.iter().find(|path| {
        let parent = path.rsplit("::").nth(1).unwrap_or_default();
        cell.contains(&format!("{parent}::{name}")) || cell.contains(&format!("{parent}::{{"))
    });
    // As a type, a path must not depend on the names in scope.
    named.or(paths.first()).map(|path| (name.to_owned(), path.clone()))
}

/// Paths in rustc's suggestions `use a::Name;`.
fn suggested_paths(error: &Value, name: &str) -> Vec<String> {
    let children = error["children"].as_array().into_iter().flatten();
    let spans = children.flat_map(|child| child["spans"].as_array().into_iter().flatten());
    let texts = spans.filter_map(|span| span["suggested_replacement"].as_str());
    let imports =
        texts.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("use ")?.strip_suffix(';'));
    imports.filter(|path| path.rsplit("::").next() == Some(name)).map(str::to_owned).collect()
}

/// Replaces a word that no path precedes.
fn replace_word(text: &str, word: &str, path: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut replaced = String::with_capacity(text.len());
    let mut at = 0;
    for (found, _) in text.match_indices(word) {
        let (before, after) = (&text[..found], &text[found + word.len()..]);
        if before.ends_with(is_part) || before.ends_with("::") || after.starts_with(is_part) {
            continue;
        }
        replaced += &text[at..found];
        replaced += path;
        at = found + word.len();
    }
    replaced + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trait_gets_its_path() {
        let type_ = "(Box<dyn Error + Send>, MyError, io::Error, Error2)";
        let expected = "(Box<dyn std::error::Error + Send>, MyError, io::Error, Error2)";
        assert_eq!(replace_word(type_, "Error", "std::error::Error"), expected);
        assert_eq!(replace_word("é", "Error", "a::Error"), "é");
    }

    #[test]
    fn suggestions_are_paths_to_the_name() {
        let span = |text: &str| json!({"suggested_replacement": text});
        let error = json!({"children": [
            {"spans": [span("use std::fmt::Write;\n"), span("use std::io::Write;\n\n")]},
            {"spans": [span("Writer")]},
            {"spans": []},
        ]});
        assert_eq!(suggested_paths(&error, "Write"), ["std::fmt::Write", "std::io::Write"]);
        assert_eq!(suggested_paths(&error, "Read"), Vec::<String>::new());
    }
}
