//! What a learner does not know yet about Rust in a notebook, said where it matters.

use std::collections::{BTreeMap, BTreeSet};

/// The variables that are gone, each with the first line of the cell that took it.
#[derive(Debug, Default)]
pub struct Gone(BTreeMap<String, String>);

impl Gone {
    /// Notes which variables a cell took, and which it made.
    pub fn note(&mut self, before: &BTreeSet<String>, after: &BTreeSet<String>, cell: &str) {
        self.0.retain(|name, _| !after.contains(name));
        let line = cell.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        self.0.extend(before.difference(after).map(|name| (name.clone(), line.to_owned())));
    }

    /// What to say beside rustc's error, if there is anything.
    pub fn hint(&self, code: Option<&str>, message: &str) -> Option<String> {
        let quoted = || message.split('`').nth(1).unwrap_or_default();
        let owned = "what a cell keeps for the next must own its data: make it owned, with `.clone()`, \
                     `.to_owned()` or `.to_vec()`, or use it inside `{ … }`";
        if message.contains("non-static lifetime") {
            return Some(owned.into());
        }
        match code? {
            "E0425" => {
                let (name, line) = self.0.get_key_value(quoted())?;
                Some(format!(
                    "`{name}` was used up by an earlier cell (`{line}`); make it anew, or lend it there as \
                     `&{name}`, or hand over `{name}.clone()`"
                ))
            }
            // A value of a cell borrows another.
            "E0597" | "E0505" | "E0515" | "E0716" => Some(owned.into()),
            "E0599" if message.contains("enum `Result<") || message.contains("enum `std::result::Result<") => {
                Some("this is a Result: put `?` after the call that made it, to have the value or see the error".into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_variable_that_was_moved_is_explained_until_it_is_made_anew() {
        let mut gone = Gone::default();
        gone.note(&names(&["base", "x"]), &names(&["model", "x"]), "\nlet model = sequential![base];");
        let message = "cannot find value `base` in this scope";
        let hint = gone.hint(Some("E0425"), message).unwrap();
        assert!(hint.contains("`let model = sequential![base];`") && hint.contains("`&base`"), "{hint}");
        assert_eq!(gone.hint(Some("E0425"), "cannot find value `other` in this scope"), None);
        gone.note(&names(&["model", "x"]), &names(&["base", "model", "x"]), "let base = 1;");
        assert_eq!(gone.hint(Some("E0425"), message), None);
    }

    #[test]
    fn a_missing_question_mark_is_named() {
        let message = "no method named `dims` found for enum `Result<T, E>` in the current scope";
        assert!(Gone::default().hint(Some("E0599"), message).unwrap().contains('?'));
        assert_eq!(Gone::default().hint(Some("E0599"), "no method named `x` found for struct `Y`"), None);
    }
}
