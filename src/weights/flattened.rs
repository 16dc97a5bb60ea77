//! In which order the inputs of a layer are: Keras flattens feature maps as height, width, channels, this library as
//! channels, height, width. Every parameter that has a number for each flattened input is reordered.

use crate::nn::{Model, Node};

/// The feature maps `[channels, height, width]` whose numbers an output has one after the other, if it has.
pub(super) type Maps = Option<Vec<usize>>;

/// The maps that enter a node, given those that enter the model.
///
/// # Errors
/// What cannot be put into the other order, in words.
pub(super) fn entering(model: &Model, node: &Node, outside: &Maps) -> Result<Maps, String> {
    let mut found =
        node.inputs().map(|input| leaving(model, input, outside)).collect::<Result<Vec<_>, _>>()?;
    let first = found.pop().flatten();
    match found.iter().all(|other| *other == first) {
        true => Ok(first),
        false => Err(format!("`{}` joins flattened feature maps and other numbers", node.name)),
    }
}

/// The maps that leave a node.
fn leaving(model: &Model, at: usize, outside: &Maps) -> Result<Maps, String> {
    let node = &model.nodes()[at];
    if at == 0 {
        return Ok(outside.clone());
    }
    let maps = entering(model, node, outside)?;
    if let Some(inside) = node.layer.model() {
        return leaving(inside, inside.output_node(), &maps);
    }
    let shape = |at: usize| model.nodes()[at].layer.output_shape();
    let input = node.inputs().next().map_or(&[][..], shape);
    let output = node.layer.output_shape();
    match node.layer.kind() {
        "Flatten" | "Reshape" if output.len() == 1 => {
            Ok(if has_order(input) { Some(input.to_vec()) } else { maps })
        }
        "Reshape" if has_order(input) || has_order(output) || maps.is_some() => {
            Err(format!("`{}` reshapes feature maps, which Keras has in another order", node.name))
        }
        "Activation" | "Add" | "BatchNormalization" | "Dropout" | "Multiply" | "Rescaling" => Ok(maps),
        "Dense" => Ok(None),
        _ if maps.is_none() => Ok(None),
        kind => Err(format!("`{}`, of type {kind}, may reorder flattened feature maps", node.name)),
    }
}

/// Whether an order of channels, height and width matters: not for one channel or one place.
fn has_order(shape: &[usize]) -> bool {
    matches!(*shape, [channels, height, width] if channels > 1 && height * width > 1)
}
