//! Layers, and the models that are made of them.
//!
//! A layer is described first ([`Dense`], [`Flatten`], …) and built when a model puts it in its
//! place and so knows the shape of its input: see [`Layer`] and [`Build`].

mod activation;
mod conv;
mod dense;
mod dropout;
mod forward;
mod freeze;
mod initializer;
mod layer;
mod merge;
mod model;
mod norm;
mod numbering;
mod onnx;
mod param;
mod pool;
mod rescaling;
mod reshape;
mod saved;
mod sequential;
mod split_point;
mod summary;

pub use activation::Activation;
pub use conv::{Conv2D, Padding};
pub use dense::Dense;
pub use dropout::Dropout;
pub use freeze::{LayerAt, NameOrPlace};
pub use initializer::Initializer;
pub use layer::{Build, Context, Layer, LayerSpec, Mode};
pub use merge::{Add, Multiply};
pub(crate) use model::Node;
pub use model::{Model, ModelBuilder, NodeId};
pub use norm::BatchNormalization;
pub use param::Param;
pub use pool::{AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D};
pub use rescaling::Rescaling;
pub use reshape::{Flatten, Reshape};
pub use saved::{Description, LayerConfig};
pub use sequential::{Input, Sequential};
pub(crate) use split_point::SplitPoint;
pub use summary::{Row, Summary};
pub(crate) use summary::{keeps_statistics, thousands};
