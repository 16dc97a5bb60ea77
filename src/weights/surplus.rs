//! Tensors of a file that have no place in a network, as in files of a larger network.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;

use super::OPTIMIZER;
use super::tensor_names::TensorStems;

/// Maximum number of tensors that an error names.
const NAMED: usize = 4;
/// The layer that classifies in MobileNetV3. In Keras, it and the layer before it are convolutions.
const CONVOLUTIONAL_HEAD: &str = "logits";

/// Describes the unused tensors, if there are any. `omitted` are the layers of an omitted top: tensors of that top, or
/// of another head in its place, are ignored.
pub(super) fn problem(
    tensors: &HashMap<String, Tensor>,
    used: &HashSet<String>,
    omitted: &[TensorStems],
) -> Option<String> {
    let (mut heads, heads_beside) = match omitted {
        [] => Default::default(),
        _ => (dense_layers(tensors), dense_modules(tensors, used)),
    };
    if omitted.iter().any(|top| top.layer == CONVOLUTIONAL_HEAD) {
        heads.extend(pointwise_layers(tensors));
    }
    let is_left = |name: &&String| {
        !used.contains(*name)
            // Counters, masks and indices.
            && !tensors[*name].dtype().is_int()
            && !name.ends_with("num_batches_tracked")
            // Stands for masked patches in DINOv2's training only.
            && *name != "mask_token"
            && !name.starts_with(OPTIMIZER)
            // The normalisation layers of Keras's EfficientNet are part of the preprocessing here.
            && !name.split('/').any(|step| step.starts_with("normalization"))
            && !omitted.iter().any(|top| is_of(top, name))
            && !heads.contains(layer(name))
            && !heads_beside.contains(module(name))
    };
    let mut left: Vec<&String> = tensors.keys().filter(is_left).collect();
    left.sort_unstable();
    let more = if left.len() > NAMED { ", …" } else { "" };
    let named: Vec<String> = left.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    (!left.is_empty()).then(|| {
        format!(
            "{} of {} tensors do not belong to the network: {}{more}; the file is of another network, perhaps a larger one",
            left.len(),
            tensors.len(),
            named.join(", ")
        )
    })
}

/// Whether a tensor belongs to a layer, by the layer's name or the first part of its name in PyTorch. A custom head is
/// often named `fc` or `classifier` too.
fn is_of(top: &TensorStems, name: &str) -> bool {
    let begins = |start: &str, end: char| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(end));
    let root = |stem: &String| stem.split('.').next().unwrap_or_default().to_owned();
    begins(&top.layer, '/') || top.stems.iter().any(|stem| begins(&root(stem), '.'))
}

/// Path of a tensor's layer: without the last part, and in Keras's numbered files without `vars/0`.
fn layer(name: &str) -> &str {
    let layer = name.rsplit_once('/').map_or("", |(layer, _)| layer);
    layer.strip_suffix("/vars").unwrap_or(layer)
}

/// Layers whose tensors are all matrices or vectors, with at least one matrix: dense layers, such as the heads in
/// Keras's files. The networks have dense layers only in their tops.
fn dense_layers(tensors: &HashMap<String, Tensor>) -> HashSet<&str> {
    let ranks = |wanted: &dyn Fn(usize) -> bool| -> HashSet<&str> {
        let found = tensors.iter().filter(|(name, tensor)| name.contains('/') && wanted(tensor.rank()));
        found.map(|(name, _)| layer(name)).collect()
    };
    let (matrices, larger) = (ranks(&|rank| rank == 2), ranks(&|rank| rank > 2));
    matrices.difference(&larger).copied().collect()
}

/// The outermost module of a tensor in PyTorch's files.
fn module(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

/// Modules of PyTorch beside the network that have only matrices and vectors, with at least one matrix. These are the
/// heads of a model with a backbone.
fn dense_modules<'a>(tensors: &'a HashMap<String, Tensor>, used: &HashSet<String>) -> HashSet<&'a str> {
    let of_network: HashSet<&str> = used.iter().map(|name| module(name)).collect();
    let ranks = |wanted: &dyn Fn(usize) -> bool| -> HashSet<&'a str> {
        let found = tensors.iter().filter(|(name, tensor)| !name.contains('/') && wanted(tensor.rank()));
        found.map(|(name, _)| module(name)).collect()
    };
    let (matrices, larger) = (ranks(&|rank| rank == 2), ranks(&|rank| rank > 2));
    matrices.into_iter().filter(|name| !larger.contains(name) && !of_network.contains(name)).collect()
}

/// 1x1 convolutions with a bias, as in the top of Keras's MobileNetV3. The blocks have such convolutions too, but those
/// are assigned to layers of the network.
fn pointwise_layers(tensors: &HashMap<String, Tensor>) -> HashSet<&str> {
    let is_pointwise = |tensor: &Tensor| matches!(tensor.dims(), [1, 1, _, _]);
    let kernels = tensors.iter().filter(|(name, tensor)| name.contains('/') && is_pointwise(tensor));
    let biases: HashSet<&str> =
        tensors.iter().filter(|(_, tensor)| tensor.rank() == 1).map(|(name, _)| layer(name)).collect();
    kernels.map(|(name, _)| layer(name)).filter(|layer| biases.contains(layer)).collect()
}
