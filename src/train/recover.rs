//! Checkpoints of the weights during `fit`, for [`Model::recover`] after the process was lost.
//!
//! If a cell ignores an interrupt, its process is killed and all variables are lost. Under the Headstart
//! kernel, `fit` therefore saves the model's weights in the session's folder, in at most 5 % of the
//! time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headstart_frame::CHECKPOINTS_VARIABLE;
use sha2::{Digest, Sha256};

use crate::display::{Bundle, Show, text_bundle};
use crate::nn::Model;
use crate::notes::note;
use crate::weights::{read_metadata, save};
use crate::{Error, Result};

/// Time before the first checkpoint (2 s: a shorter training is quickly repeated).
const FIRST_CHECKPOINT: Duration = Duration::from_secs(2);
/// Inverse of the largest share of time for checkpoints (20: 5 %).
const INVERSE_SHARE_OF_TIME: u32 = 20;

/// Saves the weights of one running `fit`.
pub(crate) struct Checkpointer<'a> {
    model: &'a Model,
    /// `None` outside a session of the kernel, and after a failed checkpoint.
    file: Option<PathBuf>,
    begin: Instant,
    next: Instant,
}

impl<'a> Checkpointer<'a> {
    pub(crate) fn new(model: &'a Model) -> Checkpointer<'a> {
        let begin = Instant::now();
        Checkpointer {
            model,
            file: folder().map(|folder| file(&folder, model)),
            begin,
            next: begin + FIRST_CHECKPOINT,
        }
    }

    /// Whether a checkpoint is due.
    pub(crate) fn is_due(&self) -> bool {
        self.file.is_some() && Instant::now() >= self.next
    }

    /// Saves a checkpoint if one is due.
    pub(crate) fn batch_ends(&mut self, (epoch, batch): (usize, usize)) {
        if Instant::now() >= self.next {
            self.save(epoch, batch);
        }
    }

    /// Saves the final weights, unless the training was short.
    pub(crate) fn training_ends(&mut self, (epoch, batch): (usize, usize)) {
        if self.begin.elapsed() >= FIRST_CHECKPOINT {
            self.save(epoch, batch);
        }
    }

    fn save(&mut self, epoch: usize, batch: usize) {
        let Some(file) = &self.file else { return };
        let begin = Instant::now();
        let metadata = [("epoch", epoch), ("batch", batch)].map(|(name, n)| (name.to_owned(), n.to_string()));
        // Frozen weights are not saved: they do not change, and the rebuilt model has them.
        let mut changing = self.model.named_params();
        changing.retain(|(_, param)| param.is_trainable() || param.is_statistic());
        let written = std::fs::create_dir_all(file.parent().unwrap_or(Path::new("")))
            .map_err(Error::io(file))
            .and_then(|()| save(&changing, metadata.into(), file));
        if let Err(error) = written {
            // A full disk must not end a training that does not need it.
            note(format_args!("no checkpoint for `recover` was written: {error}"));
            self.file = None;
        }
        self.next = Instant::now() + begin.elapsed() * INVERSE_SHARE_OF_TIME;
    }
}

/// The position of the training whose weights [`Model::recover`] restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The number of finished batches in the epoch.
    pub batch: usize,
}

impl Show for Recovered {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}

impl std::fmt::Display for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the weights are those of epoch {}, batch {}", self.epoch, self.batch)
    }
}

impl Model {
    /// Restores the weights of the last training of a model with the same parameters, after its process
    /// was lost. In a notebook of the Headstart kernel, `fit` saves checkpoints after 2 s of training.
    /// They are kept until the kernel is shut down or restarted.
    ///
    /// # Errors
    /// [`Error::NothingToRecover`] if there is no checkpoint; [`Error::Weights`] if the file is damaged.
    pub fn recover(&self) -> Result<Recovered> {
        let file = folder().map(|folder| file(&folder, self)).filter(|file| file.is_file());
        let Some(file) = file else {
            return Err(Error::NothingToRecover {
                model: self.name().to_owned(),
                models: checkpointed_models(),
            });
        };
        self.load_weights_of(&file, false)?;
        let metadata = read_metadata(&file)?;
        let number = |name: &str| metadata.get(name).and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(Recovered { epoch: number("epoch"), batch: number("batch") })
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(CHECKPOINTS_VARIABLE).map(PathBuf::from)
}

/// Returns the path of the checkpoint. Models with the same name but other parameters use another
/// folder.
fn file(folder: &Path, model: &Model) -> PathBuf {
    let mut form = Sha256::new();
    for (name, param) in model.named_params() {
        form.update(format!("{name} {:?}\n", param.variable().dims()));
    }
    let form: String = form.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name: String = model.name().chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    folder.join(form).join(name).with_extension("safetensors")
}

/// The names of the models that have checkpoints.
fn checkpointed_models() -> Vec<String> {
    let folders = folder().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flatten().flatten();
    let names = files.filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned()));
    names.map(|name| format!("`{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn models_with_other_parameters_have_separate_checkpoints() -> Result<()> {
        let model = |units: usize| sequential![Input::new(3), Dense::new(units)];
        let folder = Path::new("checkpoints");
        assert_eq!(file(folder, &model(2)?), file(folder, &model(2)?));
        assert_ne!(file(folder, &model(2)?), file(folder, &model(4)?));
        assert_eq!(file(folder, &model(2)?).file_name().unwrap(), "sequential.safetensors");
        Ok(())
    }

    #[test]
    fn recover_fails_outside_a_session() -> Result<()> {
        let problem = sequential![Input::new(3), Dense::new(1)]?.recover().unwrap_err().to_string();
        assert!(problem.contains("`sequential`") && problem.contains("recover()"), "{problem}");
        Ok(())
    }
}
