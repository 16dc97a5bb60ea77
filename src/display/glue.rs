//! Results of a notebook that other programs read from its file.

use headstart_frame::Bundle;
use serde::Serialize;
use serde_json::json;

use super::{Show, display};
use crate::{Error, Result};

/// MIME type of a result, as the Python package scrapbook writes and reads it.
const MIME: &str = "application/scrapbook.scrap.json+json";

/// A named result in JSON.
struct Glued(Bundle);

impl Show for Glued {
    fn bundle(&self) -> Bundle {
        self.0.clone()
    }
}

/// Keeps a result in the notebook under a name, for programs that read the executed notebook: `sb.glue` of the Python
/// package scrapbook, whose `read_notebook` and `read_notebooks` find it. The page shows name and value.
///
/// Numbers, strings, booleans, and lists and maps of them can be kept. JSON has no NaN and no infinity: they are
/// `null`.
///
/// ```
/// use headstart::prelude::*;
/// glue("accuracy", 0.93)?;
/// glue("losses", vec![0.7, 0.4, 0.2])?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if the value cannot be written as JSON, such as a map whose keys are lists.
pub fn glue(name: &str, value: impl Serialize) -> Result<()> {
    let data = serde_json::to_value(value).map_err(|error| Error::Argument {
        name: "value",
        expected: "a value that JSON can hold".into(),
        found: error.to_string(),
    })?;
    let scrap = json!({"name": name, "data": data, "encoder": "json", "version": 1});
    display(&Glued(vec![("text/plain".into(), format!("{name}: {data}")), (MIME.into(), scrap.to_string())]));
    Ok(())
}
