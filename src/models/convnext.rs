//! ConvNeXts as tables: V1 (Liu et al. 2022) and V2 (Woo et al. 2023), as in timm's `convnext.py`.

use super::assembler::Assembler;
use super::network::Architecture;
use crate::Result;
use crate::nn::{
    Activation, Add, Conv2D, Dense, GlobalAveragePooling2D, GlobalResponseNormalization, LayerNormalization,
    LayerScale, Padding, Permute, StochasticDepth,
};

/// Initial value of the layer scales.
const LAYER_SCALE: f64 = 1e-6;
/// Ratio of the channels inside a block to its input channels.
const EXPANSION: usize = 4;

/// A network.
pub(super) struct Table {
    /// Blocks of the four stages.
    depths: [usize; 4],
    /// Channels of the first stage, doubled by each further one.
    width: usize,
    /// Whether it is V2, with global response normalisation instead of layer scales.
    is_v2: bool,
}

fn norm() -> LayerNormalization {
    LayerNormalization::default().epsilon(1e-6)
}

impl Table {
    const fn v1(depths: [usize; 4], width: usize) -> Table {
        Table { depths, width, is_v2: false }
    }

    const fn v2(depths: [usize; 4], width: usize) -> Table {
        Table { depths, width, is_v2: true }
    }

    fn features(&self, net: &mut Assembler) -> Result<()> {
        net.conv("stem_conv", &["stem.0"], Conv2D::new(net.width(self.width), 4).strides(4))?;
        net.weighted("stem_layernorm", &["stem.1"], norm().axis(1))?;
        let (all, mut number) = (self.depths.iter().sum::<usize>(), 0);
        for (stage, depth) in self.depths.into_iter().enumerate() {
            let channels = net.width(self.width << stage);
            if stage > 0 {
                let name = format!("downsampling_block_{}", stage - 1);
                let stem = |part: usize| format!("stages.{stage}.downsample.{part}");
                net.weighted(&format!("{name}_layernorm"), &[&stem(0)], norm().axis(1))?;
                let conv = Conv2D::new(channels, 2).strides(2);
                net.conv(&format!("{name}_conv"), &[&stem(1)], conv)?;
            }
            for block in 0..depth {
                let drop_rate = net.drop_connect_rate * number as f32 / all as f32;
                self.block(net, [stage, block], channels, drop_rate)?;
                number += 1;
            }
        }
        Ok(())
    }

    fn block(
        &self,
        net: &mut Assembler,
        [stage, block]: [usize; 2],
        channels: usize,
        drop_rate: f32,
    ) -> Result<()> {
        let input = net.last();
        let name = |part: &str| format!("stage_{stage}_block_{block}_{part}");
        let stem = |part: &str| format!("stages.{stage}.blocks.{block}.{part}");
        let depthwise = Conv2D::depthwise(7).padding(Padding::Explicit(3));
        net.conv(&name("depthwise_conv"), &[&stem("conv_dw")], depthwise)?;
        net.layer(&name("channels_last"), Permute::new(&[2, 3, 1]))?;
        net.weighted(&name("layernorm"), &[&stem("norm")], norm())?;
        let pointwise = |units: usize| Dense::new(units).channels_last(true);
        net.kernel(&name("pointwise_conv_1"), &[&stem("mlp.fc1")], pointwise(channels * EXPANSION))?;
        net.layer(&name("gelu"), Activation::Gelu)?;
        if self.is_v2 {
            net.weighted(&name("grn"), &[&stem("mlp.grn")], GlobalResponseNormalization::default())?;
        }
        net.kernel(&name("pointwise_conv_2"), &[&stem("mlp.fc2")], pointwise(channels))?;
        if !self.is_v2 {
            net.weighted(&name("layer_scale"), &[&stem("gamma")], LayerScale::new(LAYER_SCALE))?;
        }
        net.layer(&name("channels_first"), Permute::new(&[3, 1, 2]))?;
        // Every nonzero rate adds the layer, which rejects invalid rates.
        if drop_rate != 0.0 {
            net.layer(&name("drop"), StochasticDepth::new(drop_rate))?;
        }
        net.join(&name("add"), Add, &[input, net.last()])
    }
}

/// The normalisation of the pooled features.
fn neck(net: &mut Assembler) -> Result<()> {
    net.weighted("head_layernorm", &["head.norm"], norm())
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("avg_pool", GlobalAveragePooling2D)?;
    neck(net)?;
    net.dense("predictions", &["head.fc"], classes, last)
}

const DEFAULT: Architecture =
    Architecture { top, neck: Some(neck), stochastic_depth: true, ..Architecture::DEFAULT };

/// Defines the architectures: static, name, table.
macro_rules! architectures {
    ($($constant:ident, $name:literal, $table:expr;)*) => {$(
        pub(super) static $constant: Architecture = Architecture {
            name: $name,
            features: |net| { const TABLE: Table = $table; TABLE.features(net) },
            ..DEFAULT
        };
    )*};
}

architectures! {
    CONVNEXT_ATTO, "convnext_atto", Table::v1([2, 2, 6, 2], 40);
    CONVNEXT_FEMTO, "convnext_femto", Table::v1([2, 2, 6, 2], 48);
    CONVNEXT_PICO, "convnext_pico", Table::v1([2, 2, 6, 2], 64);
    CONVNEXT_NANO, "convnext_nano", Table::v1([2, 2, 8, 2], 80);
    CONVNEXT_TINY, "convnext_tiny", Table::v1([3, 3, 9, 3], 96);
    CONVNEXT_SMALL, "convnext_small", Table::v1([3, 3, 27, 3], 96);
    CONVNEXT_BASE, "convnext_base", Table::v1([3, 3, 27, 3], 128);
    CONVNEXTV2_ATTO, "convnextv2_atto", Table::v2([2, 2, 6, 2], 40);
    CONVNEXTV2_FEMTO, "convnextv2_femto", Table::v2([2, 2, 6, 2], 48);
    CONVNEXTV2_PICO, "convnextv2_pico", Table::v2([2, 2, 6, 2], 64);
    CONVNEXTV2_NANO, "convnextv2_nano", Table::v2([2, 2, 8, 2], 80);
    CONVNEXTV2_TINY, "convnextv2_tiny", Table::v2([3, 3, 9, 3], 96);
    CONVNEXTV2_BASE, "convnextv2_base", Table::v2([3, 3, 27, 3], 128);
}
