//! Networks of inverted residual blocks, as tables: EfficientNets and MobileNets, as in timm's `efficientnet.py` and
//! `mobilenetv3.py`.

use super::assembler::{Assembler, eights};
use super::squeeze::Squeeze;
use crate::Result;
use crate::nn::{
    Activation, Add, BatchNormalization, Conv2D, Dense, Dropout, GlobalAveragePooling2D, Padding,
};

/// Kinds of blocks; timm's abbreviations are in brackets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// One convolution (`cn`).
    Plain,
    /// Depthwise convolution and projection (`ds`).
    Separable,
    /// Convolution that expands the channels, and projection (`er`).
    Fused,
    /// Expansion, depthwise convolution, and projection (`ir`).
    Inverted,
}

/// Equal blocks in a row.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    /// Number of the stage, from 1. Blocks with the same number follow each other in one stage.
    pub(super) stage: usize,
    pub(super) kind: Kind,
    pub(super) count: usize,
    /// Size of the kernel.
    pub(super) kernel: usize,
    /// Stride of the first block.
    pub(super) stride: usize,
    /// Ratio of the inner channels to the input channels.
    pub(super) expansion: f64,
    /// Output channels.
    pub(super) outputs: usize,
    /// Whether there is squeeze and excitation.
    pub(super) squeeze: bool,
    /// Whether the activation is ReLU instead of the network's.
    pub(super) relu: bool,
}

/// Reduction of the channels in squeeze and excitation.
#[derive(Clone, Copy)]
pub(super) enum SqueezeForm {
    /// To a quarter of the block's input channels, with the network's activation and a sigmoid.
    OfInput,
    /// To a quarter of the inner channels, a multiple of eight, with ReLU and a hard sigmoid.
    OfInside,
}

/// A network.
pub(super) struct Table {
    pub(super) blocks: &'static [Blocks],
    pub(super) stem: usize,
    /// Channels of the last convolution.
    pub(super) head: usize,
    /// Whether the last convolution follows the pooling.
    pub(super) head_after_pooling: bool,
    /// Factors of all channels and of the number of blocks.
    pub(super) width: f64,
    pub(super) depth: f64,
    pub(super) activation: Activation,
    pub(super) squeeze: SqueezeForm,
    /// Whether padding is TensorFlow's "same", with the odd row at the bottom; otherwise PyTorch's symmetric padding.
    pub(super) same: bool,
    pub(super) epsilon: f64,
}

/// Sizes of one block.
struct Sizes {
    stride: usize,
    inputs: usize,
    inside: usize,
    outputs: usize,
    drop_rate: f32,
}

impl Table {
    fn channels(&self, net: &Assembler, published: usize) -> usize {
        net.width_in_eights(published as f64 * self.width)
    }

    fn padding(&self, kernel: usize) -> Padding {
        if self.same { Padding::Same } else { Padding::Explicit(kernel / 2) }
    }

    fn conv(&self, filters: usize, kernel: usize, stride: usize) -> Conv2D {
        Conv2D::new(filters, kernel).strides(stride).padding(self.padding(kernel))
    }

    /// Adds a convolution and its batch normalisation. `stems` are the names of their weights in timm and in
    /// efficientnet-lite-pytorch.
    fn step(
        &self,
        net: &mut Assembler,
        names: [&str; 2],
        stems: [&[&str; 2]; 2],
        conv: Conv2D,
    ) -> Result<()> {
        let norm = BatchNormalization::default().momentum(0.99).epsilon(self.epsilon);
        net.conv(names[0], stems[0], conv.use_bias(false))?;
        net.batch_norm(names[1], stems[1], norm)
    }

