//! Hints that explain Rust in a notebook to learners, shown with errors.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::evcxr_text::messages::BORROWS;
use crate::engine::keras_words;

/// Reason why a variable no longer exists.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// A cell moved the variable.
    Moved,
    /// A cell that redefines or moves the variable failed.
    Failed,
    /// A cell changed the variable's type, or a `:dep` compiled the type again.
    Retyped,
    /// The cells' process ended.
    ProcessEnded,
    /// `:clear` or `:restart`.
    Cleared,
    /// Only its own cell can use the variable.
    Local,
}

/// Lost variables, each with the cause and the first line of the cell that lost it, and the variables that exist.
#[derive(Debug, Default)]
pub struct LostVariables {
    lost: BTreeMap<String, (Cause, String)>,
    existing: BTreeSet<String>,
}

impl LostVariables {
    /// Records which variables a cell has lost, and which exist again.
    pub fn note(
        &mut self,
        before: &BTreeSet<String>,
        after: &BTreeSet<String>,
        cell: &str,
        cause: impl Fn(&str) -> Cause,
    ) {
        self.lost.retain(|name, _| !after.contains(name));
        self.existing.clone_from(after);
        self.add(before.difference(after), cell, cause);
    }

    /// Records variables that only their own cell could use.
    pub fn record_local(&mut self, names: &BTreeSet<String>, cell: &str) {
        self.add(names.iter(), cell, |_| Cause::Local);
    }

