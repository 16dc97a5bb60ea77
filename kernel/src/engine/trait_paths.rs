//! Types of variables that name a trait which is not in scope.
//!
//! rust-analyzer writes trait objects without the trait's path. The type of
//! `Box::<dyn std::error::Error>::from("a")` becomes `Box<dyn Error>`, which does not compile without a `use`.
//! rustc then says where the trait is. The kernel writes the type with the path into the cell.

use evcxr::{CompilationError, Error};
use serde_json::Value;

use crate::compile::evcxr_text::messages::{IMPORT, NO_TRAIT};
use crate::compile::evcxr_text::source::put_variables;

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
    let is_about_trait = error.code().is_some_and(|code| NO_TRAIT.contains(&code))
        || error.message().starts_with(IMPORT) && error.message().contains("trait");
    is_about_trait.then(|| chosen(&suggested_paths(&error.json), cell)).flatten()
}

/// The last segment of the path that a cell most likely means, and the path. Several modules have a `Write`.
fn chosen(paths: &[String], cell: &str) -> Option<(String, String)> {
    let is_named = |path: &&String| {
        let mut names = path.rsplit("::");
        let (name, parent) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        cell.contains(&format!("{parent}::{name}"))
    };
    let path = paths.iter().find(is_named).or(paths.first())?;
    Some((path.rsplit("::").next()?.to_owned(), path.clone()))
}

/// Paths in rustc's suggestions `use a::Name;`. evcxr passes on either the error or only the suggestion.
fn suggested_paths(error: &Value) -> Vec<String> {
    let children = error["children"].as_array().into_iter().flatten();
    let spans = children.chain([error]).flat_map(|part| part["spans"].as_array().into_iter().flatten());
    let texts = spans.filter_map(|span| span["suggested_replacement"].as_str());
    let imports =
        texts.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("use ")?.strip_suffix(';'));
    imports.map(str::to_owned).collect()
}

/// Replaces a word wherever no path precedes it.
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
    fn a_suggestion_is_found_in_an_error_and_alone() {
        let span = |text: &str| json!({"suggested_replacement": text});
        let alone = json!({"spans": [span("use std::fmt::Write;\n"), span("use std::io::Write;\n\n")]});
        let paths =
            suggested_paths(&json!({"children": [alone, {"spans": [span("Writer")]}, {"spans": []}]}));
        assert_eq!(paths, ["std::fmt::Write", "std::io::Write"]);
        assert_eq!(suggested_paths(&alone), paths);
        let path = |cell: &str| chosen(&paths, cell).unwrap();
        assert_eq!(path("Box::new(f) as Box<dyn std::io::Write>"), ("Write".into(), "std::io::Write".into()));
        assert_eq!(path("f()"), ("Write".into(), "std::fmt::Write".into()));
        assert_eq!(chosen(&[], "f()"), None);
    }
}
