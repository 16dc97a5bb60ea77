//! Names of a layer's tensors in files.

/// A layer, and the name prefixes of its tensors in files, torchvision's first.
pub(crate) struct TensorStems {
    pub(crate) layer: String,
    pub(crate) stems: Vec<String>,
}
