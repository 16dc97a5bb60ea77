//! The names that a layer's tensors have in files.

/// A layer, and the stems that its tensors' names have in files: torchvision's first.
pub(crate) struct TensorStems {
    pub(crate) layer: String,
    pub(crate) stems: Vec<String>,
}
