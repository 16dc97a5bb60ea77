//! Networks with pretrained weights, with Keras's layer names.

mod assembler;
mod efficientnet;
mod labels;
mod network;
mod resnet50;
mod vgg16;

pub use efficientnet::{EfficientNetB0, EfficientNetLite0};
pub use labels::Decoded;
pub use network::{Network, Pooling};
pub use resnet50::ResNet50;
pub use vgg16::{Vgg16, Vgg16Bn};

pub use crate::nn::{Preprocessing, preprocess_input};
