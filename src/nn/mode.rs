//! The mode of a forward pass.

/// Whether a forward pass is for training or inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is active, unfrozen batch normalisation uses batch statistics, and trainable weights record a graph.
    Training,
    /// The mode of `predict` and `evaluate`.
    Inference,
}
