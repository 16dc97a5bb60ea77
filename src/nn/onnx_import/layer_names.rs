//! The names of layers in the names of weights and nodes.

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
