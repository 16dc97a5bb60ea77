//! Tensors of a file that have no place in a network: those of a larger network are refused.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use super::OPTIMIZER;
use super::tensor_names::TensorStems;

/// Tensors named in an error.
const NAMED: usize = 4;

/// What is wrong with the tensors that were not used, if anything. `omitted` are the layers of a top that was left out:
/// its tensors, and those of a head in its place, are no surplus.
pub(super) fn problem(
    tensors: &HashMap<String, Tensor>,
    used: &HashSet<String>,
    omitted: &[TensorStems],
) -> Option<String> {
    let heads = if omitted.is_empty() { HashSet::new() } else { dense_layers(tensors) };
    let is_left = |name: &&String| {
        !used.contains(*name)
            && !name.ends_with("num_batches_tracked")
            && !name.starts_with(OPTIMIZER)
            // Keras's EfficientNet normalises its images itself; that is part of the preprocessing here.
            && !name.split('/').any(|step| step.starts_with("normalization"))
            && !omitted.iter().any(|top| is_of(top, name))
            && !heads.contains(layer(name))
    };
    let mut left: Vec<&String> = tensors.keys().filter(is_left).collect();
    left.sort_unstable();
    let more = if left.len() > NAMED { ", …" } else { "" };
    let named: Vec<String> = left.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    (!left.is_empty()).then(|| {
        format!(
            "{} of {} tensors have no place in the network: {}{more}; the file is of another network, perhaps a larger one",
            left.len(),
            tensors.len(),
            named.join(", ")
        )
    })
}

/// Whether a tensor is of a layer, by its own name or by the first step of a name that PyTorch has for it: `fc` and
/// `classifier` hold a user's own head too.
fn is_of(top: &TensorStems, name: &str) -> bool {
    let begins = |start: &str, end: char| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(end));
    let root = |stem: &String| stem.split('.').next().unwrap_or_default().to_owned();
    begins(&top.layer, '/') || top.stems.iter().any(|stem| begins(&root(stem), '.'))
}

/// The way to a tensor's layer: all but its last step, and in Keras's numbered files all but `vars/0`.
fn layer(name: &str) -> &str {
    let layer = name.rsplit_once('/').map_or("", |(layer, _)| layer);
    layer.strip_suffix("/vars").unwrap_or(layer)
}

/// The layers of which every tensor is a matrix or a vector, with a matrix among them: dense ones, as the heads of
/// Keras's files have. No network has such a layer but in its top.
fn dense_layers(tensors: &HashMap<String, Tensor>) -> HashSet<&str> {
    let ranks = |wanted: &dyn Fn(usize) -> bool| -> HashSet<&str> {
        let of = tensors.iter().filter(|(name, tensor)| name.contains('/') && wanted(tensor.rank()));
        of.map(|(name, _)| layer(name)).collect()
    };
    let (matrices, larger) = (ranks(&|rank| rank == 2), ranks(&|rank| rank > 2));
    matrices.difference(&larger).copied().collect()
}
