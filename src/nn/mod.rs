//! Layers, and the models that are made of them.
//!
//! A layer is described first ([`Dense`], [`Flatten`], …) and built when a model puts it in its
//! place and so knows the shape of its input: see [`Layer`] and [`Build`].

mod activation;
mod add;
mod conv;
mod dense;
mod dropout;
mod flatten;
mod freeze;
mod initializer;
mod layer;
mod model;
mod norm;
mod param;
mod pool;
mod sequential;
mod summary;

pub use activation::Activation;
pub use add::Add;
pub use conv::{Conv2D, Padding};
pub use dense::Dense;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use initializer::Initializer;
pub use layer::{Build, Context, Layer, LayerSpec, Mode};
pub use model::{Model, ModelBuilder, NodeId};
pub use norm::BatchNormalization;
pub use param::Param;
pub use pool::{GlobalAveragePooling2D, MaxPooling2D};
pub use sequential::{Input, Sequential};
pub use summary::{Row, Summary};
