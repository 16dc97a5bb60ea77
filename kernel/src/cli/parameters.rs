//! Notebook parameters in papermill's form.
//!
//! The cell tagged `parameters` holds the defaults. Values from the command line go into a new cell after
//! it, tagged `injected-parameters`, which begins with the line [`COMMENT`].

use std::path::Path;

use serde_json::{Map, Value, json};
use syn::{Expr, GenericArgument, Lit, PathArguments, Type};

use crate::cli::notebook::{has_tag, joined};
use crate::compile::cell::{code, parse};
use crate::engine::parameters::{COMMENT, binding};

const DEFAULTS_TAG: &str = "parameters";
const INJECTED_TAG: &str = "injected-parameters";

/// A parameter's name and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    name: String,
    /// The value as it was written: the value of a string parameter.
    text: String,
    value: Value,
}

/// Kind of a parameter's default.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    String,
    OptionalString,
    Other,
}

impl Parameter {
    /// Parses `name=value`. The value is `true`, `false`, `None`, a number, a JSON list or object, or else a
    /// string. As in papermill, `True` and `False` are accepted, and `null` as in JSON.
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
        let whole =
            || text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok();
        let number = || whole().or_else(|| decimal(text));
        let value = match text {
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "None" | "null" => Value::Null,
            _ if text.starts_with(['[', '{']) => serde_json::from_str(text)
                .map_err(|error| format!("{name}: expected a JSON list or object, found {text}: {error}"))?,
            _ => number().unwrap_or_else(|| Value::from(text)),
        };
        if value == Value::Object(Map::new()) || value == Value::Array(Vec::new()) {
            return Err(format!("{name}: an empty list or object has no type in Rust"));
        }
        Ok(Parameter { name: name.to_owned(), text: text.to_owned(), value })
    }

    /// Value for a variable with this kind of default. For a string, it is the text, also if it looks like a number.
    fn value_for(&self, kind: Kind) -> Value {
        match kind {
            Kind::OptionalString if self.value.is_null() => Value::Null,
            Kind::String | Kind::OptionalString => Value::from(self.text.as_str()),
            Kind::Other => self.value.clone(),
        }
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
            "{}: no cell has the tag `{DEFAULTS_TAG}`; add it to the cell that defines the parameters' defaults \
             (in JupyterLab: Property Inspector, Cell Tags)",
            path.display()
        )
    })?;
    let defaults = joined(&cells[place]["source"]);
    let known = variables(&defaults);
    let mut values = Map::new();
    let mut source = format!("{COMMENT}\n");
    for parameter in parameters {
        let name = &parameter.name;
        let Some((_, kind)) = known.iter().rfind(|(known, _)| known == name) else {
            let known: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let path = path.display();
            return Err(format!(
                "{path}: expected a parameter of the tagged cell ({known}), found `{name}`; a parameter is defined as in \
                 `let {name} = 1;`"
            ));
        };
        let value = parameter.value_for(*kind);
        source += &format!("let {name} = {};\n", literal(&value));
        values.insert(name.clone(), value);
    }
    let mut cell = json!({
        "cell_type": "code", "execution_count": null, "metadata": {"tags": [INJECTED_TAG]}, "outputs": [],
        "source": source.trim_end(),
    });
    // Notebooks before format 4.5 must not have ids.
    if has_ids {
        cell["id"] = json!(INJECTED_TAG);
    }
    cells.insert(place + 1, cell);
    notebook["metadata"]["papermill"] = json!({"parameters": values});
    Ok(())
}

/// The names that a cell's `let` statements define, in order, with the kinds of their values.
fn variables(cell: &str) -> Vec<(String, Kind)> {
    let block = parse(&code(cell));
    let statements = block.map(|block| block.stmts).unwrap_or_default();
    let of = |(name, type_, value): (String, Option<&Type>, &Expr)| {
        (name, type_.map_or_else(|| kind_of_value(value), kind_of_type))
    };
    statements.iter().filter_map(|statement| binding(statement).map(of)).collect()
}

