//! Handling of weight files that do not match a network.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::Tensor;

use crate::nn::{Model, Param};
use crate::{Error, Result};

/// A tensor that is missing or has the wrong shape.
pub(super) struct Mismatch {
    pub(super) layer: String,
    /// Its shape in the file. `None`: it is missing.
    pub(super) found: Option<Vec<usize>>,
    pub(super) expected: Vec<usize>,
    /// Description of the problem, with the tensor's name.
    pub(super) problem: String,
}

/// A layer whose weights are not loaded.
pub(super) struct Skipped {
    /// Name of the layer; empty for tensors that only the file has.
    pub(super) layer: String,
    /// The reason.
    pub(super) problem: String,
}

/// Sets the parameters of all layers that are not skipped, and prints the skipped ones: Keras's `skip_mismatch`. A
/// layer with any skipped parameter is skipped as a whole.
///
/// # Errors
/// [`Error::Weights`] if all layers are skipped.
pub(super) fn set_others(
    found: Vec<(String, Param, Tensor)>,
    skipped: &[Skipped],
    model: &Model,
    path: &Path,
) -> Result<()> {
    let layers: HashSet<&str> = skipped.iter().map(|skipped| &*skipped.layer).collect();
    let (found, count) = (found.into_iter().filter(|(layer, ..)| !layers.contains(&**layer)), skipped.len());
    let found: Vec<(String, Param, Tensor)> = found.collect();
    if found.is_empty() {
        let mut problems: Vec<String> = skipped.iter().map(|skipped| skipped.problem.clone()).collect();
        problems.insert(0, "no layer fits, so `skip_mismatch` would skip them all".into());
        return Err(Error::weights(path, model.name(), problems));
    }
    for Skipped { layer, problem } in skipped {
        match layer.is_empty() {
            true => println!("{}: skipped: {problem}", path.display()),
            false => println!("{}: skipped layer `{layer}`: {problem}", path.display()),
        }
    }
    if count > 0 {
        let taken: HashSet<&str> = found.iter().map(|(layer, ..)| &**layer).collect();
        println!("{}: loaded {} layers of `{}`", path.display(), taken.len(), model.name());
    }
    found.iter().try_for_each(|(_, param, value)| param.load(value))
}

/// A hint, if the file holds the same network with another top or input size.
pub(super) fn hint(wrong: &[Mismatch], tensors: &HashMap<String, Tensor>) -> Option<String> {
    let is_of_top = |layer: &str| ["fc1", "fc2", "conv_2", "logits", "predictions"].contains(&layer);
    if wrong.is_empty() || !wrong.iter().all(|wrong| is_of_top(&wrong.layer)) {
        return None;
    }
    if wrong.iter().all(|wrong| wrong.found.is_none()) {
        return Some(format!(
            "hint: the file has the network without its top ({} tensors): `.include_top(false)`, and a head of your own",
            tensors.len()
        ));
    }
    let first = |wanted: &str| wrong.iter().find(|wrong| wrong.layer == wanted);
    if let Some(Mismatch { found: Some(found), expected, .. }) = first("fc1")
        && found.first() == expected.first()
    {
        return Some(
            "hint: the file's top is for images of another size: set that `.input_shape`, or `.include_top(false)` \
             for any size"
                .into(),
        );
    }
    let classes = first("predictions").or_else(|| first("logits"))?.found.as_ref()?.first()?;
    Some(format!(
        "hint: the file is for {classes} classes: `.classes({classes})`, or `.include_top(false)` and a head of your own"
    ))
}
