//! What to do about a file of weights that does not fit a network.

use std::collections::HashMap;

use candle_core::Tensor;

/// A tensor that is missing or misshapen.
pub(super) struct Wrong {
    pub(super) layer: String,
    /// Its shape in the file, if it is there.
    pub(super) found: Option<Vec<usize>>,
    pub(super) expected: Vec<usize>,
}

/// A hint for weights of the same network with another top or size.
pub(super) fn hint(wrong: &[Wrong], tensors: &HashMap<String, Tensor>) -> Option<String> {
    let is_of_top = |layer: &str| ["fc1", "fc2", "predictions"].contains(&layer);
    if wrong.is_empty() || !wrong.iter().all(|wrong| is_of_top(&wrong.layer)) {
        return None;
    }
    if wrong.iter().all(|wrong| wrong.found.is_none()) {
        return Some(format!(
            "hint: the file has the network without its top ({} tensors): `.include_top(false)`, and a head of your own",
            tensors.len()
        ));
    }
    let first = |wanted: &str| wrong.iter().find(|wrong| wrong.layer == wanted);
    if let Some(Wrong { found: Some(found), expected, .. }) = first("fc1")
        && found.first() == expected.first()
    {
        return Some(
            "hint: the file's top is for images of another size: set that `.input_shape`, or `.include_top(false)` \
             for any size"
                .into(),
        );
    }
    let classes = first("predictions")?.found.as_ref()?.first()?;
    Some(format!(
        "hint: the file is for {classes} classes: `.classes({classes})`, or `.include_top(false)` and a head of your own"
    ))
}