    fn add<'a>(
        &mut self,
        names: impl Iterator<Item = &'a String>,
        cell: &str,
        cause: impl Fn(&str) -> Cause,
    ) {
        let line = cell.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        self.lost.extend(names.map(|name| (name.clone(), (cause(name), line.to_owned()))));
    }

    /// Explains why a variable does not exist.
    fn why(&self, name: &str) -> String {
        let Some((cause, line)) = self.lost.get(name) else {
            return format!("run the cell that defines `{name}` first: no cell has defined it yet");
        };
        match cause {
            Cause::Moved => format!(
                "`{name}` was moved by an earlier cell (`{line}`): define it again, or borrow it there with \
                 `&{name}`, or pass `{name}.clone()`"
            ),
            Cause::Failed => {
                format!(
                    "`{name}` was lost in a cell that failed (`{line}`): run the cell that defines it again"
                )
            }
            Cause::Retyped => format!(
                "an earlier cell compiled the type of `{name}` again (`{line}`), so its value was lost: run \
                 the cell that defines it again"
            ),
            Cause::ProcessEnded => format!(
                "`{name}` was lost when the cells' process ended (`{line}`): run the cell that defines it again"
            ),
            Cause::Cleared => {
                format!("`{name}` was cleared (`{line}`): run the cell that defines it again")
            }
            Cause::Local => format!(
                "define and use `{name}` in one cell: it borrows from its cell (`{line}`), holds a standard \
                 stream, or has a type without a name"
            ),
        }
    }

    /// Hint for an error of rustc, if there is one. `report` is the error with its labels. `own`: the
    /// variables of the cell that one of its items names.
    pub fn hint(
        &self,
        code: Option<&str>,
        message: &str,
        report: &str,
        own: &BTreeSet<String>,
    ) -> Option<String> {
        let quoted = || message.split('`').nth(1).unwrap_or_default();
        let owned = "make the value owned, with `.clone()`, `.to_owned()` or `.to_vec()`, or use it inside \
                     `{ … }`: variables that later cells use must own their data";
        if message.contains(BORROWS) {
            return Some(owned.into());
        }
        match code? {
            // The cell's statements see the variable, so an item names it.
            "E0425"
                if message.contains("cannot find value")
                    && (self.existing.contains(quoted()) || own.contains(quoted())) =>
            {
                Some(format!(
                    "pass `{0}` as an argument, as in `fn f({0}: …)` and `f({0})`, or make `f` a closure, or `{0}` a \
                     `const`: functions cannot use variables outside them",
                    quoted()
                ))
            }
            "E0425" if self.lost.contains_key(quoted()) => Some(self.why(quoted())),
            // rustc's own suggestion is better.
            "E0425" if report.contains("with a similar name") || report.contains("bool value") => None,
            "E0425" if report.contains(&format!("{}=", quoted())) => Some(
                "set options with methods, such as `Fit::epochs(10).batch_size(8)`: arguments have no names in \
                 Rust"
                    .into(),
            ),
            "E0425" if message.contains("cannot find value") => Some(self.why(quoted())),
            // Two cells define the same `impl`.
            "E0592" | "E0119" | "E0201" if !in_this_cell(report) => Some(
                "put the type and its `impl` in one cell, and run it again: the `impl` of an earlier cell \
                 still exists"
                    .into(),
            ),
            // rustc has a suggestion if the variable is defined in this cell.
            "E0384" | "E0596" if report.contains("to be mutable") || report.contains("binding mutable") => None,
            "E0384" | "E0596" if quoted().chars().all(|c| c.is_alphanumeric() || c == '_') => {
                Some(format!("make the variable mutable: `let mut {0} = {0};`", quoted()))
            }
            "E0599" if message.contains("struct `Runtime`") => Some(
                "add tokio, in whose runtime a cell awaits: `:dep tokio = { version = \"1\", features = [\"full\"] }`"
                    .into(),
            ),
            "E0433" if message.contains("in `tokio`") => Some(
                "write `:dep tokio = { version = \"1\", features = [\"full\"] }` in the first cell: the default tokio \
                 has few features"
                    .into(),
            ),
            "E0432" | "E0433" if unlinked(message, report).is_some() => unlinked(message, report).map(|name| {
                format!("add `{name}`, if it is a crate: `:dep {name} = \"version\"`")
            }),
            "E0277" if message.contains("couldn't convert the error") => Some(
                "implement `std::fmt::Display` for the error, which `?` shows, or convert it to text with \
                 `.map_err(|error| format!(\"{error:?}\"))?`"
                    .into(),
            ),
            "E0277" | "E0599" | "E0608" | "E0609" if KNOWN.iter().any(|(part, _)| message.contains(part)) => {
                KNOWN.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| hint.to_string())
            }
            "E0277" if report.contains("applied to type `()`") => {
                Some("remove the `?`: the call cannot fail, and returns nothing".into())
            }
            "E0423" | "E0599" if message.contains(NORM) => {
                Some(format!("write `{NORM}::default()`, which has Keras's values"))
            }
            "E0599" if message.contains("associated item named `new`") => {
                // "no function or associated item named `new` found for struct `Flatten` in the current scope"
                let name = message.split('`').nth(3).and_then(|name| name.rsplit("::").next()).unwrap_or_default();
                Some(format!("write `{name}` only: it has no options"))
            }
            code if keras_words::hint(code, message).is_some() => {
                keras_words::hint(code, message).map(str::to_owned)
            }
            "E0069" => Some("write `return Ok(());` to end a cell early, or put the code into a function".into()),
            "E0308" if report.contains("`the error of a cell`") => {
                Some("write `Err(error)?` in place of `return Err(error)`: a cell converts its errors by `?`".into())
            }
            "E0308" | "E0271" => expected(report).map(str::to_owned),
            // A variable that evcxr stores borrows from another value in the cell. If rustc shows the later use, the cell
            // itself uses it.
            "E0597" | "E0505" | "E0716" if !report.contains("borrow later") => Some(owned.into()),
            _ => None,
        }
    }
}

/// Name of a crate that is not a dependency.
fn unlinked<'a>(message: &'a str, report: &'a str) -> Option<&'a str> {
    const TEXT: &str = "unresolved module or unlinked crate `";
    [message, report]
        .into_iter()
        .find_map(|text| text.split_once(TEXT)?.1.split('`').next())
        .filter(|name| *name != "tokio")
}

