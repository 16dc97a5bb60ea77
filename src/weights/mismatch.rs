//! What to do about a file of weights that does not fit a network.

use std::collections::HashMap;

use candle_core::Tensor;

/// A hint for weights of the same network with another top or size, from what is wrong with which layers.
///
/// `wrong` holds each layer whose tensor is missing (`None`) or misshapen, with the found and the expected shape.
pub(super) fn hint(
    wrong: &[(String, Option<Vec<usize>>, Vec<usize>)],
    tensors: &HashMap<String, Tensor>,
) -> Option<String> {
    let is_of_top = |layer: &str| ["fc1", "fc2", "predictions"].contains(&layer);
    if wrong.is_empty() || !wrong.iter().all(|(layer, ..)| is_of_top(layer)) {
        return None;
    }
    if wrong.iter().all(|(_, found, _)| found.is_none()) {
        return Some(format!(
            "hint: the file has the network without its top ({} tensors): `.include_top(false)`, and a head of your own",
            tensors.len()
        ));
    }
    let first = |wanted: &str| wrong.iter().find(|(layer, ..)| layer == wanted);
    if let Some((_, Some(found), expected)) = first("fc1")
        && found.first() == expected.first()
    {
        return Some(
            "hint: the file's top is for images of another size: set that `.input_shape`, or `.include_top(false)` \
             for any size"
                .into(),
        );
    }
    let (_, found, _) = first("predictions")?;
    let classes = found.as_ref()?.first()?;
    Some(format!(
        "hint: the file is for {classes} classes: `.classes({classes})`, or `.include_top(false)` and a head of your own"
    ))
}
