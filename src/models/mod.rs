//! Networks that come pretrained: each an architecture as data, with Keras's layer names.

mod assembler;
mod network;
mod preprocessing;
mod resnet50;
mod vgg16;

pub(crate) use assembler::TensorStem;
pub use network::Network;
pub use preprocessing::preprocess_input;
pub use resnet50::ResNet50;
pub use vgg16::Vgg16;
