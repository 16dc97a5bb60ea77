//! Keras's names for the layers of networks of inverted residual blocks.

/// Which of Keras's networks the layers are named after.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Names {
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
}

impl Names {
    /// The first convolution, its batch normalisation and its activation.
    pub(super) fn stem(self) -> [&'static str; 3] {
        match self {
            Names::EfficientNet => ["stem_conv", "stem_bn", "stem_activation"],
            Names::MobileNetV2 => ["Conv1", "bn_Conv1", "Conv1_relu"],
            Names::MobileNetV3 => ["conv", "conv_bn", "conv_activation"],
        }
    }

    /// The last convolution before the pooling, its batch normalisation and its activation.
    pub(super) fn head(self) -> [&'static str; 3] {
        match self {
            Names::EfficientNet => ["top_conv", "top_bn", "top_activation"],
            Names::MobileNetV2 => ["Conv_1", "Conv_1_bn", "out_relu"],
            Names::MobileNetV3 => ["conv_1", "conv_1_bn", "conv_1_activation"],
        }
    }

    /// The layer that classifies.
    pub(super) fn classifier(self) -> &'static str {
        match self {
            Names::EfficientNet | Names::MobileNetV2 => "predictions",
            Names::MobileNetV3 => "logits",
        }
    }

    /// Prefix of a block. EfficientNets count the blocks of each stage by letters, MobileNets count all blocks by numbers.
    pub(super) fn block(self, stage: usize, in_stage: usize, number: usize) -> String {
        match (self, number) {
            (Names::EfficientNet, _) => format!("block{stage}{}", char::from(b'a' + in_stage as u8)),
            (_, 0) => "expanded_conv".into(),
            (Names::MobileNetV2, _) => format!("block_{number}"),
            (Names::MobileNetV3, _) => format!("expanded_conv_{number}"),
        }
    }

    /// Convolution, batch normalisation and activation that expand a block's channels.
    pub(super) fn expand(self) -> [&'static str; 3] {
        match self {
            Names::EfficientNet => ["expand_conv", "expand_bn", "expand_activation"],
            Names::MobileNetV2 => ["expand", "expand_BN", "expand_relu"],
            Names::MobileNetV3 => ["expand", "expand_bn", "expand_activation"],
        }
    }

    /// Depthwise convolution, batch normalisation and activation.
    pub(super) fn depthwise(self) -> [&'static str; 3] {
        match self {
            Names::EfficientNet => ["dwconv", "bn", "activation"],
            Names::MobileNetV2 => ["depthwise", "depthwise_BN", "depthwise_relu"],
            Names::MobileNetV3 => ["depthwise", "depthwise_bn", "depthwise_activation"],
        }
    }

    /// The last convolution of a block and its batch normalisation.
    pub(super) fn project(self) -> [&'static str; 2] {
        match self {
            Names::EfficientNet => ["project_conv", "project_bn"],
            Names::MobileNetV2 => ["project", "project_BN"],
            Names::MobileNetV3 => ["project", "project_bn"],
        }
    }

    /// Squeeze and excitation: pooling, reshape, the two convolutions, and the product.
    pub(super) fn squeeze(self) -> [&'static str; 5] {
        match self {
            Names::MobileNetV3 => [
                "squeeze_excite_avg_pool",
                "squeeze_excite_reshape",
                "squeeze_excite_conv",
                "squeeze_excite_conv_1",
                "squeeze_excite_mul",
            ],
            _ => ["se_squeeze", "se_reshape", "se_reduce", "se_expand", "se_excite"],
        }
    }
}
