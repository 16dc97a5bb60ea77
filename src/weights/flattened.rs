//! Order of flattened feature maps: Keras flattens height, width, channels; this library channels, height, width.
//! Parameters with one value per flattened input are therefore reordered.

use std::collections::HashMap;

use crate::nn::{LayerConfig, Model, Node};

/// Shape `[channels, height, width]` of the feature maps that were flattened to an output; `None` if none were.
pub(super) type FlattenedShape = Option<Vec<usize>>;

/// For each node, by name, the feature maps that were flattened to its input. `input_maps` are those of the model's
/// input.
///
/// # Errors
/// A description of the layer whose order cannot be converted.
pub(super) fn flattened_inputs<'a>(
    model: &'a Model,
    input_maps: &FlattenedShape,
) -> Result<HashMap<&'a str, FlattenedShape>, String> {
    Ok(flattened_shapes(model, input_maps)?.0)
}

/// Flattened feature maps at the input of each node, and at the model's output. Each node is visited once, because
/// a residual network has exponentially many paths.
fn flattened_shapes<'a>(
    model: &'a Model,
    input_maps: &FlattenedShape,
) -> Result<(HashMap<&'a str, FlattenedShape>, FlattenedShape), String> {
    let mut inputs = HashMap::new();
    let mut outputs = vec![input_maps.clone()];
    for (index, node) in model.nodes().iter().enumerate().skip(1) {
        if model.input_nodes().contains(&index) {
            outputs.push(input_maps.clone());
            continue;
        }
        let mut found = node.inputs().map(|input| &outputs[input]);
        let maps = found.next().cloned().unwrap_or_default();
        if found.any(|other| *other != maps) {
            return Err(format!("`{}` joins flattened feature maps and other numbers", node.name));
        }
        outputs.push(output_maps(model, node, &maps)?);
        inputs.insert(&*node.name, maps);
    }
    let output = outputs.swap_remove(model.output_node());
    Ok((inputs, output))
}

/// Flattened feature maps at the output of a node, given those at its input.
fn output_maps(model: &Model, node: &Node, maps: &FlattenedShape) -> Result<FlattenedShape, String> {
    if let Some(inside) = node.layer.model() {
        return Ok(flattened_shapes(inside, maps)?.1);
    }
    let shape = |at: usize| model.nodes()[at].layer.output_shape();
    let input = node.inputs().next().map_or(&[][..], shape);
    let output = node.layer.output_shape();
    match &node.config {
        Some(LayerConfig::Flatten(_) | LayerConfig::Reshape(_)) if output.len() == 1 => {
            let axes = node.inputs().next().map_or_else(Vec::new, |input| axes(model, input));
            match *axes {
                _ if !has_order(input) => Ok(maps.clone()),
                [1, 2, 3] => Ok(Some(input.to_vec())),
                // Channels last, as in Keras.
                [2, 3, 1] => Ok(None),
                _ => Err(format!("`{}` flattens feature maps that are permuted by {axes:?}", node.name)),
            }
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

/// The permutation of the feature maps at a node's output, relative to channels first. It is `[1, 2, 3]` unless `Permute`
/// layers follow the last layer that takes feature maps channels first.
fn axes(model: &Model, mut at: usize) -> Vec<usize> {
    let mut permutations = Vec::new();
    loop {
        let node = &model.nodes()[at];
        match &node.config {
            Some(LayerConfig::Permute(permute)) => permutations.push(permute.dims()),
            Some(
                LayerConfig::Activation(_)
                | LayerConfig::Add(_)
                | LayerConfig::BatchNormalization(_)
                | LayerConfig::Dense(_)
                | LayerConfig::Dropout(_)
                | LayerConfig::LayerNormalization(_)
                | LayerConfig::LayerScale(_)
                | LayerConfig::Multiply(_)
                | LayerConfig::Rescaling(_)
                | LayerConfig::StochasticDepth(_),
            ) => {}
            _ => break,
        }
        let Some(input) = node.inputs().next() else { break };
        at = input;
    }
    let first = vec![1, 2, 3];
    permutations.iter().rev().fold(first, |axes, dims| dims.iter().map(|dim| axes[dim - 1]).collect())
}

/// Whether the order of channels and pixels matters: not with a single channel or a single pixel.
fn has_order(shape: &[usize]) -> bool {
    matches!(*shape, [channels, height, width] if channels > 1 && height * width > 1)
}
