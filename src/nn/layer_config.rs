//! Serialisable settings of layers, and the description of a model that is made of them.

use std::any::Any;

use serde::{Deserialize, Serialize};

use super::{
    Activation, Add, Affine, AveragePooling2D, BatchNormalization, Build, ClassToken, Concatenate, Conv2D,
    Dense, Dropout, FirstToken, Flatten, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling2D,
    GlobalResponseNormalization, GroupNormalization, Labels, LayerNormalization, LayerScale, MaxPooling2D,
    MultiHeadAttention, Multiply, Permute, PositionEmbedding, Preprocessing, Rescaling, Reshape,
    SeparableConv2D, StochasticDepth, UpSampling2D, ZeroPadding2D,
};

/// Defines [`LayerConfig`] for the library's layers.
macro_rules! layer_configs {
    ($($layer:ident),* $(,)?) => {
        /// Settings of one of the library's layers, or the description of a nested model.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(tag = "class_name", content = "config")]
        #[allow(missing_docs)]
        pub enum LayerConfig {
            $($layer($layer),)*
            Model(Box<Description>),
        }

        impl LayerConfig {
            /// The settings of a layer. `None`: its type is not in the library.
            pub(super) fn of(layer: &dyn Build) -> Option<LayerConfig> {
                let layer: &dyn Any = layer;
                $(if let Some(layer) = layer.downcast_ref::<$layer>() {
                    return Some(LayerConfig::$layer(<$layer>::clone(layer)));
                })*
                None
            }

            /// The layer with these settings.
            pub(super) fn spec(&self) -> &dyn Build {
                match self {
                    $(LayerConfig::$layer(layer) => layer,)*
                    LayerConfig::Model(_) => unreachable!("a model is built from its own description"),
                }
            }
        }
    };
}

layer_configs!(
    Activation,
    Add,
    Affine,
    AveragePooling2D,
    BatchNormalization,
    ClassToken,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    FirstToken,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GlobalResponseNormalization,
    GroupNormalization,
    LayerNormalization,
    LayerScale,
    MaxPooling2D,
    MultiHeadAttention,
    Multiply,
    Permute,
    PositionEmbedding,
    Rescaling,
    Reshape,
    SeparableConv2D,
    StochasticDepth,
    UpSampling2D,
    ZeroPadding2D,
);

/// Description of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    pub(super) name: String,
    pub(super) input_shape: Vec<usize>,
    pub(super) layers: Vec<LayerDescription>,
    pub(super) output: String,
    pub(super) preprocessing: Option<Preprocessing>,
    pub(super) labels: Option<Labels>,
    pub(super) pretrained: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) of_keras: bool,
    /// Missing in older files, where the name `sequential` decides.
    #[serde(default)]
    pub(super) sequential: Option<bool>,
    /// All inputs, if there are several or the only one has another name than `input`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inputs: Vec<InputDescription>,
    /// All outputs, if there are several or the only one has another name than its layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) outputs: Vec<OutputDescription>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InputDescription {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Number of layers and inputs that were added before it.
    pub(super) position: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OutputDescription {
    pub(super) name: String,
    pub(super) layer: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerDescription {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) config: LayerConfig,
    pub(super) inputs: Vec<String>,
    /// Path of an earlier layer of the whole model whose weights this layer shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared_with: Option<String>,
}
