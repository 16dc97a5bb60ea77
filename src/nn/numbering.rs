//! Layer indices as in Keras: `model.layers[15]`.

use super::{LayerConfig, Model, Node};
use crate::{Error, Result};

impl Model {
    /// The nodes of the model's layers in Keras's order, each with its index in Keras's `model.layers`. A nested model is one
    /// layer. The input is layer 0 of a network and is not counted in a `Sequential`. A layer that Keras's network does not
    /// have has the index of the one before it.
    pub(crate) fn numbered_layers(&self) -> Vec<(usize, usize)> {
        let has = |layer: &str| self.nodes().iter().any(|node| node.name == layer);
        let mut next = usize::from(!self.is_sequential());
        let mut numbered = Vec::new();
        for index in self.indices_by_depth() {
            match only_in_keras_before(self.name(), &self.nodes()[index], has) {
                Some(others) => {
                    numbered.push((next + others, index));
                    next += others + 1;
                }
                None => numbered.push((next.saturating_sub(1), index)),
            }
        }
        numbered
    }

    /// Converts an index, which counts from the end if negative, to an index from 0.
    ///
    /// # Errors
    /// [`Error::Argument`] if the index is out of range.
    pub(crate) fn number_of(&self, index: i64) -> Result<usize> {
        let layers = self.numbered_layers();
        let count = layers.last().map_or(1, |(number, node)| {
            number + 1 + only_in_keras_after(self.name(), &self.nodes()[*node].name)
        });
        let count = count as i64;
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

/// Number of layers directly before this one that only Keras's network has: padding, preprocessing of the input,
/// activations that are part of a layer here, and stochastic depth where it is disabled. `None`: only this library's
/// network has the layer. Networks that Keras does not have are counted as they are.
fn only_in_keras_before(network: &str, node: &Node, has: impl Fn(&str) -> bool) -> Option<usize> {
    let layer = node.name.as_str();
    let without_drop = || {
        let block = layer.strip_suffix("_add");
        usize::from(block.is_some_and(|block| !has(&format!("{block}_drop"))))
    };
    let pads = |depthwise: &str| match &node.config {
        Some(LayerConfig::Conv2D(conv)) => {
            usize::from(layer.ends_with(depthwise) && conv.strides.side() == 2)
        }
        _ => 0,
    };
    Some(match (network, layer) {
        ("resnet50" | "resnet101" | "resnet152", "conv1_conv" | "pool1_pool") => 1,
        ("densenet121", "conv1_conv" | "pool1") => 1,
        ("mobilenetv2_100", "top_dropout") => return None,
        ("mobilenetv2_100", _) if layer.ends_with("_drop") => return None,
        ("mobilenetv2_100", _) => pads("_depthwise"),
        ("mobilenetv3_large_100" | "mobilenetv3_small_100", _) => match layer {
            _ if layer.ends_with("_reshape") || layer.ends_with("_drop") => return None,
            "conv" | "top_dropout" => 1,
            _ if layer.ends_with("squeeze_excite_conv_1") || layer.ends_with("squeeze_excite_mul") => 1,
            _ => pads("_depthwise"),
        },
        // Two rescalings, normalisation and padding: `weights="imagenet"` adds the second rescaling.
        (_, "stem_conv") if network.starts_with("efficientnet_b") => 4,
        (_, _) if network.starts_with("efficientnet_b") => pads("_dwconv") + without_drop(),
        ("tf_efficientnetv2_s", "stem_conv") => 1,
        ("tf_efficientnetv2_s", "block1a_add") => 0,
        ("tf_efficientnetv2_s", _) => without_drop(),
        ("convnext_tiny" | "convnext_small" | "convnext_base", _) => match layer {
            "stem_conv" => 1,
            // In Keras, stem and downsampling are one layer each, and the shortcut is none.
            "stem_layernorm" => return None,
            _ if layer.starts_with("downsampling_") && layer.ends_with("_conv") => return None,
            _ if layer.ends_with("_channels_last") || layer.ends_with("_channels_first") => return None,
            _ if layer.ends_with("_add") && without_drop() == 0 => return None,
            // Keras has a linear activation in place of stochastic depth: it has the number of the sum here.
            _ => 0,
        },
        _ => 0,
    })
}

/// Number of layers after the last one that only Keras's network has.
fn only_in_keras_after(network: &str, last: &str) -> usize {
    match (network, last) {
        // `flatten` and `predictions`.
        ("mobilenetv3_large_100" | "mobilenetv3_small_100", "logits") => 2,
        // The normalisation of a network without its top.
        ("convnext_tiny" | "convnext_small" | "convnext_base", "stage_3_block_2_add") => 1,
        _ => 0,
    }
}
