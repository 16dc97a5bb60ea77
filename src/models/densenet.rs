//! DenseNet121 (Huang et al. 2016), as in torchvision's `densenet.py`, with Keras's layer names.

use super::assembler::Assembler;
use super::network::Architecture;
use crate::Result;
use crate::nn::{
    Activation, AveragePooling2D, BatchNormalization, Concatenate, Conv2D, GlobalAveragePooling2D,
    MaxPooling2D, Padding,
};

/// Growth rate: channels that each layer of a block adds.
const GROWTH: usize = 32;
/// Ratio of the channels between the two convolutions of a layer to the growth rate.
const BOTTLENECK: usize = 4;
/// Channels of the stem.
const STEM: usize = 64;
/// Layers of each block.
const BLOCKS: [usize; 4] = [6, 12, 24, 16];

pub(super) static DENSENET121: Architecture =
    Architecture { name: "densenet121", features, top, ..Architecture::DEFAULT };

fn norm_and_relu(net: &mut Assembler, name: &str, stem: &str) -> Result<()> {
    let norm = BatchNormalization::default().momentum(0.9).epsilon(1e-5);
    net.batch_norm(&format!("{name}_bn"), &[stem], norm)?;
    net.layer(&format!("{name}_relu"), Activation::Relu)
}

fn features(net: &mut Assembler) -> Result<()> {
    let mut channels = net.width(STEM);
    let conv = Conv2D::new(channels, 7).strides(2).padding(Padding::Explicit(3)).use_bias(false);
    net.conv("conv1_conv", &["features.conv0"], conv)?;
    norm_and_relu(net, "conv1", "features.norm0")?;
    net.layer("pool1", MaxPooling2D::new(3).strides(2).padding(Padding::Explicit(1)))?;
    let growth = net.width(GROWTH);
    for (block, layers) in (1..).zip(BLOCKS) {
        for layer in 1..=layers {
            let name = format!("conv{}_block{layer}", block + 1);
            let stem = |part: &str| format!("features.denseblock{block}.denselayer{layer}.{part}");
            let input = net.last();
            norm_and_relu(net, &format!("{name}_0"), &stem("norm1"))?;
            let conv = Conv2D::new(growth * BOTTLENECK, 1).use_bias(false);
            net.conv(&format!("{name}_1_conv"), &[&stem("conv1")], conv)?;
            norm_and_relu(net, &format!("{name}_1"), &stem("norm2"))?;
            let conv = Conv2D::new(growth, 3).padding(Padding::Explicit(1)).use_bias(false);
            net.conv(&format!("{name}_2_conv"), &[&stem("conv2")], conv)?;
            net.join(&format!("{name}_concat"), Concatenate::default(), &[input, net.last()])?;
        }
        channels += layers * growth;
        if block < BLOCKS.len() {
            // A transition, which halves the channels and the sides.
            let (name, stem) = (format!("pool{}", block + 1), format!("features.transition{block}"));
            channels /= 2;
            norm_and_relu(net, &name, &format!("{stem}.norm"))?;
            let conv = Conv2D::new(channels, 1).use_bias(false);
            net.conv(&format!("{name}_conv"), &[&format!("{stem}.conv")], conv)?;
            net.layer(&format!("{name}_pool"), AveragePooling2D::new(2))?;
        }
    }
    let norm = BatchNormalization::default().momentum(0.9).epsilon(1e-5);
    net.batch_norm("bn", &["features.norm5"], norm)?;
    net.layer("relu", Activation::Relu)
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("avg_pool", GlobalAveragePooling2D)?;
    net.dense("predictions", &["classifier"], classes, last)
}
