//! The callbacks `CSVLogger` and `TerminateOnNaN`.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::state::{numbers, read_number};
use super::{Callback, Training, make_parent};
use crate::train::history::LEARNING_RATE;
use crate::{Error, Result};

/// Writes one row of a CSV file for each epoch: the epoch, counted from 0 as in Keras, and the measured
/// values. With [`LearningRateScheduler`](super::LearningRateScheduler) or
/// [`ReduceLROnPlateau`](super::ReduceLROnPlateau), also the learning rate.
#[derive(Debug)]
pub struct CSVLogger {
    path: PathBuf,
    append: bool,
    file: Option<File>,
    /// The length of the file, in bytes, at the backup from which the training resumes.
    resumed: Option<u64>,
}

impl CSVLogger {
    /// Creates the callback. It overwrites the file at `path`.
    pub fn new(path: impl AsRef<Path>) -> CSVLogger {
        CSVLogger { path: path.as_ref().to_owned(), append: false, file: None, resumed: None }
    }

    /// Sets whether rows are appended to an existing file. Default: `false`.
    pub fn append(self, append: bool) -> CSVLogger {
        CSVLogger { append, ..self }
    }

    /// Returns the file, opened before the first row is written. It is truncated, opened at its end, or
    /// truncated to its length at the last backup.
    fn opened(&mut self) -> std::io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = File::options().create(true).append(true).open(&self.path)?;
                match self.resumed {
                    Some(length) => file.set_len(length.min(file.metadata()?.len()))?,
                    None if self.append => {}
                    None => file.set_len(0)?,
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn length(&mut self) -> Result<u64> {
        let length = self.opened().and_then(|file| file.metadata()).map(|metadata| metadata.len());
        length.map_err(Error::io(&self.path))
    }

    fn write(&mut self, cells: Vec<String>) -> Result<()> {
        let written = self.opened().and_then(|file| {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(cells)?;
            writer.flush()
        });
        written.map_err(Error::io(&self.path))
    }
}

impl Callback for CSVLogger {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, _: &mut Training) -> Result<()> {
        make_parent(&self.path)?;
        (self.file, self.resumed) = (None, None);
        // A file that cannot be written is an error before the training starts. The file keeps its
        // content until the first row, because a backup may need it.
        File::options().create(true).append(true).open(&self.path).map_err(Error::io(&self.path))?;
        Ok(())
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let mut values = training.values().to_vec();
        if let Some(rate) = training.history().learning_rates.last().filter(|_| training.logs_learning_rate) {
            values.push((LEARNING_RATE.to_owned(), *rate));
            values.sort_by(|a, b| a.0.cmp(&b.0));
        }
        if self.length()? == 0 {
            let names = values.iter().map(|(name, _)| name.clone());
            self.write(std::iter::once("epoch".into()).chain(names).collect())?;
        }
        let values = values.iter().map(|(_, value)| value.to_string());
        self.write(std::iter::once((training.epoch() - 1).to_string()).chain(values).collect())
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        let Some(file) = &self.file else { return Ok(HashMap::new()) };
        let length = file.metadata().map_err(Error::io(&self.path))?.len();
        Ok(HashMap::from([("bytes".to_owned(), numbers(&[length as f64])?)]))
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        self.resumed = read_number(state, "bytes")?.map(|length| length as u64);
        Ok(())
    }
}

/// Stops the training when the loss is not finite, and returns the history so far. Without this
/// callback, `fit` returns an error.
#[derive(Clone, Copy, Debug)]
pub struct TerminateOnNaN;

impl Callback for TerminateOnNaN {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn ends_at_nan(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::prelude::*;

    /// A metric whose name has the delimiter and quotes.
    #[derive(Clone)]
    struct Dice;

    impl Metric for Dice {
        fn name(&self) -> &str {
            "dice, \"mean\""
        }

        fn update_state(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
            Ok(())
        }

        fn result(&self) -> f64 {
            0.5
        }
    }

    #[test]
    fn fields_are_quoted_if_necessary() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::default(), MeanSquaredError, [Dice.into()]);
        let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
        let fit = Fit::epochs(2).verbose(false).chart(false).callback(CSVLogger::new(&path));
        let history = model.fit((&x, &y), fit)?;
        let losses = &history["loss"];
        let expected =
            format!("epoch,\"dice, \"\"mean\"\"\",loss\n0,0.5,{}\n1,0.5,{}\n", losses[0], losses[1]);
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        Ok(())
    }
}
