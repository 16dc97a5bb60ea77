//! The classes that a model's outputs stand for: metadata of a model with pretrained weights.

use serde::{Deserialize, Serialize};

/// The classes that some weights tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Labels {
    /// ImageNet's 1000.
    ImageNet,
    /// Those of the demo weights.
    Drawn,
}
