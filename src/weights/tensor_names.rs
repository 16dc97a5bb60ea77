//! Names of a layer's tensors in files.

/// A layer, and the name prefixes of its tensors in files, torchvision's first.
pub(crate) struct TensorStems {
    pub(crate) layer: String,
    pub(crate) stems: Vec<String>,
    /// Rows and columns of patches, if the layer embeds their positions.
    pub(crate) grid: Option<[usize; 2]>,
}
