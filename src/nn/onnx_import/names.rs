//! Names of imported layers.

use super::file::OnnxNode;
use super::importer::Importer;
use super::layer_names::{cleaned, layer_of};

/// Operators that do not become a layer.
const PASSIVE: [&str; 7] = ["Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"];

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
