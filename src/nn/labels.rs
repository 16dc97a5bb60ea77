//! Class labels of pretrained models.

use serde::{Deserialize, Serialize};

/// The set of classes of pretrained weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Labels {
    /// The 1000 classes of ImageNet.
    ImageNet,
    /// The classes of the demo weights.
    Drawn,
}
