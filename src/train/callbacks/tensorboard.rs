//! Event files for TensorBoard.
//!
//! A record has four parts: a length, its checksum, a protocol buffer `Event`, and its checksum
//! (`tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Callback, Training};
use crate::files::check_writable_folder;
use crate::nn::Message;
use crate::train::history::LEARNING_RATE;
use crate::{Error, Result};

/// Writes the measured values for TensorBoard, as Keras does. The subfolders are `train` and
/// `validation`. The tags are `epoch_loss`, `epoch_accuracy`, and so on, and `epoch_learning_rate`; epochs are counted
/// from 0.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    files: Vec<(&'static str, PathBuf, File)>,
}

impl TensorBoard {
    /// Creates the callback. It writes into the folder `log_dir`.
    pub fn new(log_dir: impl AsRef<Path>) -> TensorBoard {
        TensorBoard { folder: log_dir.as_ref().to_owned(), files: Vec::new() }
    }

    fn open(&self, part: &str) -> Result<(PathBuf, File)> {
        let folder = self.folder.join(part);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let now = now();
        let path = folder.join(format!("events.out.tfevents.{now:.0}.{}.v2", std::process::id()));
        let mut file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        let version = Message::new().double(1, now).bytes(3, "brain.Event:2").into_bytes();
        file.write_all(&record(&version)).map_err(Error::io(&path))?;
        Ok((path, file))
    }
}

impl Callback for TensorBoard {
    fn runs_at_batches(&self) -> bool {
        false
    }

    fn on_train_begin(&mut self, _: &mut Training) -> Result<()> {
        self.files.clear();
        check_writable_folder(&self.folder)
    }

    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        let step = training.epoch() as i64 - 1;
        let rate = (LEARNING_RATE.to_owned(), training.learning_rate());
        for (name, value) in training.values().iter().chain([&rate]) {
            let (part, name) = match name.strip_prefix("val_") {
                Some(name) => ("validation", name),
                None => ("train", name.as_str()),
            };
            if !self.files.iter().any(|(known, _, _)| *known == part) {
                let (path, file) = self.open(part)?;
                self.files.push((part, path, file));
            }
            let Some((_, path, file)) = self.files.iter_mut().find(|(known, _, _)| *known == part) else {
                continue;
            };
            let tag = format!("epoch_{name}");
            let value = Message::new().bytes(1, &tag).float(2, *value as f32);
            let summary = Message::new().message(1, value);
            let event = Message::new().double(1, now()).number(2, step).message(5, summary).into_bytes();
            file.write_all(&record(&event)).map_err(Error::io(&*path))?;
        }
        Ok(())
    }
}

/// Seconds since 1970-01-01 UTC.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, masked(&length).to_le_bytes().as_slice(), event, &masked(event).to_le_bytes()].concat()
}

/// The masked CRC-32C checksum of the record format. The rotation makes it safe to compute a checksum of
/// data that contains checksums.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected bytes are those that `tensorboard.summary.writer` 2.20 writes for the version event
    /// at time 0.
    #[test]
    fn record_matches_tensorflow() {
        let version = Message::new().double(1, 0.0).bytes(3, "brain.Event:2").into_bytes();
        let record = record(&version);
        assert_eq!(record[..8], 24u64.to_le_bytes());
        assert_eq!(record[12..14], [0x09, 0]);
        assert_eq!(record.len(), 24 + 16);
    }
}
