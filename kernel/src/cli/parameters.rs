//! Notebook parameters in papermill's form.
//!
//! The cell tagged `parameters` holds the defaults. Values from the command line go into a new cell after
//! it, tagged `injected-parameters`, which begins with the line [`COMMENT`].

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::cli::notebook::{has_tag, joined};
use crate::compile::cell::{code, parse};
use crate::engine::parameters::{COMMENT, binding};

const DEFAULTS_TAG: &str = "parameters";
const INJECTED_TAG: &str = "injected-parameters";

/// A parameter's name and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    name: String,
    value: Value,
}

impl Parameter {
    /// Parses `name=value`. The value is `true`, `false`, a number, a JSON list or object, or else a
    /// string.
    ///
    /// # Errors
    /// If there is no `=`, the name is not a Rust identifier, or the JSON is invalid.
    pub fn parse(argument: &str) -> Result<Parameter, String> {
        let (name, text) = argument
            .split_once('=')
            .ok_or_else(|| format!("expected name=value, such as lr=1e-4, found {argument:?}"))?;
        if syn::parse_str::<syn::Ident>(name).is_err() {
            return Err(format!("{name:?} cannot be the name of a Rust variable"));
        }
        let number = || text.parse::<i64>().ok().map(Value::from).or_else(|| decimal(text));
        let value = match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ if text.starts_with(['[', '{']) => serde_json::from_str(text)
                .map_err(|error| format!("{name}: expected a JSON list or object, found {text}: {error}"))?,
            _ => number().unwrap_or_else(|| Value::from(text)),
        };
        if value == Value::Object(Map::new()) || value == Value::Array(Vec::new()) {
            return Err(format!("{name}: an empty list or object has no type in Rust"));
        }
        Ok(Parameter { name: name.to_owned(), value })
    }
}

/// Parses a decimal fraction. Words that Rust parses as numbers, such as `inf` and `nan`, are not accepted.
fn decimal(text: &str) -> Option<Value> {
    let is_numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let number = text.parse::<f64>().ok().filter(|_| is_numeric)?;
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// Inserts the parameters' values into a notebook and records them in its metadata, as papermill does.
///
/// # Errors
/// If no cell is tagged `parameters`, or that cell does not define a parameter.
pub fn inject(notebook: &mut Value, parameters: &[Parameter], path: &Path) -> Result<(), String> {
    let has_ids = notebook["nbformat_minor"].as_u64().is_some_and(|minor| minor >= 5);
    let cells = notebook["cells"].as_array_mut().ok_or_else(|| format!("{} has no cells", path.display()))?;
    cells.retain(|cell| !has_tag(cell, INJECTED_TAG));
    let place = cells.iter().position(|cell| has_tag(cell, DEFAULTS_TAG)).ok_or_else(|| {
        format!(
            "{}: no cell has the tag `{DEFAULTS_TAG}`; give it to the cell that defines the parameters' defaults \
             (in JupyterLab: Property Inspector, Cell Tags)",
            path.display()
        )
    })?;
    let defaults = joined(&cells[place]["source"]);
    let known = variables(&defaults);
    for Parameter { name, .. } in parameters {
        if !known.contains(name) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let path = path.display();
            return Err(format!("{path}: expected a parameter of the tagged cell ({known}), found `{name}`"));
        }
    }
    let lines =
        parameters.iter().map(|Parameter { name, value }| format!("let {name} = {};\n", literal(value)));
    let source = format!("{COMMENT}\n{}", lines.collect::<String>());
    let mut cell = json!({
        "cell_type": "code", "execution_count": null, "metadata": {"tags": [INJECTED_TAG]}, "outputs": [],
        "source": source.trim_end(),
    });
    // Notebooks before format 4.5 must not have ids.
    if has_ids {
        cell["id"] = json!(INJECTED_TAG);
    }
    cells.insert(place + 1, cell);
    let values: Map<String, Value> =
        parameters.iter().map(|parameter| (parameter.name.clone(), parameter.value.clone())).collect();
    notebook["metadata"]["papermill"] = json!({"parameters": values});
    Ok(())
}

