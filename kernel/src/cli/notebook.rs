//! Reading and writing of notebook files.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

/// Reads a notebook file.
pub fn read_notebook(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let notebook: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not a notebook: {error}", path.display()))?;
    match notebook["nbformat"].as_u64() {
        Some(4) => Ok(notebook),
        _ => {
            let found = &notebook["nbformat"];
            Err(format!("{}: expected a notebook of format 4, found {found}", path.display()))
        }
    }
}

/// Whether the cell has the tag for an expected error, `raises-exception`, which nbclient also uses.
pub fn is_meant_to_fail(cell: &Value) -> bool {
    has_tag(cell, "raises-exception")
}

/// Whether a cell's metadata has the tag.
pub fn has_tag(cell: &Value, tag: &str) -> bool {
    cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|found| found == tag))
}

/// The source of a cell, which may be one string or a list of lines.
pub fn joined(source: &Value) -> String {
    match source {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// Formats a notebook as Jupyter does: indented by one space.
pub fn to_text(notebook: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(notebook, &mut serializer).expect("a JSON value is written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Error if a file cannot be written to its folder, before hours of work for it.
pub fn check_writable(path: &Path) -> Result<(), String> {
    match path.is_dir() {
        true => Err(format!("{}: expected a file, found a folder", path.display())),
        false => tempfile::tempfile_in(folder_of(path))
            .map(drop)
            .map_err(|error| format!("{} cannot be written: {error}", path.display())),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file under a temporary name and renames it when it is complete.
pub fn write_whole(path: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    let folder = folder_of(path);
    let mut part = tempfile::Builder::new();
    // The user's umask applies.
    part.permissions(Permissions::from_mode(0o666));
    part.tempfile_in(folder)
        .and_then(|mut part| part.write_all(text.as_ref()).map(|()| part))
        .and_then(|part| part.persist(path).map_err(|error| error.error))
        .map(drop)
        .map_err(|error| format!("{}: {error}", path.display()))
}
