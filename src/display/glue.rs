//! Named results in a notebook, for programs that read the notebook file.

use headstart_frame::Bundle;
use serde::Serialize;
use serde_json::json;

use super::{Show, display};
use crate::{Error, Result};

/// MIME type of a result, as the Python package scrapbook writes and reads it.
const MIME: &str = "application/scrapbook.scrap.json+json";

/// A named result in JSON.
struct NamedResult(Bundle);

impl Show for NamedResult {
    fn bundle(&self) -> Bundle {
        self.0.clone()
    }
}

/// Stores a result in the notebook under a name, for programs that read the executed notebook.
/// Equivalent to `sb.glue` of the Python package scrapbook, whose `read_notebook` and `read_notebooks`
/// find it. The notebook shows name and value.
///
/// Supported values are numbers, strings, booleans, and lists and maps of them. JSON has no NaN or
/// infinity; these become `null`.
///
/// ```
/// use headstart::prelude::*;
/// glue("accuracy", 0.93)?;
/// glue("losses", vec![0.7, 0.4, 0.2])?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if the value cannot be written as JSON, for example a map whose keys are lists.
pub fn glue(name: &str, value: impl Serialize) -> Result<()> {
    let data = serde_json::to_value(value).map_err(|error| Error::Argument {
        name: "value",
        expected: "a value that JSON can hold".into(),
        found: error.to_string(),
    })?;
    let scrap = json!({"name": name, "data": data, "encoder": "json", "version": 1});
    display(&NamedResult(vec![
        ("text/plain".into(), format!("{name}: {data}")),
        (MIME.into(), scrap.to_string()),
    ]));
    Ok(())
}
