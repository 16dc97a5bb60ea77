//! Vision transformers as tables: ViT (Dosovitskiy et al. 2020), DeiT (Touvron et al. 2021), DeiT III (Touvron et al.
//! 2022) and DINOv2 (Oquab et al. 2023), as in timm's `vision_transformer.py`.

use super::Preprocessing;
use super::assembler::Assembler;
use super::network::Architecture;
use crate::nn::{
    Activation, Add, ClassToken, Conv2D, Dense, FirstToken, LayerNormalization, LayerScale,
    MultiHeadAttention, Permute, PositionEmbedding, Reshape, StochasticDepth,
};
use crate::{Error, Result};

/// Number of blocks.
const DEPTH: usize = 12;
/// Features of an attention head.
const HEAD_FEATURES: usize = 64;
/// Ratio of the features inside the MLP of a block to its input features.
const EXPANSION: usize = 4;

/// A network.
struct Table {
    /// Side of a patch, in pixels.
    patch: usize,
    /// Features of a token.
    width: usize,
    /// Initial value of the layer scales, if there are any.
    layer_scale: Option<f64>,
    /// Whether positions are added before the class token, which then has none.
    class_without_position: bool,
}

const TINY: Table = Table { patch: 16, width: 192, layer_scale: None, class_without_position: false };
const SMALL: Table = Table { width: 384, ..TINY };
const BASE: Table = Table { width: 768, ..TINY };
const DEIT3_SMALL: Table = Table { layer_scale: Some(1e-6), class_without_position: true, ..SMALL };
const DINOV2_SMALL: Table = Table { patch: 14, layer_scale: Some(1e-5), ..SMALL };
const DINOV2_BASE: Table = Table { width: 768, ..DINOV2_SMALL };

fn norm() -> LayerNormalization {
    LayerNormalization::default().epsilon(1e-6)
}

impl Table {
    fn features(&self, net: &mut Assembler) -> Result<()> {
        let ([height, width], features) = (net.image_sides(), net.width(self.width));
        if height % self.patch != 0 || width % self.patch != 0 {
            let found = format!("{height}x{width}");
            let expected = format!("sides that are multiples of a patch, {}", self.patch);
            return Err(Error::Argument { name: "input_shape", expected, found });
        }
        if !features.is_multiple_of(HEAD_FEATURES) {
            let expected = format!("a factor that gives a multiple of {HEAD_FEATURES} features");
            return Err(Error::Argument { name: "alpha", expected, found: format!("{features} features") });
        }
        let grid = [height / self.patch, width / self.patch];
        let conv = Conv2D::new(features, self.patch).strides(self.patch);
        net.conv("patch_embedding", &["patch_embed.proj"], conv)?;
        net.layer("patches", Reshape::new((features, grid[0] * grid[1])))?;
        net.layer("tokens", Permute::new(&[2, 1]))?;
        if !self.class_without_position {
            net.weighted("class_token", &["cls_token"], ClassToken)?;
        }
        net.positions("position_embedding", "pos_embed", grid, PositionEmbedding)?;
        if self.class_without_position {
            net.weighted("class_token", &["cls_token"], ClassToken)?;
        }
        for block in 0..DEPTH {
            let drop_rate = net.drop_connect_rate * block as f32 / DEPTH as f32;
            let attention = MultiHeadAttention::new(features / HEAD_FEATURES);
            let stem = |part: &str| format!("blocks.{block}.{part}");
            let name = |part: &str| format!("block{}_{part}", block + 1);
            let input = net.last();
            net.weighted(&name("layernorm1"), &[&stem("norm1")], norm())?;
            net.attention(&name("attention"), &stem("attn"), attention)?;
            self.join(net, &name("1"), &stem("ls1.gamma"), drop_rate, &name("attention_add"), input)?;
            let input = net.last();
            net.weighted(&name("layernorm2"), &[&stem("norm2")], norm())?;
            net.kernel(&name("mlp_dense1"), &[&stem("mlp.fc1")], Dense::new(features * EXPANSION))?;
            net.layer(&name("mlp_gelu"), Activation::Gelu)?;
            net.kernel(&name("mlp_dense2"), &[&stem("mlp.fc2")], Dense::new(features))?;
            self.join(net, &name("2"), &stem("ls2.gamma"), drop_rate, &name("mlp_add"), input)?;
        }
        net.weighted("layernorm", &["norm"], norm())
    }

    /// Adds the end of a residual branch: layer scale, stochastic depth, and the sum with the input.
    fn join(
        &self,
        net: &mut Assembler,
        suffix: &str,
        stem: &str,
        drop_rate: f32,
        sum: &str,
        input: crate::nn::NodeId,
    ) -> Result<()> {
        let name = |part: &str| suffix.replacen('_', &format!("_{part}"), 1);
        if let Some(init_value) = self.layer_scale {
            net.weighted(&name("layer_scale"), &[stem], LayerScale::new(init_value))?;
        }
        // Every nonzero rate adds the layer, which rejects invalid rates.
        if drop_rate != 0.0 {
            net.layer(&name("drop"), StochasticDepth::new(drop_rate))?;
        }
        net.join(sum, Add, &[input, net.last()])
    }
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("class_features", FirstToken)?;
    net.dense("predictions", &["head"], classes, last)
}

const DEFAULT: Architecture =
    Architecture { top, tokens: true, stochastic_depth: true, ..Architecture::DEFAULT };

/// Defines the architectures: static, name, table, preprocessing, side of the images.
macro_rules! architectures {
    ($($constant:ident, $name:literal, $table:expr, $preprocessing:expr, $side:literal;)*) => {$(
        pub(super) static $constant: Architecture = Architecture {
            name: $name,
            features: |net| $table.features(net),
            preprocessing: $preprocessing,
            side: $side,
            ..DEFAULT
        };
    )*};
}

architectures! {
    VIT_TINY, "vit_tiny_patch16_224", TINY, Preprocessing::TF, 224;
    VIT_SMALL, "vit_small_patch16_224", SMALL, Preprocessing::TF, 224;
    VIT_BASE, "vit_base_patch16_224", BASE, Preprocessing::TF, 224;
    DEIT_TINY, "deit_tiny_patch16_224", TINY, Preprocessing::TORCH, 224;
    DEIT_SMALL, "deit_small_patch16_224", SMALL, Preprocessing::TORCH, 224;
    DEIT_BASE, "deit_base_patch16_224", BASE, Preprocessing::TORCH, 224;
    DEIT3_SMALL_16, "deit3_small_patch16_224", DEIT3_SMALL, Preprocessing::TORCH, 224;
    DINOV2_SMALL_14, "vit_small_patch14_dinov2", DINOV2_SMALL, Preprocessing::TORCH, 518;
    DINOV2_BASE_14, "vit_base_patch14_dinov2", DINOV2_BASE, Preprocessing::TORCH, 518;
}