    /// Adds a block, with a shortcut if input and output have the same shape.
    fn block(
        &self,
        net: &mut Assembler,
        row: &Blocks,
        name: &str,
        (timm, lite): (String, String),
        sizes: &Sizes,
    ) -> Result<()> {
        let &Sizes { stride, inputs, inside, outputs, drop_rate } = sizes;
        let (input, activation) = (net.last(), if row.relu { Activation::Relu } else { self.activation });
        let add = |net: &mut Assembler, names: [&str; 2], stems: [[&str; 2]; 2], conv: Conv2D| {
            let [[a, b], [c, d]] =
                stems.map(|[ours, theirs]| [format!("{timm}.{ours}"), format!("{lite}.{theirs}")]);
            let names = names.map(|layer| format!("{name}_{layer}"));
            self.step(net, [&names[0], &names[1]], [&[&a, &b], &[&c, &d]], conv)
        };
        let mut norms = ["bn1", "bn2", "bn3"].into_iter();
        let mut next = || norms.next().unwrap_or_default();
        if row.kind == Kind::Plain {
            let stems = [["conv", "_expand_conv"], [next(), "_bn0"]];
            add(net, ["expand_conv", "expand_bn"], stems, self.conv(outputs, row.kernel, stride))?;
            net.layer(&format!("{name}_expand_activation"), activation)?;
        } else {
            let (expand, conv) = match row.kind {
                Kind::Fused => ("conv_exp", self.conv(inside, row.kernel, stride)),
                _ => ("conv_pw", Conv2D::new(inside, 1)),
            };
            if row.kind != Kind::Separable {
                let stems = [[expand, "_expand_conv"], [next(), "_bn0"]];
                add(net, ["expand_conv", "expand_bn"], stems, conv)?;
                net.layer(&format!("{name}_expand_activation"), activation)?;
            }
            if row.kind != Kind::Fused {
                let conv = Conv2D::depthwise(row.kernel).strides(stride).padding(self.padding(row.kernel));
                add(net, ["dwconv", "bn"], [["conv_dw", "_depthwise_conv"], [next(), "_bn1"]], conv)?;
                net.layer(&format!("{name}_activation"), activation)?;
            }
            if row.squeeze {
                let (narrow, inner, gate) = match self.squeeze {
                    SqueezeForm::OfInput => ((inputs / 4).max(1), self.activation, Activation::Sigmoid),
                    SqueezeForm::OfInside => {
                        (eights(inside as f64 / 4.0), Activation::Relu, Activation::HardSigmoid)
                    }
                };
                let stems = ["reduce", "expand"].map(|part| format!("{timm}.se.conv_{part}"));
                Squeeze { name, stems, channels: inside, narrow, inner, gate }.add(net)?;
            }
            let project = if row.kind == Kind::Separable { "conv_pw" } else { "conv_pwl" };
            let stems = [[project, "_project_conv"], [next(), "_bn2"]];
            add(net, ["project_conv", "project_bn"], stems, Conv2D::new(outputs, 1))?;
        }
        if stride != 1 || inputs != outputs {
            return Ok(());
        }
        // Every nonzero rate adds the layer, which rejects invalid rates.
        if drop_rate != 0.0 {
            net.layer(&format!("{name}_drop"), Dropout::new(drop_rate).noise_shape((1, 1, 1)))?;
        }
        net.join(&format!("{name}_add"), Add, &[net.last(), input])
    }

    pub(super) fn features(&self, net: &mut Assembler) -> Result<()> {
        let mut inputs = self.channels(net, self.stem);
        let stems: [&[&str; 2]; 2] = [&["conv_stem", "_conv_stem"], &["bn1", "_bn0"]];
        self.step(net, ["stem_conv", "stem_bn"], stems, self.conv(inputs, 3, 2))?;
        net.layer("stem_activation", self.activation)?;
        let count = |row: &Blocks| (row.count as f64 * self.depth).ceil() as usize;
        let all: usize = self.blocks.iter().map(count).sum();
        let (mut number, mut in_stage, mut stage) = (0, 0, 0);
        for row in self.blocks {
            if row.stage != stage {
                (stage, in_stage) = (row.stage, 0);
            }
            let outputs = self.channels(net, row.outputs);
            for block in 0..count(row) {
                let name = format!("block{stage}{}", char::from(b'a' + in_stage as u8));
                // timm numbers blocks within each stage, efficientnet-lite-pytorch across all stages.
                let stems = (format!("blocks.{}.{in_stage}", stage - 1), format!("_blocks.{number}"));
                let inside = match row.kind {
                    Kind::Separable | Kind::Plain => inputs,
                    _ => eights(inputs as f64 * row.expansion),
                };
                let drop_rate = net.drop_connect_rate * number as f32 / all as f32;
                let stride = if block == 0 { row.stride } else { 1 };
                self.block(net, row, &name, stems, &Sizes { stride, inputs, inside, outputs, drop_rate })?;
                (inputs, number, in_stage) = (outputs, number + 1, in_stage + 1);
            }
        }
        if self.head_after_pooling {
            return Ok(());
        }
        let head = Conv2D::new(self.channels(net, self.head), 1);
        self.step(net, ["top_conv", "top_bn"], [&["conv_head", "_conv_head"], &["bn2", "_bn1"]], head)?;
        net.layer("top_activation", self.activation)
    }

    pub(super) fn top(&self, net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
        net.layer("avg_pool", GlobalAveragePooling2D)?;
        if self.head_after_pooling {
            let units = self.channels(net, self.head);
            net.weighted("top_conv", &["conv_head"], Dense::new(units).activation(self.activation))?;
        }
        net.layer("top_dropout", Dropout::new(0.2))?;
        net.dense("predictions", &["classifier", "_fc"], classes, last)
    }
}
