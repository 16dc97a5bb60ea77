//! The files of an MLflow run (`mlflow/store/tracking/file_store.py`).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::yaml;
use crate::files::write_whole;
use crate::{Error, Result};

/// States of a run (`mlflow/protos/service.proto`).
pub(super) const RUNNING: u8 = 1;
pub(super) const FINISHED: u8 = 3;
pub(super) const KILLED: u8 = 5;

/// A run whose folder exists.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) experiment: String,
    pub(super) folder: PathBuf,
    pub(super) name: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) start: u128,
    pub(super) is_resumed: bool,
    /// Metrics of a resumed run whose values from the resumed step on were already removed.
    pub(super) begun: Vec<String>,
}

impl Run {
    /// Appends a value of a metric. In a resumed run, first removes the values from this step on.
    pub(super) fn log(&mut self, name: &str, value: f64, step: usize) -> Result<()> {
        let name: String = name.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
        let path = self.folder.join("metrics").join(&name);
        if self.is_resumed && !self.begun.contains(&name) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let step_of = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
            let earlier = text.lines().filter(|line| step_of(line).is_some_and(|found| found < step));
            write_whole(&path, earlier.map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
            self.begun.push(name);
        }
        let written = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{} {value} {step}\n", now()).as_bytes()));
        written.map_err(Error::io(path))
    }

    pub(super) fn write_about(&self, status: u8, end: Option<u128>) -> Result<()> {
        let folder = std::path::absolute(&self.folder).map_err(Error::io(&self.folder))?;
        let user = std::env::var("USER").unwrap_or_default();
        let about = [
            ("artifact_uri", json!(folder.join("artifacts").to_string_lossy())),
            ("end_time", json!(end.map(|time| time as u64))),
            ("entry_point_name", json!("")),
            ("experiment_id", json!(self.experiment)),
            ("lifecycle_stage", json!("active")),
            ("run_id", json!(self.id)),
            ("run_name", json!(self.name)),
            ("run_uuid", json!(self.id)),
            ("source_name", json!("")),
            ("source_type", json!(4)),
            ("source_version", json!("")),
            ("start_time", json!(self.start as u64)),
            ("status", json!(status)),
            ("tags", json!([])),
            ("user_id", json!(user)),
        ];
        write_whole(&self.folder.join("meta.yaml"), yaml::write(&about).as_bytes())
    }
}

/// Start of a run that is resumed, in milliseconds since 1970-01-01 UTC.
pub(super) fn started(run: &Path) -> Option<u128> {
    let about = std::fs::read_to_string(run.join("meta.yaml")).ok()?;
    yaml::read(&about, "start_time")?.parse().ok()
}

/// The id of an experiment by name, which is also its folder. It is created if it does not exist.
pub(super) fn experiment(folder: &Path, name: &str) -> Result<String> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder))?;
    for entry in entries.flatten() {
        let text = std::fs::read_to_string(entry.path().join("meta.yaml")).unwrap_or_default();
        if yaml::read(&text, "name").is_some_and(|found| found == name) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    // Derived from the name, so that concurrent processes create the same experiment.
    let id = match name {
        "Default" => "0".to_owned(),
        _ => {
            let hash = Sha256::digest(name.as_bytes());
            let first = hash.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            format!("{:018}", 100_000_000_000_000_000 + first % 900_000_000_000_000_000)
        }
    };
    let own = folder.join(&id);
    std::fs::create_dir_all(&own).map_err(Error::io(&own))?;
    let location = std::path::absolute(&own).map_err(Error::io(&own))?;
    let about = [
        ("artifact_location", json!(location.to_string_lossy())),
        ("creation_time", json!(now() as u64)),
        ("experiment_id", json!(id)),
        ("last_update_time", json!(now() as u64)),
        ("lifecycle_stage", json!("active")),
        ("name", json!(name)),
    ];
    write_whole(&own.join("meta.yaml"), yaml::write(&about).as_bytes())?;
    Ok(id)
}

/// Milliseconds since 1970-01-01 UTC.
pub(super) fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || "_-. :".contains(c)
}

/// Whether MLflow accepts the name of a parameter, and the name is also a valid file name.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.trim().is_empty() && ![".", ".."].contains(&name) && name.chars().all(is_allowed)
}
