//! Layer indices as in Keras: `model.layers[15]`.

use super::Model;
use crate::{Error, Result};

impl Model {
    /// The nodes of the model's layers in Keras's order, each with its index in Keras's `model.layers`. A nested model is one
    /// layer. The input is layer 0 of a network and is not counted in a `Sequential`.
    pub(crate) fn numbered_layers(&self) -> Vec<(usize, usize)> {
        let mut number = usize::from(!self.is_sequential());
        let mut numbered = Vec::new();
        for index in self.indices_by_depth() {
            let has = |layer: &str| self.nodes().iter().any(|node| node.name == layer);
            number += layers_only_in_keras(self.name(), &self.nodes()[index].name, has);
            numbered.push((number, index));
            number += 1;
        }
        numbered
    }

    /// Converts an index, which counts from the end if negative, to an index from 0.
    ///
    /// # Errors
    /// [`Error::Argument`] if the index is out of range.
    pub(crate) fn number_of(&self, index: i64) -> Result<usize> {
        let layers = self.numbered_layers();
        let count = layers.last().map_or(0, |(number, _)| *number as i64) + 1;
        let found = if index < 0 { index + count } else { index };
        if let Some(number) = usize::try_from(found).ok().filter(|_| found < count) {
            return Ok(number);
        }
        let mut nodes = layers.iter().map(|(_, index)| &self.nodes()[*index]);
        let inside = nodes.find(|node| node.layer.model().is_some());
        let inside = inside.map_or_else(String::new, |node| {
            let name = &node.name;
            format!(
                "; the model `{name}` counts as one: index its layers in the model itself, or pass a name"
            )
        });
        let name = self.name();
        let expected =
            format!("an index from {} to {}, since `{name}` has {count} layers{inside}", -count, count - 1);
        Err(Error::Argument { name: "layer", expected, found: index.to_string() })
    }
}

/// Number of layers directly before `layer` that only Keras's network has: padding, preprocessing of the input,
/// and stochastic depth where it is disabled.
fn layers_only_in_keras(network: &str, layer: &str, has: impl Fn(&str) -> bool) -> usize {
    match (network, layer) {
        ("resnet50", "conv1_conv" | "pool1_pool") => 1,
        ("efficientnet_b0", "stem_conv") => 3,
        ("efficientnet_b0", "block2a_dwconv" | "block3a_dwconv" | "block4a_dwconv" | "block6a_dwconv") => 1,
        ("efficientnet_b0", _) => {
            let drop = layer.strip_suffix("_add").map(|block| format!("{block}_drop"));
            usize::from(drop.is_some_and(|drop| !has(&drop)))
        }
        _ => 0,
    }
}
