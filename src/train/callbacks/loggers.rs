//! What writes a training down, and what ends one that has gone wrong.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Callback, Training, make_parent};
use crate::{Error, Result};

/// Writes each epoch as a line of a table: its number from 0, as in Keras, and what was measured.
#[derive(Debug)]
pub struct CSVLogger {
    path: PathBuf,
    append: bool,
    file: Option<File>,
}

impl CSVLogger {
    /// Writes to this file, over what is there.
    pub fn new(path: impl AsRef<Path>) -> CSVLogger {
        CSVLogger { path: path.as_ref().to_owned(), append: false, file: None }
    }

    /// Sets whether the lines are added to those of an earlier training.
    pub fn append(self, append: bool) -> CSVLogger {
        CSVLogger { append, ..self }
    }

    fn write(&mut self, cells: Vec<String>) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        writeln!(file, "{}", cells.join(",")).map_err(Error::io(&self.path))
    }
}

impl Callback for CSVLogger {
    fn on_train_begin(&mut self, _: &mut Training) -> Result<()> {
        make_parent(&self.path)?;
        let file = File::options()
            .create(true)
            .write(true)
            .append(self.append)
            .truncate(!self.append)
            .open(&self.path);
        self.file = Some(file.map_err(Error::io(&self.path))?);
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let is_empty =
            self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|file| file.len() == 0));
        if is_empty {
            let names = training.values().iter().map(|(name, _)| name.clone());
            self.write(std::iter::once("epoch".into()).chain(names).collect())?;
        }
        let values = training.values().iter().map(|(_, value)| value.to_string());
        self.write(std::iter::once((training.epoch() - 1).to_string()).chain(values).collect())
    }
}

/// Ends the training when the loss is no number any more, and gives the history so far, where
/// `fit` would otherwise give an error.
#[derive(Clone, Copy, Debug)]
pub struct TerminateOnNaN;

impl Callback for TerminateOnNaN {
    fn ends_at_nan(&self) -> bool {
        true
    }
}
