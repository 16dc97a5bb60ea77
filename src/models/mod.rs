//! Networks that come pretrained: each an architecture as data, with Keras's layer names.

mod assembler;
mod efficientnet;
mod labels;
mod network;
mod preprocessing;
mod resnet50;
mod vgg16;

pub(crate) use assembler::TensorStems;
pub use efficientnet::{EfficientNetB0, EfficientNetLite0};
pub use labels::Decoded;
pub(crate) use labels::Labels;
pub use network::{Network, Pooling};
pub use preprocessing::{Preprocessing, preprocess_input};
pub use resnet50::ResNet50;
pub use vgg16::{Vgg16, Vgg16Bn};
