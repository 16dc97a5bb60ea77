//! Networks of inverted residual blocks, as tables: EfficientNets and MobileNets, as in timm's `efficientnet.py` and
//! `mobilenetv3.py`.

use super::assembler::{Assembler, round_to_eight};
use super::layer_names::Names;
use super::squeeze::Squeeze;
use crate::Result;
use crate::nn::{
    Activation, Add, BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, Padding,
    Reshape,
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
    /// Output channels. A plain convolution with an expansion has the expansion times its input channels instead.
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
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) blocks: &'static [Blocks],
    /// The names of the layers.
    pub(super) names: Names,
    /// Channels of the first convolution.
    pub(super) stem: usize,
    /// Whether the first convolution keeps its channels in narrower and wider networks.
    pub(super) fixed_stem: bool,
    /// Channels of the last convolution.
    pub(super) head: usize,
    /// Whether the last convolution keeps its channels in narrower networks.
    pub(super) wide_head: bool,
    /// Whether the last convolution follows the pooling.
    pub(super) head_after_pooling: bool,
    /// Whether the layers after the pooling are convolutions, as in Keras's MobileNetV3, instead of dense layers.
    pub(super) convolutional_top: bool,
    /// Factors of all channels and of the number of blocks.
    pub(super) width: f64,
    pub(super) depth: f64,
    pub(super) activation: Activation,
    pub(super) squeeze: SqueezeForm,
    /// Whether padding is TensorFlow's "same", with the odd row at the bottom; otherwise PyTorch's symmetric padding.
    pub(super) same: bool,
    pub(super) epsilon: f64,
    /// Momentum of the moving statistics.
    pub(super) momentum: f64,
    /// Rate of the dropout before the classes. With 0 there is no dropout.
    pub(super) top_dropout: f32,
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

    /// Channels of the last convolution.
    fn head_channels(&self, net: &Assembler) -> usize {
        let channels = self.channels(net, self.head);
        if self.wide_head { channels.max(self.head) } else { channels }
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
        let norm = BatchNormalization::default().momentum(self.momentum).epsilon(self.epsilon);
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
        let names = self.names;
        let (input, activation) = (net.last(), if row.relu { Activation::Relu } else { self.activation });
        let named = |layer: &str| format!("{name}_{layer}");
        let add = |net: &mut Assembler, layers: [&str; 2], stems: [[&str; 2]; 2], conv: Conv2D| {
            let [[a, b], [c, d]] =
                stems.map(|[in_timm, in_lite]| [format!("{timm}.{in_timm}"), format!("{lite}.{in_lite}")]);
            self.step(net, layers, [&[&a, &b], &[&c, &d]], conv)
        };
        let mut norms = ["bn1", "bn2", "bn3"].into_iter();
        let mut next = || norms.next().unwrap_or_default();
        if row.kind == Kind::Plain {
            let stems = [["conv", "_expand_conv"], [next(), "_bn0"]];
            // The only plain convolution of a MobileNetV3 follows the blocks.
            let [conv, norm, active] = match names {
                Names::MobileNetV3 => names.head().map(str::to_owned),
                _ => names.expand().map(named),
            };
            add(net, [&conv, &norm], stems, self.conv(outputs, row.kernel, stride))?;
            net.layer(&active, activation)?;
        } else {
            let (expand, conv) = match row.kind {
                Kind::Fused => ("conv_exp", self.conv(inside, row.kernel, stride)),
                _ => ("conv_pw", Conv2D::new(inside, 1)),
            };
            if row.kind != Kind::Separable {
                let stems = [[expand, "_expand_conv"], [next(), "_bn0"]];
                let [layer, norm, active] = names.expand().map(named);
                add(net, [&layer, &norm], stems, conv)?;
                net.layer(&active, activation)?;
            }
            if row.kind != Kind::Fused {
                let conv = Conv2D::depthwise(row.kernel).strides(stride).padding(self.padding(row.kernel));
                let [layer, norm, active] = names.depthwise().map(named);
                add(net, [&layer, &norm], [["conv_dw", "_depthwise_conv"], [next(), "_bn1"]], conv)?;
                net.layer(&active, activation)?;
            }
            if row.squeeze {
                let (narrow, inner, gate) = match self.squeeze {
                    SqueezeForm::OfInput => ((inputs / 4).max(1), self.activation, Activation::Sigmoid),
                    SqueezeForm::OfInside => {
                        (round_to_eight(inside as f64 / 4.0), Activation::Relu, Activation::HardSigmoid)
                    }
                };
                let stems = ["reduce", "expand"].map(|part| format!("{timm}.se.conv_{part}"));
                let layers = names.squeeze();
                Squeeze { name, layers, stems, channels: inside, narrow, inner, gate }.add(net)?;
            }
            let project = if row.kind == Kind::Separable { "conv_pw" } else { "conv_pwl" };
            let stems = [[project, "_project_conv"], [next(), "_bn2"]];
            let [layer, norm] = names.project().map(named);
            add(net, [&layer, &norm], stems, Conv2D::new(outputs, 1))?;
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
        let mut inputs = if self.fixed_stem { self.stem } else { self.channels(net, self.stem) };
        let stems: [&[&str; 2]; 2] = [&["conv_stem", "_conv_stem"], &["bn1", "_bn0"]];
        let [conv, norm, active] = self.names.stem();
        self.step(net, [conv, norm], stems, self.conv(inputs, 3, 2))?;
        net.layer(active, self.activation)?;
        let count = |row: &Blocks| (row.count as f64 * self.depth).ceil() as usize;
        let all: usize = self.blocks.iter().map(count).sum();
        let (mut number, mut in_stage, mut stage) = (0, 0, 0);
        for row in self.blocks {
            if row.stage != stage {
                (stage, in_stage) = (row.stage, 0);
            }
            for block in 0..count(row) {
                let name = self.names.block(stage, in_stage, number);
                let outputs = match row.kind {
                    Kind::Plain if row.expansion != 1.0 => round_to_eight(inputs as f64 * row.expansion),
                    _ => self.channels(net, row.outputs),
                };
                // timm numbers blocks within each stage, efficientnet-lite-pytorch across all stages.
                let stems = (format!("blocks.{}.{in_stage}", stage - 1), format!("_blocks.{number}"));
                let inside = match row.kind {
                    Kind::Separable | Kind::Plain => inputs,
                    _ => round_to_eight(inputs as f64 * row.expansion),
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
        let [conv, norm, active] = self.names.head();
        let head = Conv2D::new(self.head_channels(net), 1);
        self.step(net, [conv, norm], [&["conv_head", "_conv_head"], &["bn2", "_bn1"]], head)?;
        net.layer(active, self.activation)
    }

    pub(super) fn top(&self, net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
        if self.convolutional_top {
            return self.convolutional_top(net, classes, last);
        }
        net.layer("avg_pool", GlobalAveragePooling2D)?;
        if self.head_after_pooling {
            let units = self.head_channels(net);
            net.weighted("conv_2", &["conv_head"], Dense::new(units).activation(self.activation))?;
        }
        if self.top_dropout > 0.0 {
            net.layer("top_dropout", Dropout::new(self.top_dropout))?;
        }
        net.dense(self.names.classifier(), &["classifier", "_fc"], classes, last)
    }

    /// Adds the top of Keras's MobileNetV3. Keras's files number the convolutions, so dense layers would not find their
    /// weights.
    fn convolutional_top(&self, net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
        let (channels, units) = (net.output_shape()[0], self.head_channels(net));
        net.layer("avg_pool", GlobalAveragePooling2D)?;
        net.layer("avg_pool_reshape", Reshape::new((channels, 1, 1)))?;
        net.conv("conv_2", &["conv_head"], Conv2D::new(units, 1).activation(self.activation))?;
        net.layer("top_dropout", Dropout::new(self.top_dropout))?;
        net.conv(self.names.classifier(), &["classifier"], Conv2D::new(classes, 1))?;
        net.layer("flatten", Flatten)?;
        net.layer("predictions", last)
    }
}
