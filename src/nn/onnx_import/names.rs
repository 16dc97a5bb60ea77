//! Names of imported layers.

use super::file::OnnxNode;
use super::importer::Importer;

/// Operators that do not become a layer.
const PASSIVE: [&str; 7] = ["Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];
/// Ends of weights' names that are not part of the layer's name.
const WEIGHT_ENDS: [&str; 10] =
    [".weight", "/weight", ".kernel", "/kernel", ".gamma", "/gamma", ".bias", "/bias", ".beta", "/beta"];
/// Ends of the names of TensorFlow's operators and variables that are not part of a layer's name.
const TENSORFLOW_ENDS: [&str; 9] = [
    "/ReadVariableOp",
    "/merged_input",
    "/Cast",
    "/convolution",
    "/depthwise",
    "/MatMul",
    "/BiasAdd",
    "/batchnorm",
    "/mul",
];

impl Importer<'_> {
    /// The name for a layer without weights that computes a value: that of the value's node. Of a node `pool/maps` before
    /// a passive node `pool`, it is `pool`.
    pub(super) fn label(&self, value: &str) -> String {
        let Some(&index) = self.producers.get(value) else { return String::new() };
        let node = &self.file.nodes[index];
        let mut name = cleaned(if node.name.is_empty() { value } else { node.name });
        let mut value = value;
        while let Some(index) = self.only_reader(value) {
            let next = &self.file.nodes[index];
            let shorter = cleaned(next.name);
            let is_within = name.strip_prefix(shorter).is_some_and(|rest| rest.starts_with('/'));
            if !PASSIVE.contains(&next.op) || !is_within || shorter.is_empty() {
                break;
            }
            (name, value) = (shorter, next.output());
        }
        name.to_owned()
    }

    /// The name for a layer with weights: `conv1` for the weight `conv1.weight`; else as for [`Importer::label`].
    pub(super) fn weighted_label(&self, weights: &[&str], node: &OnnxNode, value: &str) -> String {
        let Some(stem) = weights.iter().find_map(|weight| layer_of(weight)) else { return self.label(value) };
        // Another layer may have that name: the activation after a layer of `Model::export_onnx`.
        let is_layer = |index: &usize| {
            let other = &self.file.nodes[*index];
            !std::ptr::eq(node, other) && !self.absorbed.contains(index) && !PASSIVE.contains(&other.op)
        };
        match self.by_name.get(stem).into_iter().flatten().any(is_layer) {
            true => self.label(value),
            false => stem.to_owned(),
        }
    }
}

/// The layer in the name of a weight: `conv1` of PyTorch's `conv1.weight`, `conv2d_1` of TensorFlow's
/// `functional/conv2d_1/convolution/ReadVariableOp:0`. `None` if the name says nothing of a layer.
pub(super) fn layer_of(weight: &str) -> Option<&str> {
    if let Some(stem) = WEIGHT_ENDS.iter().find_map(|end| weight.strip_suffix(end)) {
        return Some(cleaned(stem)).filter(|stem| !stem.is_empty());
    }
    let mut stem = weight.strip_suffix(":0")?;
    while let Some(shorter) = TENSORFLOW_ENDS.iter().find_map(|end| stem.strip_suffix(end)) {
        stem = shorter;
    }
    let (model, layer) = stem.split_once('/')?;
    let is_model = ["functional", "sequential"].iter().any(|kind| model.starts_with(kind));
    Some(if is_model { layer } else { stem })
}

/// A name without the slashes around it: PyTorch's nodes are named `/layer1/conv1/Conv`.
pub(super) fn cleaned(name: &str) -> &str {
    name.trim_matches('/')
}
