//! One epoch of a dataset, with as many batches as it announces.

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
        let batch = if announced == 0 { None } else { epoch.next() };
        has_ended = batch.is_none();
        taken += usize::from(!has_ended);
        Some(batch.unwrap_or_else(|| Err(missing_batches(announced, taken))))
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

/// The error of an epoch with fewer batches than announced.
pub(crate) fn missing_batches(announced: usize, found: usize) -> Error {
    Error::Argument {
        name: "the dataset",
        expected: format!("{} batches in each epoch, as its `batches` says", announced.max(1)),
        found: found.to_string(),
    }
}
