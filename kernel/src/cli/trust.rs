//! Signs notebooks so that Jupyter trusts them. JupyterLab shows only the text outputs of an untrusted
//! notebook.
//!
//! Jupyter trusts a notebook if its signature is in the database in the user's Jupyter folder. This module
//! does the same as `jupyter-trust` (`nbformat/sign.py`), without the two seconds that Python takes to
//! start.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rusqlite::Connection;
use serde_json::{Number, Value};
use sha2::Sha256;

use crate::cli::install::user_data;
use crate::prelude::toolchain::on_path;

/// Program whose presence on the PATH shows that Jupyter is installed.
const JUPYTER: &str = "jupyter";
const SECRET: &str = "notebook_secret";
const SIGNATURES: &str = "nbsignatures.db";
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS nbsignatures (
        id integer PRIMARY KEY AUTOINCREMENT, algorithm text, signature text, path text, last_seen timestamp);
    CREATE INDEX IF NOT EXISTS algosig ON nbsignatures(algorithm, signature);";
const INSERT: &str = "
    INSERT INTO nbsignatures (algorithm, signature, last_seen)
    SELECT 'sha256', ?1, strftime('%Y-%m-%dT%H:%M:%f', 'now')
    WHERE NOT EXISTS (SELECT 1 FROM nbsignatures WHERE algorithm = 'sha256' AND signature = ?1)";

/// Signs a notebook if Jupyter is installed. A failure is only reported: an untrusted notebook still opens.
pub fn trust(notebook: &Path) {
    let trusted = user_data().and_then(|folder| match folder.is_dir() || on_path(JUPYTER).is_some() {
        true => trust_in(&folder, notebook),
        false => Ok(()),
    });
    if let Err(problem) = trusted {
        eprintln!("Jupyter will not trust {}: {problem}", notebook.display());
    }
}

fn trust_in(folder: &Path, notebook: &Path) -> Result<(), String> {
    let complain = |error: &dyn std::fmt::Display| format!("{}: {error}", notebook.display());
    let text = fs::read(notebook).map_err(|error| complain(&error))?;
    let value = serde_json::from_slice(&text).map_err(|error| complain(&error))?;
    let complain = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(|error| complain(&error))?;
    let secret = secret(&folder.join(SECRET)).map_err(|error| complain(&error))?;
    keep(&folder.join(SIGNATURES), &signature(&secret, as_read(value))).map_err(|error| complain(&error))
}

fn keep(signatures: &Path, signature: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(signatures)?;
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.execute_batch(TABLE)?;
    connection.execute(INSERT, [signature]).map(|_| ())
}

/// Reads the user's secret, and creates it if it is missing.
fn secret(file: &Path) -> io::Result<Vec<u8>> {
    match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => return read,
    }
    let mut random = [0; 1024];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    // Only the user can read a temporary file.
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    part.write_all(hex::encode(random).as_bytes())?;
    // If another program has created a secret meanwhile, that one is used.
    if let Err(error) = part.persist_noclobber(file)
        && !file.exists()
    {
        return Err(error.error);
    }
    fs::read(file)
}

/// Converts a notebook to nbformat's in-memory form: joins lists of lines and removes the fields that
/// nbformat drops.
fn as_read(mut notebook: Value) -> Value {
    if let Some(metadata) = notebook["metadata"].as_object_mut() {
        metadata.retain(|key, _| !["orig_nbformat", "orig_nbformat_minor", "signature"].contains(&&**key));
    }
    for cell in notebook["cells"].as_array_mut().into_iter().flatten() {
        if let Some(metadata) = cell["metadata"].as_object_mut() {
            metadata.remove("trusted");
        }
        cell.get_mut("source").into_iter().for_each(join);
        let attachments = cell.get_mut("attachments").and_then(Value::as_object_mut);
        attachments.into_iter().flatten().for_each(|(_, forms)| join_forms(forms));
        for output in cell.get_mut("outputs").and_then(Value::as_array_mut).into_iter().flatten() {
            match output["output_type"].as_str() {
                Some("execute_result" | "display_data") => {
                    output.get_mut("data").into_iter().for_each(join_forms)
                }
                _ => output.get_mut("text").into_iter().for_each(join),
            }
        }
    }
    notebook
}

/// Joins the lines of each representation in a MIME bundle, except of JSON.
fn join_forms(forms: &mut Value) {
    let forms = forms.as_object_mut().into_iter().flatten();
    let is_json = |mime: &str| {
        mime == "application/json" || mime.starts_with("application/") && mime.ends_with("+json")
    };
    forms.filter(|(mime, _)| !is_json(mime)).for_each(|(_, form)| join(form));
}

fn join(lines: &mut Value) {
    let texts = lines.as_array().map(|lines| lines.iter().map(Value::as_str).collect::<Option<String>>());
    if let Some(Some(text)) = texts {
        *lines = text.into();
    }
}

fn signature(secret: &[u8], notebook: Value) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes secrets of any length");
    update(&mut mac, notebook);
    hex::encode(mac.finalize().into_bytes())
}

/// Updates the signature with each key and value, formatted as in Python.
fn update(mac: &mut Hmac<Sha256>, value: Value) {
    match value {
        Value::Object(mut map) => {
            map.sort_keys();
            for (key, value) in map {
                mac.update(key.as_bytes());
                update(mac, value);
            }
        }
        Value::Array(values) => values.into_iter().for_each(|value| update(mac, value)),
        Value::String(text) => mac.update(text.as_bytes()),
        Value::Number(number) => mac.update(python(&number).as_bytes()),
        Value::Bool(true) => mac.update(b"True"),
        Value::Bool(false) => mac.update(b"False"),
        Value::Null => mac.update(b"None"),
    }
}

/// Formats a number as Python does: `1e-05`, `0.0001`, `1e+16`, `2.0`.
fn python(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let scientific = format!("{float:e}");
    let exponent = scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)));
    match exponent {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{float:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_as_in_python() {
        for (number, written) in [
            ("1e-5", "1e-05"),
            ("1.5e-7", "1.5e-07"),
            ("0.0001", "0.0001"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("-2.0", "-2.0"),
            ("3", "3"),
            ("0.1", "0.1"),
            ("1e300", "1e+300"),
            ("-0.0", "-0.0"),
        ] {
            assert_eq!(python(&serde_json::from_str(number).unwrap()), written);
        }
    }

    #[test]
    fn a_secret_is_created_once_and_readable_only_by_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(SECRET);
        let made = secret(&file).unwrap();
        assert_eq!(made.len(), 2048);
        assert_eq!(secret(&file).unwrap(), made);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
