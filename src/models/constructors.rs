//! Constructors of the networks that are most often fine-tuned. [`Network::named`] configures all others.

use super::convnext::CONVNEXT_TINY;
use super::densenet::DENSENET121;
use super::efficientnet::EFFICIENTNET_V2_S;
use super::mobilenet::{MOBILENET_V2, MOBILENET_V3_LARGE, MOBILENET_V3_SMALL};
use super::network::Network;
use super::residual::{RESNET18, RESNET34, RESNET101};
use super::vision_transformer::{VIT_SMALL, VIT_TINY};
use crate::weights::Weights;

/// Defines unit types with a constructor.
macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident, $architecture:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl $name {
            /// Configures the network; [`Network::build`] builds it.
            #[allow(clippy::new_ret_no_self)]
            pub fn new(weights: Weights) -> Network {
                Network::new(&$architecture, weights)
            }
        }
    )*};
}

constructors! {
    /// ResNet18: residual blocks of two 3x3 convolutions. 11,689,512 weights with its top.
    ResNet18, RESNET18;
    /// ResNet34: residual blocks of two 3x3 convolutions. 21,797,672 weights with its top.
    ResNet34, RESNET34;
    /// ResNet101: a deeper [`ResNet50`](super::ResNet50). 44,549,160 weights with its top.
    ResNet101, RESNET101;
    /// DenseNet121: each layer takes the outputs of all earlier layers of its block. 7,978,856 weights with its top.
    DenseNet121, DENSENET121;
    /// MobileNetV2: inverted residual blocks, for small devices. 3,504,872 weights with its top. Layers have Keras's
    /// names: `Conv1`, `block_1_expand` to `block_16_project_BN`, `Conv_1`, then `avg_pool`, `predictions`.
    MobileNetV2, MOBILENET_V2;
    /// MobileNetV3-Small, for the smallest devices. 2,542,856 weights with its top. Layers have Keras's names, as those of
    /// [`MobileNetV3Large`].
    MobileNetV3Small, MOBILENET_V3_SMALL;
    /// MobileNetV3-Large, for small devices. 5,483,032 weights with its top. Layers have Keras's names: `conv`,
    /// `expanded_conv_1_expand` to `expanded_conv_14_project_bn`, `conv_1`, then `avg_pool`, `conv_2`, `logits`.
    MobileNetV3Large, MOBILENET_V3_LARGE;
    /// EfficientNetV2-S, for images of 300x300 pixels. 21,458,488 weights with its top.
    EfficientNetV2S, EFFICIENTNET_V2_S;
    /// ConvNeXt-Tiny: a convolutional network with the design of a transformer. 28,589,128 weights with its top.
    ///
    /// ```no_run
    /// use headstart::prelude::*;
    /// let base = ConvNeXtTiny::new(Weights::named("convnext_tiny.in12k_ft_in1k")).include_top(false);
    /// let base = base.pooling(Pooling::Avg).build()?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ConvNeXtTiny, CONVNEXT_TINY;
    /// ViT-Tiny with patches of 16x16 pixels, a vision transformer. 5,717,416 weights with its top.
    VitTiny, VIT_TINY;
    /// ViT-Small with patches of 16x16 pixels, a vision transformer. 22,050,664 weights with its top.
    ///
    /// Without its top the output is the tokens, `[N, tokens, 384]`; `.pooling(Pooling::Token)` selects the class
    /// token.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = VitSmall::new(Weights::Random(0)).include_top(false).input_shape((3, 64, 64));
    /// let base = base.pooling(Pooling::Token).build()?;
    /// assert_eq!(base.output_shape(), [384]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    VitSmall, VIT_SMALL;
}
