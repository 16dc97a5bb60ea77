//! MLflow's runs, in the format of its file store (`mlflow/store/tracking/file_store.py`).

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::yaml;
use crate::files::write_whole;
use crate::{Error, Result};

/// Number of bytes of a run's id.
pub(super) const ID_BYTES: usize = 16;

/// Status of a run (`mlflow/protos/service.proto`).
#[derive(Clone, Copy)]
pub(super) enum Status {
    Running = 1,
    Finished = 3,
    Failed = 4,
    Killed = 5,
}

/// A run whose folder exists.
#[derive(Debug)]
pub(super) struct Run {
    id: String,
    experiment: String,
    folder: PathBuf,
    name: String,
    /// Milliseconds since 1970-01-01 UTC.
    start: u128,
    is_resumed: bool,
    /// Metrics of a resumed run whose values from the resumed step on were already removed.
    begun: Vec<String>,
}

impl Run {
    /// Creates the folder of a run in an experiment, or continues the run with the id `resumed`.
    pub(super) fn open(
        tracking_folder: &Path,
        experiment_name: &str,
        name: String,
        params: &[(String, String)],
        resumed: Option<String>,
    ) -> Result<Run> {
        let experiment = experiment(tracking_folder, experiment_name)?;
        let resumed = resumed.filter(|id| tracking_folder.join(&experiment).join(id).is_dir());
        let is_resumed = resumed.is_some();
        // Not drawn from the library's seed: runs with equal seeds need different ids.
        let random = || RandomState::new().hash_one(());
        let id = resumed.unwrap_or_else(|| format!("{:016x}{:016x}", random(), random()));
        let folder = tracking_folder.join(&experiment).join(&id);
        let start = started(&folder).unwrap_or_else(now);
        let run = Run { id, experiment, folder, name, start, is_resumed, begun: Vec::new() };
        for part in ["metrics", "params", "tags", "artifacts"] {
            let part = run.folder.join(part);
            std::fs::create_dir_all(&part).map_err(Error::io(&part))?;
        }
        for (name, value) in params {
            let path = run.folder.join("params").join(name);
            // The parameters of a run do not change, and the first one with a name counts.
            if !path.is_file() {
                write_whole(&path, value.as_bytes())?;
            }
        }
        write_whole(&run.folder.join("tags").join("mlflow.runName"), run.name.as_bytes())?;
        run.write_about(Status::Running, None)?;
        Ok(run)
    }

    /// The run's id: [`ID_BYTES`] bytes in hexadecimal.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Marks the run as ended.
    pub(super) fn end(&self, status: Status) -> Result<()> {
        self.write_about(status, Some(now()))
    }

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

    fn write_about(&self, status: Status, end: Option<u128>) -> Result<()> {
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
            ("status", json!(status as u8)),
            ("tags", json!([])),
            ("user_id", json!(user)),
        ];
        write_whole(&self.folder.join("meta.yaml"), yaml::write(&about).as_bytes())
    }
}

/// Start of a run that is resumed, in milliseconds since 1970-01-01 UTC.
fn started(run: &Path) -> Option<u128> {
    let about = std::fs::read_to_string(run.join("meta.yaml")).ok()?;
    yaml::read(&about, "start_time")?.parse().ok()
}

/// The id of an experiment by name, which is also its folder. It is created if it does not exist.
fn experiment(folder: &Path, name: &str) -> Result<String> {
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
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || "_-. :".contains(c)
}

/// Whether MLflow accepts the name of a parameter, and the name is also a valid file name.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.trim().is_empty() && ![".", ".."].contains(&name) && name.chars().all(is_allowed)
}
