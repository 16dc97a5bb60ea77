//! One epoch of a dataset: its announced batches, and the errors of datasets that do not fit.

use super::{Batch, Dataset};
use crate::{Error, Result};

/// The announced batches of the next epoch. Further batches are not taken, so an endless dataset ends here.
///
/// The last item is [`missing_batches`] if the dataset gives fewer batches than it announces, or none.
pub(crate) fn announced_batches(data: &mut dyn Dataset) -> Result<impl Iterator<Item = Result<Batch>>> {
    let announced = data.batches();
    let mut epoch = data.epoch()?;
    let (mut taken, mut has_ended) = (0, false);
    Ok(std::iter::from_fn(move || {
        if has_ended || announced > 0 && taken == announced {
            return None;
        }
        match epoch.next().filter(|_| announced > 0) {
            Some(batch) => {
                taken += 1;
                Some(batch)
            }
            None => {
                has_ended = true;
                Some(Err(missing_batches(announced, taken)))
            }
        }
    }))
}

/// Returns an error if the dataset mixes samples, so that the outputs of a model belong to no sample.
pub(crate) fn check_not_mixed(name: &'static str, data: &dyn Dataset) -> Result<()> {
    if !data.is_mixed() {
        return Ok(());
    }
    let expected = "images as they are; a generator without `mixup` and `cutmix`".into();
    Err(Error::Argument { name, expected, found: "images that are mixed with others".into() })
}

/// The error of an epoch with fewer batches than announced, or of a dataset that announces none.
pub(crate) fn missing_batches(announced: usize, found: usize) -> Error {
    let (expected, found) = match announced {
        0 => ("at least one batch in each epoch".into(), "0 from its `batches`".into()),
        _ => (format!("{announced} batches in each epoch, as its `batches` says"), found.to_string()),
    };
    Error::Argument { name: "the dataset", expected, found }
}
