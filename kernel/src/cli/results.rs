//! The `headstart results` command: a table and a chart of the results of executed notebooks.
//!
//! A row is one notebook. It has the parameters that `headstart run -p` or papermill injected, and the results that
//! `glue` stored. The Python package scrapbook reads these results too.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::cli::notebook::{is_meant_to_fail, read_notebook, write_whole};
use crate::cli::results_chart::{self, Trial};

/// MIME type of a result in a notebook.
const SCRAP: &str = "application/scrapbook.scrap.json+json";

/// Options of `headstart results`.
#[derive(clap::Args)]
pub struct Options {
    /// Executed notebooks, and folders of them.
    #[arg(required = true)]
    notebooks: Vec<PathBuf>,
    /// Write the table to this CSV file. Default: print it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a chart of one result to this SVG file, the best notebook first.
    #[arg(long, value_name = "FILE", requires = "metric")]
    chart: Option<PathBuf>,
    /// The result that the chart compares.
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Smaller values of the result are better.
    #[arg(long)]
    smaller: bool,
}

/// The parameters and results of one notebook.
struct Row {
    name: String,
    /// `ok`, `failed` if a cell ended with an error that it is not meant to have, or `not run`.
    status: &'static str,
    parameters: Map<String, Value>,
    results: Map<String, Value>,
}

/// Collects the results, and writes the table and the chart.
///
/// # Errors
/// The message for the user.
pub fn collect(options: &Options) -> Result<(), String> {
    let files = notebooks(&options.notebooks)?;
    let rows = files.iter().map(|file| Row::read(file)).collect::<Result<Vec<_>, _>>()?;
    let table = table(&rows);
    match &options.output {
        Some(file) => {
            write_whole(file, &table)?;
            println!("wrote {}: {} notebooks", file.display(), rows.len());
        }
        None => print!("{table}"),
    }
    if let (Some(file), Some(metric)) = (&options.chart, &options.metric) {
        write_whole(file, &chart(&rows, metric, options.smaller)?)?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// The notebooks among the paths and in the folders among them, sorted by path.
fn notebooks(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let is_notebook = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".ipynb") && !name.starts_with('.')
    };
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
            found.extend(entries.flatten().map(|entry| entry.path()).filter(is_notebook));
        } else {
            found.push(path.clone());
        }
    }
    found.sort();
    found.dedup();
    match found.is_empty() {
        false => Ok(found),
        true => Err("expected notebooks, found none in the folders".into()),
    }
}

impl Row {
    fn read(path: &Path) -> Result<Row, String> {
        let notebook = read_notebook(path)?;
        let cells = notebook["cells"].as_array().map_or(&[][..], Vec::as_slice);
        let outputs: Vec<&Value> =
            cells.iter().filter_map(|cell| cell["outputs"].as_array()).flatten().collect();
        let mut results = Map::new();
        for scrap in outputs.iter().map(|output| &output["data"][SCRAP]) {
            if let Some(name) = scrap["name"].as_str() {
                results.insert(name.to_owned(), scrap["data"].clone());
            }
        }
        let was_run = cells.iter().any(|cell| cell["execution_count"].is_u64());
        let has_failed = |cell: &Value| {
            let outputs = cell["outputs"].as_array().map_or(&[][..], Vec::as_slice);
            !is_meant_to_fail(cell) && outputs.iter().any(|output| output["output_type"] == "error")
        };
        let status = match was_run {
            _ if cells.iter().any(has_failed) => "failed",
            true => "ok",
            false => "not run",
        };
        let parameters = notebook["metadata"]["papermill"]["parameters"].as_object().cloned();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Row { name, status, parameters: parameters.unwrap_or_default(), results })
    }

    /// The parameters as text: `lr=0.001 epochs=5`.
    fn label(&self) -> String {
        let pairs: Vec<String> =
            self.parameters.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        if pairs.is_empty() { self.name.clone() } else { pairs.join(" ") }
    }
}

