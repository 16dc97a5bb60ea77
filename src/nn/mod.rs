//! Layers and models.
//!
//! A layer starts as a description ([`Dense`], [`Flatten`], …). A model builds it when the shape of its input is
//! known: see [`Layer`] and [`Build`].

mod activation;
mod builder;
mod check_input;
mod conv;
mod decision;
mod dense;
mod description;
mod dropout;
mod forward;
mod freeze;
mod initializer;
mod labels;
mod layer;
mod layer_path;
mod merge;
mod model;
mod nested;
mod node_id;
mod norm;
mod numbering;
mod onnx;
mod own_layers;
mod param;
mod plan;
mod pool;
mod predictions;
mod preprocessing;
mod protobuf;
mod rescaling;
mod reshape;
mod sequential;
mod split_point;
mod sub_model;
mod summary;

pub use activation::Activation;
pub use builder::ModelBuilder;
pub use conv::{Conv2D, Padding};
pub(crate) use decision::{THRESHOLD, class_of, largest, probabilities};
pub use dense::Dense;
pub use description::{Description, LayerConfig};
pub use dropout::Dropout;
pub use freeze::{LayerAt, NameOrPlace};
pub use initializer::Initializer;
pub(crate) use labels::Labels;
pub use layer::{Build, Context, Layer, LayerSpec, Mode};
pub use merge::{Add, Multiply};
pub use model::Model;
pub(crate) use model::{Extension, Node};
pub use node_id::NodeId;
pub use norm::BatchNormalization;
pub use param::Param;
pub use plan::{Plan, PlanStep};
pub use pool::{AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D};
pub use predictions::Predictions;
pub use preprocessing::{Preprocessing, preprocess_input};
pub(crate) use protobuf::Message;
pub use rescaling::Rescaling;
pub use reshape::{Flatten, Reshape};
pub use sequential::{Input, Sequential};
pub(crate) use split_point::SplitPoint;
pub use summary::{Row, Summary};
pub(crate) use summary::{keeps_statistics, thousands};
