//! In which order the inputs of a layer are: Keras flattens feature maps as height, width, channels, this library as
//! channels, height, width. Every parameter that has a number for each flattened input is reordered.

use std::collections::HashMap;

use crate::nn::{LayerConfig, Model, Node};

/// The feature maps `[channels, height, width]` whose numbers an output has one after the other, if it has.
pub(super) type Maps = Option<Vec<usize>>;

/// The maps that enter each node, by the node's name, given those that enter the model.
///
/// # Errors
/// What cannot be put into the other order, in words.
pub(super) fn entering<'a>(model: &'a Model, outside: &Maps) -> Result<HashMap<&'a str, Maps>, String> {
    Ok(through(model, outside)?.0)
}

/// The maps that enter each node, and those that leave the model. Each node is looked at once: there are very many
/// ways through a residual network.
fn through<'a>(model: &'a Model, outside: &Maps) -> Result<(HashMap<&'a str, Maps>, Maps), String> {
    let mut entering = HashMap::new();
    let mut leaving = vec![outside.clone()];
    for node in &model.nodes()[1..] {
        let mut found = node.inputs().map(|input| &leaving[input]);
        let maps = found.next().cloned().unwrap_or_default();
        if found.any(|other| *other != maps) {
            return Err(format!("`{}` joins flattened feature maps and other numbers", node.name));
        }
        leaving.push(after(model, node, &maps)?);
        entering.insert(&*node.name, maps);
    }
    let output = leaving.swap_remove(model.output_node());
    Ok((entering, output))
}

/// The maps that leave a node, given those that enter it.
fn after(model: &Model, node: &Node, maps: &Maps) -> Result<Maps, String> {
    if let Some(inside) = node.layer.model() {
        return Ok(through(inside, maps)?.1);
    }
    let shape = |at: usize| model.nodes()[at].layer.output_shape();
    let input = node.inputs().next().map_or(&[][..], shape);
    let output = node.layer.output_shape();
    match &node.config {
        Some(LayerConfig::Flatten(_) | LayerConfig::Reshape(_)) if output.len() == 1 => {
            Ok(if has_order(input) { Some(input.to_vec()) } else { maps.clone() })
        }
        Some(LayerConfig::Reshape(_)) if has_order(input) || has_order(output) || maps.is_some() => {
            Err(format!("`{}` reshapes feature maps, which Keras has in another order", node.name))
        }
        Some(
            LayerConfig::Activation(_)
            | LayerConfig::Add(_)
            | LayerConfig::BatchNormalization(_)
            | LayerConfig::Dropout(_)
            | LayerConfig::Multiply(_)
            | LayerConfig::Rescaling(_),
        ) => Ok(maps.clone()),
        Some(LayerConfig::Dense(_)) => Ok(None),
        _ if maps.is_none() => Ok(None),
        _ => {
            let kind = node.layer.kind();
            Err(format!("`{}`, of type {kind}, may reorder flattened feature maps", node.name))
        }
    }
}

/// Whether an order of channels, height and width matters: not for one channel or one place.
fn has_order(shape: &[usize]) -> bool {
    matches!(*shape, [channels, height, width] if channels > 1 && height * width > 1)
}
