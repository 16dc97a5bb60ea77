//! Networks with pretrained weights. Layers have Keras's names, where Keras has the network.

mod architectures;
mod assembler;
mod constructors;
mod convnext;
mod densenet;
mod efficientnet;
mod inverted_residual;
mod labels;
mod layer_names;
mod mobilenet;
mod network;
mod registry;
mod regnet;
mod residual;
mod squeeze;
mod tensorflow_form;
mod vgg16;
mod vision_transformer;

pub use constructors::{
    ConvNeXtTiny, DenseNet121, EfficientNetV2S, MobileNetV2, MobileNetV3Large, MobileNetV3Small, ResNet18,
    ResNet34, ResNet101, VitSmall, VitTiny,
};
pub use efficientnet::{EfficientNetB0, EfficientNetLite0};
pub use labels::Decoded;
pub use network::{Network, Pooling};
pub use registry::{ModelInfo, Models, models};
pub use residual::ResNet50;
pub use vgg16::{Vgg16, Vgg16Bn};

pub use crate::nn::{Preprocessing, preprocess_input};
