//! RegNetY as tables (Radosavovic et al. 2020): residual blocks of grouped convolutions with squeeze and excitation,
//! as in timm's `regnet.py`.

use super::assembler::Assembler;
use super::layer_names::Names;
use super::network::Architecture;
use super::squeeze::Squeeze;
use crate::Result;
use crate::nn::{Activation, Add, BatchNormalization, Conv2D, GlobalAveragePooling2D, Padding};

/// Channels of the stem.
const STEM: usize = 32;

/// A network.
struct Table {
    /// Blocks and channels of each stage.
    stages: [(usize, usize); 4],
    /// Channels of a group.
    group: usize,
}

/// Adds a convolution and its batch normalisation, with timm's names `stem.conv` and `stem.bn`.
fn step(net: &mut Assembler, name: &str, stem: &str, conv: Conv2D) -> Result<()> {
    let norm = BatchNormalization::default().momentum(0.9).epsilon(1e-5);
    net.conv(&format!("{name}_conv"), &[&format!("{stem}.conv")], conv.use_bias(false))?;
    net.batch_norm(&format!("{name}_bn"), &[&format!("{stem}.bn")], norm)
}

impl Table {
    fn features(&self, net: &mut Assembler) -> Result<()> {
        let mut inputs = net.width(STEM);
        let conv = Conv2D::new(inputs, 3).strides(2).padding(Padding::Explicit(1));
        step(net, "stem", "stem", conv)?;
        net.layer("stem_relu", Activation::Relu)?;
        for (stage, (blocks, width)) in (1..).zip(self.stages) {
            // The number of groups is the published one, so that a width multiplier changes the groups' channels.
            let groups = width / self.group;
            let width = net.width(self.group) * groups;
            for block in 1..=blocks {
                let names = [format!("stage{stage}_block{block}"), format!("s{stage}.b{block}")];
                self.block(net, names, [inputs, width], groups, block == 1)?;
                inputs = width;
            }
        }
        Ok(())
    }

    fn block(
        &self,
        net: &mut Assembler,
        [name, stem]: [String; 2],
        [inputs, width]: [usize; 2],
        groups: usize,
        first: bool,
    ) -> Result<()> {
        let (input, stride) = (net.last(), if first { 2 } else { 1 });
        let mut shortcut = input;
        if first {
            let conv = Conv2D::new(width, 1).strides(stride);
            step(net, &format!("{name}_0"), &format!("{stem}.downsample"), conv)?;
            shortcut = net.last();
            net.branch_from(input);
        }
        let part = |part: &str| (format!("{name}_{part}"), format!("{stem}.conv{part}"));
        let (layer, conv) = part("1");
        step(net, &layer, &conv, Conv2D::new(width, 1))?;
        net.layer(&format!("{layer}_relu"), Activation::Relu)?;
        let (layer, conv) = part("2");
        let grouped = Conv2D::new(width, 3).groups(groups).strides(stride).padding(Padding::Explicit(1));
        step(net, &layer, &conv, grouped)?;
        net.layer(&format!("{layer}_relu"), Activation::Relu)?;
        // A quarter of the input channels.
        let narrow = ((inputs as f64 / 4.0).round_ties_even() as usize).max(1);
        let stems = ["fc1", "fc2"].map(|part| format!("{stem}.se.{part}"));
        let (inner, gate) = (Activation::Relu, Activation::Sigmoid);
        Squeeze {
            name: &name,
            layers: Names::EfficientNet.squeeze(),
            stems,
            channels: width,
            narrow,
            inner,
            gate,
        }
        .add(net)?;
        let (layer, conv) = part("3");
        step(net, &layer, &conv, Conv2D::new(width, 1))?;
        net.join(&format!("{name}_add"), Add, &[shortcut, net.last()])?;
        net.layer(&format!("{name}_out"), Activation::Relu)
    }
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("avg_pool", GlobalAveragePooling2D)?;
    net.dense("predictions", &["head.fc"], classes, last)
}

/// Defines the architectures: static, name, stages, channels of a group.
macro_rules! architectures {
    ($($constant:ident, $name:literal, $stages:expr, $group:literal;)*) => {$(
        pub(super) static $constant: Architecture = Architecture {
            name: $name,
            features: |net| Table { stages: $stages, group: $group }.features(net),
            top,
            ..Architecture::DEFAULT
        };
    )*};
}

architectures! {
    REGNETY_002, "regnety_002", [(1, 24), (1, 56), (4, 152), (7, 368)], 8;
    REGNETY_004, "regnety_004", [(1, 48), (3, 104), (6, 208), (6, 440)], 8;
    REGNETY_006, "regnety_006", [(1, 48), (3, 112), (7, 256), (4, 608)], 16;
    REGNETY_008, "regnety_008", [(1, 64), (3, 128), (8, 320), (2, 768)], 16;
    REGNETY_016, "regnety_016", [(2, 48), (6, 120), (17, 336), (2, 888)], 24;
    REGNETY_032, "regnety_032", [(2, 72), (5, 216), (13, 576), (1, 1512)], 24;
}