/// Whether both of two conflicting definitions are in the cell: rustc labels each of them.
fn in_this_cell(report: &str) -> bool {
    const LABELS: [[&str; 2]; 3] = [
        ["duplicate definitions for", "other definition for"],
        ["conflicting implementation for", "first implementation here"],
        ["duplicate definition", "previous definition"],
    ];
    LABELS.iter().any(|labels| labels.iter().all(|label| report.contains(label)))
}

/// The only layer that is created by neither its name alone nor `new`.
const NORM: &str = "BatchNormalization";

/// Parts of messages, each with a hint.
const KNOWN: [(&str, &str); 7] = [
    ("LearningRate: From<", "write the learning rate as a float, such as `1e-3`, or pass a `Schedule`"),
    ("`MetricSpec` is not an iterator", "put metrics in brackets: `[Accuracy]`"),
    ("AsRef<[f64]>", "put the values of a bar in brackets: `[0.9]`, or `[0.88, 0.91]` to show their spread"),
    (
        "cannot index into a value of type `headstart::prelude::Tensor`",
        "write `x.i(0)?` for the first sample of a tensor, or `x.i(..1)?` for a batch of this sample",
    ),
    ("no field `trainable`", "call `freeze()` or `unfreeze()` instead"),
    ("enum `Result<", RESULT),
    ("enum `std::result::Result<", RESULT),
];
const RESULT: &str = "put `?` after the call that returned this `Result`, to get the value or see the error";