/// Kind of a default with this explicit type.
fn kind_of_type(type_: &Type) -> Kind {
    match type_ {
        Type::Reference(reference) => kind_of_type(&reference.elem),
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Kind::Other };
            match (last.ident.to_string().as_str(), &last.arguments) {
                ("str" | "String" | "PathBuf" | "OsString", _) => Kind::String,
                ("Option", PathArguments::AngleBracketed(inner)) => match inner.args.first() {
                    Some(GenericArgument::Type(inner)) if kind_of_type(inner) == Kind::String => {
                        Kind::OptionalString
                    }
                    _ => Kind::Other,
                },
                _ => Kind::Other,
            }
        }
        _ => Kind::Other,
    }
}

/// Kind of a default with this value: a string literal, or one that is converted, as in `"a".to_owned()`.
fn kind_of_value(value: &Expr) -> Kind {
    fn is_string(value: &Expr) -> bool {
        matches!(value, Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)))
    }
    let is_from = |call: &syn::ExprCall| {
        let Expr::Path(function) = &*call.func else { return false };
        let mut names = function.path.segments.iter().rev().map(|segment| segment.ident.to_string());
        names.next().as_deref() == Some("from")
            && matches!(names.next().as_deref(), Some("String" | "PathBuf" | "OsString"))
    };
    let converts = ["to_owned", "to_string", "into"];
    let is_text = match value {
        Expr::MethodCall(call) => {
            converts.iter().any(|name| call.method == name) && is_string(&call.receiver)
        }
        Expr::Call(call) => is_from(call) && call.args.first().is_some_and(is_string),
        value => is_string(value),
    };
    if is_text { Kind::String } else { Kind::Other }
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
        assert_eq!((value("true"), value("True"), value("False")), (json!(true), json!(true), json!(false)));
        assert_eq!((value("None"), value("null")), (Value::Null, Value::Null));
        assert_eq!(value("18446744073709551615"), json!(u64::MAX));
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
            assert_eq!(
                notebook["cells"][2]["source"],
                "// Injected parameters\nlet epochs = 7;\nlet lr = 1;"
            );
            assert_eq!(notebook["metadata"]["papermill"]["parameters"], json!({"epochs": 7, "lr": 1}));
        }
    }

    #[test]
    fn a_parameter_whose_default_is_a_string_is_its_text() {
        for default in [
            "let tag = \"a\";",
            "let mut tag = String::from(\"a\");",
            "let tag = 1; let tag = \"a\".to_owned();",
            "let tag: &'static str = f();",
            "let tag: std::string::String = \"a\".into();",
            "let tag: Option<String> = None;",
            "let tag: Option<&str> = Some(\"a\");",
        ] {
            let optional = default.contains("Option");
            for (argument, expected) in [("007", "\"007\""), ("true", "\"true\""), ("None", "\"None\"")] {
                let mut notebook = notebook();
                notebook["cells"][1]["source"] = json!(default);
                let parameter = Parameter::parse(&format!("tag={argument}")).unwrap();
                inject(&mut notebook, &[parameter], Path::new("a.ipynb")).unwrap();
                let expected = if optional && argument == "None" { "None" } else { expected };
                let source = format!("// Injected parameters\nlet tag = {expected};");
                assert_eq!(notebook["cells"][2]["source"], source, "{default}");
            }
        }
        let others = variables(
            "let n = f(\"a\"); let n: Vec<String> = vec![]; let n: Option<f64> = None; let n = x.into();",
        );
        assert!(others.iter().all(|(_, kind)| *kind == Kind::Other), "{others:?}");
    }

    #[test]
    fn an_unknown_parameter_or_no_tagged_cell_is_an_error() {
        let epoch = [Parameter::parse("epoch=7").unwrap()];
        let error = inject(&mut notebook(), &epoch, Path::new("a.ipynb")).unwrap_err();
        assert!(error.contains("(lr, epochs)") && error.contains("`let epoch = 1;`"), "{error}");
        let mut untagged = json!({"cells": [{"cell_type": "code", "source": "let lr = 1.0;"}]});
        let error = inject(&mut untagged, &epoch, Path::new("a.ipynb")).unwrap_err();
        assert!(error.contains("tag `parameters`"), "{error}");
    }
}
