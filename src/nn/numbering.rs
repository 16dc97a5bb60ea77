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
            // `weights="imagenet"` adds a second rescaling of the input.
            let is_first = self.nodes()[index].name == "stem_conv";
            number += usize::from(is_first && is_efficientnet_b(self.name()) && self.is_pretrained());
            numbered.push((number, index));
            number += 1;
        }
        numbered
    }

    /// Converts an index, which counts from the end if negative, to an index from 0.
    ///
    /// # Errors
    /// [`Error::Argument`] if the index is out of range.
    pub(crate) fn number_of(&self, place: i64) -> Result<usize> {
        let layers = self.numbered_layers();
        let count = layers.last().map_or(0, |(number, _)| *number as i64) + 1;
        let found = if place < 0 { place + count } else { place };
        if let Some(number) = usize::try_from(found).ok().filter(|_| found < count) {
            return Ok(number);
        }
        let mut nodes = layers.iter().map(|(_, index)| &self.nodes()[*index]);
        let inside = nodes.find(|node| node.layer.model().is_some());
        let inside = inside.map_or_else(String::new, |node| {
            let name = &node.name;
            format!("; `{name}` inside is one of them: number its layers by the model itself, or give a name")
        });
        let name = self.name();
        let expected =
            format!("a place from {} to {}, for `{name}` has {count} layers{inside}", -count, count - 1);
        Err(Error::Argument { name: "layer", expected, found: place.to_string() })
    }
}

/// Whether the network is an EfficientNet of the first version.
fn is_efficientnet_b(network: &str) -> bool {
    network.starts_with("efficientnet_b")
}

/// Number of layers directly before `layer` that only Keras's network has: padding, preprocessing of the input,
/// and stochastic depth where it is disabled. Other networks have other layers in Keras, or are not in Keras.
fn layers_only_in_keras(network: &str, layer: &str, has: impl Fn(&str) -> bool) -> usize {
    match (network, layer) {
        ("resnet50" | "resnet101" | "resnet152", "conv1_conv" | "pool1_pool") => 1,
        ("densenet121", "conv1_conv" | "pool1") => 1,
        (
            "mobilenetv2_100",
            "block_1_depthwise" | "block_3_depthwise" | "block_6_depthwise" | "block_13_depthwise",
        ) => 1,
        (name, "stem_conv") if is_efficientnet_b(name) => 3,
        (name, "block2a_dwconv" | "block3a_dwconv" | "block4a_dwconv" | "block6a_dwconv")
            if is_efficientnet_b(name) =>
        {
            1
        }
        (name, _) if is_efficientnet_b(name) => {
            let drop = layer.strip_suffix("_add").map(|block| format!("{block}_drop"));
            usize::from(drop.is_some_and(|drop| !has(&drop)))
        }
        _ => 0,
    }
}