/// The rows in CSV form, with a header.
fn table(rows: &[Row]) -> String {
    let names = |values: fn(&Row) -> &Map<String, Value>| {
        let mut names: Vec<&str> = Vec::new();
        for name in rows.iter().flat_map(|row| values(row).keys()) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    };
    let (parameters, results) = (names(|row| &row.parameters), names(|row| &row.results));
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut line = |fields: Vec<String>| table.write_record(fields).expect("memory can be written");
    // A result may have the name of a parameter.
    let heading =
        |name: &&str| if parameters.contains(name) { format!("result {name}") } else { name.to_string() };
    let first = ["notebook", "status"].map(String::from).into_iter();
    line(
        first
            .chain(parameters.iter().map(|name| name.to_string()))
            .chain(results.iter().map(heading))
            .collect(),
    );
    for row in rows {
        let field =
            |values: &Map<String, Value>, name: &str| values.get(name).map(self::text).unwrap_or_default();
        let mut fields = vec![row.name.clone(), row.status.to_owned()];
        fields.extend(parameters.iter().map(|name| field(&row.parameters, name)));
        fields.extend(results.iter().map(|name| field(&row.results, name)));
        line(fields);
    }
    let table = table.into_inner().expect("memory can be written");
    String::from_utf8(table).expect("text remains text")
}

/// A value as text: strings without quotes, `null` as nothing, lists and objects as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn chart(rows: &[Row], metric: &str, smaller: bool) -> Result<String, String> {
    let trial = |row: &Row| Some(Trial { label: row.label(), value: row.results.get(metric)?.as_f64()? });
    let mut trials: Vec<Trial> = rows.iter().filter(|row| row.status == "ok").filter_map(trial).collect();
    if trials.is_empty() {
        let mut known: Vec<&String> = rows.iter().flat_map(|row| row.results.keys()).collect();
        known.sort();
        known.dedup();
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!(
            "--metric: expected a numeric result of the successful notebooks ({known}), found {metric}"
        ));
    }
    trials.sort_by(|a, b| if smaller { a.value.total_cmp(&b.value) } else { b.value.total_cmp(&a.value) });
    Ok(results_chart::svg(metric, &trials))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(folder: &Path, name: &str, parameters: &Value, accuracy: &Value, error: bool) {
        let scrap = json!({"name": "accuracy", "data": accuracy, "encoder": "json", "version": 1});
        let mut outputs = vec![json!({"output_type": "display_data", "data": {SCRAP: scrap}})];
        if error {
            outputs.push(json!({"output_type": "error"}));
        }
        let notebook = json!({
            "nbformat": 4, "metadata": {"papermill": {"parameters": parameters}},
            "cells": [{"cell_type": "code", "execution_count": 1, "outputs": outputs}],
        });
        std::fs::write(folder.join(name), notebook.to_string()).unwrap();
    }

    #[test]
    fn an_expected_error_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ipynb");
        for (tags, status) in [(json!(["raises-exception"]), "ok"), (json!([]), "failed")] {
            let cell = json!({
                "cell_type": "code", "execution_count": 1, "metadata": {"tags": tags},
                "outputs": [{"output_type": "error"}],
            });
            std::fs::write(&path, json!({"nbformat": 4, "cells": [cell]}).to_string()).unwrap();
            assert_eq!(Row::read(&path).unwrap().status, status);
        }
    }

    #[test]
    fn notebooks_become_a_table_and_a_chart() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.ipynb", &json!({"lr": 1e-3, "net": "a,b"}), &json!(0.5), false);
        write(folder.path(), "b.ipynb", &json!({"lr": 1e-2, "seed": 3}), &json!(0.75), false);
        write(folder.path(), "c.ipynb", &json!({"accuracy": 1}), &json!(0.9), true);
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let (csv, svg) = (folder.path().join("out.csv"), folder.path().join("out.svg"));
        let options = Options {
            notebooks: vec![folder.path().to_owned()],
            output: Some(csv.clone()),
            chart: Some(svg.clone()),
            metric: Some("accuracy".into()),
            smaller: false,
        };
        collect(&options).unwrap();
        let expected = "notebook,status,lr,net,seed,accuracy,result accuracy\n\
                        a,ok,0.001,\"a,b\",,,0.5\nb,ok,0.01,,3,,0.75\nc,failed,,,,1,0.9\n";
        assert_eq!(std::fs::read_to_string(csv).unwrap(), expected);
        let svg = std::fs::read_to_string(svg).unwrap();
        let place = |text: &str| svg.find(text).unwrap_or_else(|| panic!("{text}: {svg}"));
        assert!(place("lr=0.01 seed=3") < place("lr=0.001 net=a,b"), "the best first");
        assert_eq!(svg.matches("<circle").count(), 2, "without the failed one");
        let problem =
            chart(&[Row::read(&folder.path().join("a.ipynb")).unwrap()], "loss", false).unwrap_err();
        assert!(problem.contains("(accuracy), found loss"), "{problem}");
        assert!(
            notebooks(&[folder.path().join("none.ipynb")]).is_ok_and(|files| Row::read(&files[0]).is_err())
        );
    }
}