/// Hint for a mismatched type: a value of Headstart was expected, or a `Result` was found.
fn expected(report: &str) -> Option<&'static str> {
    const PLACES: [(&str, &str); 11] = [
        (
            "expected `Weights`",
            "pass a value: `Weights::ImageNet`, `Weights::Demo`, `Weights::Random(0)`, `Weights::file(path)`",
        ),
        ("expected `Pooling`", "pass a value: `Pooling::Avg`, `Pooling::Max`"),
        ("expected `GradCam`", "set the layer with a method: `GradCam::new().layer(\"block4_conv3\")`"),
        ("expected `&[&str]`", "pass a list of names: `&[\"block3_conv3\", \"block4_conv3\"]`"),
        ("expected `(usize, usize)`", "pass height and width: `(224, 224)`"),
        ("expected `usize`, found floating", "write the count as an integer, without a point"),
        ("expected `Fit`", "pass the options of the training: `model.fit((&x, &y), Fit::epochs(10))`"),
        ("expected `Activation`", "pass a value: `Relu`, `Sigmoid`, `Softmax`, `Tanh`, `Linear`"),
        ("MetricSpec`", "pass values: `[Accuracy, AUC]`, or custom metrics: `[MyMetric::default().into()]`"),
        ("found `&Result<", "put `?` after the call that returned this `Result`, as in `&x.i(..1)?`"),
        ("found `Result<", "put `?` after the call that returned this `Result`"),
    ];
    PLACES.iter().find(|(place, _)| report.contains(place)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_moved_variable_is_explained_until_it_is_redefined() {
        let mut gone = LostVariables::default();
        gone.note(
            &names(&["base", "x"]),
            &names(&["model", "x"]),
            "\nlet model = sequential![base];",
            |_| Cause::Moved,
        );
        let message = "cannot find value `base` in this scope";
        let hint = gone.hint(Some("E0425"), message, "", &names(&[])).unwrap();
        assert!(hint.contains("`let model = sequential![base];`") && hint.contains("`&base`"), "{hint}");
        let other =
            gone.hint(Some("E0425"), "cannot find value `other` in this scope", "", &names(&[])).unwrap();
        assert!(other.contains("no cell") && other.contains("`other`"), "{other}");
        assert_eq!(
            gone.hint(Some("E0425"), "cannot find function `other` in this scope", "", &names(&[])),
            None
        );
        gone.note(&names(&["model", "x"]), &names(&["base", "model", "x"]), "let base = 1;", |_| {
            Cause::Moved
        });
        let hint = gone.hint(Some("E0425"), message, "", &names(&[])).unwrap();
        assert!(!hint.contains("was moved"), "{hint}");
    }

    #[test]
    fn a_missing_crate_can_be_added() {
        let hint = |message: &str, note: &str| {
            LostVariables::default().hint(Some("E0432"), message, note, &names(&[]))
        };
        let note = "note: use of unresolved module or unlinked crate `rand`";
        let found = hint("unresolved import `rand`", note).unwrap();
        assert!(found.contains("`:dep rand = "), "{found}");
        assert_eq!(hint("unresolved import `std::nothing`", "no `nothing` in the root"), None);
    }

    #[test]
    fn conflicts_within_one_cell_are_not_blamed_on_an_earlier_one() {
        let hint = |report: &str| {
            LostVariables::default().hint(Some("E0592"), "duplicate definitions", report, &names(&[]))
        };
        assert!(hint("duplicate definitions for `f`\nother definition for `f`").is_none());
        assert!(hint("duplicate definitions for `f`").unwrap().contains("earlier cell"));
    }

    #[test]
    fn a_variable_in_a_function_is_not_called_missing() {
        let mut gone = LostVariables::default();
        gone.note(&names(&[]), &names(&["n"]), "let n = 5;", |_| Cause::Moved);
        let hint = |name: &str, own: &[&str]| {
            gone.hint(Some("E0425"), &format!("cannot find value `{name}` in this scope"), "", &names(own))
                .unwrap()
        };
        for hint in [hint("n", &[]), hint("m", &["m"])] {
            assert!(
                hint.contains("functions cannot use variables outside them") && hint.contains("a closure"),
                "{hint}"
            );
        }
        assert!(hint("m", &[]).contains("run the cell that defines `m` first"));
    }

    #[test]
    fn the_cause_of_a_loss_is_named() {
        for (cause, part) in [
            (Cause::Failed, "failed"),
            (Cause::Retyped, "type"),
            (Cause::ProcessEnded, "process"),
            (Cause::Cleared, "cleared"),
            (Cause::Local, "one cell"),
        ] {
            let mut gone = LostVariables::default();
            gone.note(&names(&["x"]), &names(&[]), "f();", |_| cause);
            let hint =
                gone.hint(Some("E0425"), "cannot find value `x` in this scope", "", &names(&[])).unwrap();
            assert!(hint.contains(part) && hint.contains("`f();`") && !hint.contains("was moved"), "{hint}");
        }
    }

    #[test]
    fn only_what_is_stored_must_own_its_data() {
        let hint = |report: &str| {
            LostVariables::default().hint(Some("E0597"), "`x` does not live long enough", report, &names(&[]))
        };
        assert!(hint("borrowed value does not live long enough").unwrap().contains("make the value owned"));
        assert_eq!(hint("`x` dropped here while still borrowed\nborrow later used here"), None);
    }

    #[test]
    fn a_missing_question_mark_is_suggested() {
        let message = "no method named `dims` found for enum `Result<T, E>` in the current scope";
        assert!(
            LostVariables::default().hint(Some("E0599"), message, "", &names(&[])).unwrap().contains('?')
        );
        assert_eq!(
            LostVariables::default().hint(
                Some("E0599"),
                "no method named `x` found for struct `Y`",
                "",
                &names(&[])
            ),
            None
        );
        let report = "╰── expected `&Tensor`, found `&Result<Tensor, Error>`";
        assert!(
            LostVariables::default()
                .hint(Some("E0308"), "mismatched types", report, &names(&[]))
                .unwrap()
                .contains('?')
        );
    }

    #[test]
    fn a_name_in_quotes_gets_a_hint_with_the_value() {
        let hint = |report: &str| {
            LostVariables::default().hint(Some("E0308"), "mismatched types", report, &names(&[]))
        };
        assert!(hint("expected `Activation`, found `&str`").unwrap().contains("`Relu`"));
        assert!(
            hint("expected `Fit`, found integer").unwrap().contains("`model.fit((&x, &y), Fit::epochs(10))`")
        );
        assert_eq!(hint("expected `u8`, found `u16`"), None);
    }
}