/// The names that a cell's `let` statements define, in order.
fn variables(cell: &str) -> Vec<String> {
    let block = parse(&code(cell));
    let statements = block.map(|block| block.stmts).unwrap_or_default();
    statements.iter().filter_map(|statement| binding(statement).map(|(name, ..)| name)).collect()
}

/// A JSON value as a Rust literal.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!("vec![{}]", items.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let pairs = entries.iter().map(|(key, value)| format!("({key:?}, {})", literal(value)));
            format!("std::collections::HashMap::from([{}])", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parsed_as_papermill_parses_them() {
        let value = |text: &str| Parameter::parse(&format!("x={text}")).unwrap().value;
        assert_eq!(value("3"), json!(3));
        assert_eq!(value("-1e-4"), json!(-1e-4));
        assert_eq!(value(".5"), json!(0.5));
        assert_eq!(value("true"), json!(true));
        assert_eq!(value("vgg16"), json!("vgg16"));
        assert_eq!(value("inf"), json!("inf"));
        assert_eq!(value("a=b"), json!("a=b"));
        assert_eq!(value("[1, 2]"), json!([1, 2]));
        for (argument, part) in [
            ("lr", "name=value"),
            ("2=3", "Rust variable"),
            ("fn=3", "Rust variable"),
            ("x=[1", "JSON"),
            ("x=[]", "type"),
        ] {
            let error = Parameter::parse(argument).unwrap_err();
            assert!(error.contains(part), "{argument}: {error}");
        }
    }

    fn notebook() -> Value {
        json!({"cells": [
            {"cell_type": "markdown", "source": "# A title"},
            {"cell_type": "code", "metadata": {"tags": ["parameters"]},
             "source": ["let (lr, epochs) = (0, 0);\n", "let lr = 1e-3;\n", "let epochs: usize = 2;"]},
            {"cell_type": "code", "source": "lr"},
        ], "metadata": {}, "nbformat_minor": 5})
    }

    #[test]
    fn only_notebooks_of_the_newer_format_get_an_id() {
        let parameters = [Parameter::parse("epochs=7").unwrap()];
        for (minor, id) in [(4, Value::Null), (5, json!(INJECTED_TAG))] {
            let mut notebook = notebook();
            notebook["nbformat_minor"] = json!(minor);
            inject(&mut notebook, &parameters, Path::new("a.ipynb")).unwrap();
            assert_eq!(notebook["cells"][2]["id"], id, "4.{minor}");
        }
    }

    #[test]
    fn values_follow_the_defaults_and_are_recorded() {
        let mut notebook = notebook();
        let parameters = ["epochs=7", "lr=1"].map(|argument| Parameter::parse(argument).unwrap());
        for _ in 0..2 {
            inject(&mut notebook, &parameters, Path::new("a.ipynb")).unwrap();
            assert_eq!(notebook["cells"].as_array().unwrap().len(), 4);
            assert_eq!(notebook["cells"][2]["source"], "// Injected parameters\nlet epochs = 7;\nlet lr = 1;");
            assert_eq!(notebook["metadata"]["papermill"]["parameters"], json!({"epochs": 7, "lr": 1}));
        }
    }

    #[test]
    fn an_unknown_parameter_or_no_tagged_cell_is_an_error() {
        let epoch = [Parameter::parse("epoch=7").unwrap()];
        let error = inject(&mut notebook(), &epoch, Path::new("a.ipynb")).unwrap_err();
        assert!(error.contains("(lr, epochs)") && error.contains("`epoch`"), "{error}");
        let mut untagged = json!({"cells": [{"cell_type": "code", "source": "let lr = 1.0;"}]});
        let error = inject(&mut untagged, &epoch, Path::new("a.ipynb")).unwrap_err();
        assert!(error.contains("tag `parameters`"), "{error}");
    }
}
