//! A file of results, one line per run.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use headstart::{Error, Result};

pub struct Table {
    path: PathBuf,
    runs: Vec<String>,
}

impl Table {
    /// Opens `name.csv` in this folder. A new file begins with the column names.
    pub fn open(name: &str, columns: &str) -> Result<Table> {
        let path = PathBuf::from(format!("{}/examples/course/{name}.csv", env!("CARGO_MANIFEST_DIR")));
        let text = fs::read_to_string(&path).unwrap_or_default();
        let runs = text.lines().skip(1).map(str::to_owned).collect();
        let mut table = Table { path, runs };
        if text.is_empty() {
            table.write(columns)?;
        }
        Ok(table)
    }

    /// Whether the file has a run whose line begins with `key`.
    pub fn has(&self, key: &str) -> bool {
        self.runs.iter().any(|run| run.starts_with(&format!("{key},")))
    }

    pub fn push(&mut self, key: &str, results: &str) -> Result<()> {
        println!("{key},{results}");
        self.runs.push(format!("{key},{results}"));
        self.write(&format!("{key},{results}"))
    }

    fn write(&mut self, line: &str) -> Result<()> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path).map_err(io)?;
        writeln!(file, "{line}").map_err(io)
    }
}
