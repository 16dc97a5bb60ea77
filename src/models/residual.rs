//! Residual networks as tables: ResNet18 to ResNet152 (He et al. 2015), as in torchvision's `resnet.py`: v1.5, with the
//! stride in the 3x3 convolution, and convolutions without bias.

use super::Preprocessing;
use super::assembler::Assembler;
use super::network::{Architecture, Network};
use crate::Result;
use crate::nn::{
    Activation, Add, BatchNormalization, Conv2D, GlobalAveragePooling2D, MaxPooling2D, NodeId, Padding,
};
use crate::weights::Weights;

/// For each stage: width, and stride of the first block.
const STAGES: [(usize, usize); 4] = [(64, 1), (128, 2), (256, 2), (512, 2)];

/// The file of the demo weights.
// Not inlined: its bytes would be part of the metadata that rustc reads for each notebook cell.
#[inline(never)]
fn demo() -> &'static [u8] {
    include_bytes!("../../weights/resnet50-demo.safetensors")
}

pub(super) static RESNET50: Architecture = Architecture {
    name: "resnet50",
    features: |net| features(net, TORCH, [3, 4, 6, 3]),
    keras: Some(&RESNET50_OF_KERAS),
    demo: Some(demo),
    ..DEFAULT
};

const DEFAULT: Architecture = Architecture { top, ..Architecture::DEFAULT };

pub(super) static RESNET18: Architecture =
    Architecture { name: "resnet18", features: |net| features(net, BASIC, [2, 2, 2, 2]), ..DEFAULT };

pub(super) static RESNET34: Architecture =
    Architecture { name: "resnet34", features: |net| features(net, BASIC, [3, 4, 6, 3]), ..DEFAULT };

pub(super) static RESNET101: Architecture = Architecture {
    name: "resnet101",
    features: |net| features(net, TORCH, [3, 4, 23, 3]),
    keras: Some(&RESNET101_OF_KERAS),
    ..DEFAULT
};

pub(super) static RESNET152: Architecture = Architecture {
    name: "resnet152",
    features: |net| features(net, TORCH, [3, 8, 36, 3]),
    keras: Some(&RESNET152_OF_KERAS),
    ..DEFAULT
};

/// The paper's variant, v1, for which Keras has weights (`keras/src/applications/resnet.py`).
static RESNET50_OF_KERAS: Architecture = Architecture {
    features: |net| features(net, KERAS, [3, 4, 6, 3]),
    preprocessing: Preprocessing::CAFFE,
    keras: None,
    demo: None,
    ..RESNET50
};

static RESNET101_OF_KERAS: Architecture = Architecture {
    name: "resnet101",
    features: |net| features(net, KERAS, [3, 4, 23, 3]),
    ..RESNET50_OF_KERAS
};

static RESNET152_OF_KERAS: Architecture = Architecture {
    name: "resnet152",
    features: |net| features(net, KERAS, [3, 8, 36, 3]),
    ..RESNET50_OF_KERAS
};

/// Differences between the variants.
#[derive(Clone, Copy)]
struct Form {
    /// Ratio of a block's output channels to the channels of its 3x3 convolution. 1: a block of two 3x3 convolutions;
    /// otherwise of a 1x1, a 3x3 and a 1x1 convolution.
    expansion: usize,
    /// Number (1 to 3) of the convolution with the stride in the first block of a stage.
    strided: usize,
    /// Whether convolutions have a bias.
    bias: bool,
    epsilon: f64,
    /// Fraction of the moving statistics that each step retains.
    momentum: f64,
}

/// torchvision's momentum 0.1 is the fraction of the new value; Keras's momentum 0.9 is the retained fraction.
const TORCH: Form = Form { expansion: 4, strided: 2, bias: false, epsilon: 1e-5, momentum: 0.9 };
const KERAS: Form = Form { expansion: 4, strided: 1, bias: true, epsilon: 1.001e-5, momentum: 0.99 };
/// Blocks of two convolutions, of ResNet18 and ResNet34.
const BASIC: Form = Form { expansion: 1, strided: 1, ..TORCH };

/// ResNet50: 50 layers in residual blocks; each block adds its input to its output.
///
/// 23,508,032 weights without its top, 25,557,032 with it. Layers have Keras's names:
/// `conv1_conv` to `conv5_block3_out`, then `avg_pool`, `predictions`.
///
/// [`Weights::ImageNet`] are torchvision's first weights (top-1 76.1 %). `Weights::named("resnet50.a1_in1k")` are those
/// of a better training (80.4 %, [Wightman et al. 2021](https://arxiv.org/abs/2110.00476)).
///
/// ```
/// use headstart::prelude::*;
/// let base = ResNet50::new(Weights::Random(0)).include_top(false).input_shape((3, 64, 64)).build()?;
/// assert_eq!(base.output_shape(), [2048, 2, 2]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct ResNet50;

impl ResNet50 {
    /// Configures the network; [`Network::build`] builds it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(weights: Weights) -> Network {
        Network::new(&RESNET50, weights)
    }
}

fn features(net: &mut Assembler, form: Form, depths: [usize; 4]) -> Result<()> {
    conv_and_norm(net, form, "conv1", "conv1", "bn1", conv(net.width(64), 7, 2))?;
    net.layer("conv1_relu", Activation::Relu)?;
    net.layer("pool1_pool", MaxPooling2D::new(3).strides(2).padding(Padding::Explicit(1)))?;
    for (stage, ((width, stride), blocks)) in (1..).zip(STAGES.into_iter().zip(depths)) {
        for block in 0..blocks {
            let name = format!("conv{}_block{}", stage + 1, block + 1);
            let stem = format!("layer{stage}.{block}");
            let width = net.width(width);
            let stride = if block == 0 { stride } else { 1 };
            let project = block == 0 && (stride != 1 || form.expansion != 1);
            residual_block(net, form, [&name, &stem], width, stride, project)?;
        }
    }
    Ok(())
}

/// Adds a residual block: convolutions, whose result is added to the input, or to its projection (`project`).
fn residual_block(
    net: &mut Assembler,
    form: Form,
    [name, stem]: [&str; 2],
    width: usize,
    stride: usize,
    project: bool,
) -> Result<()> {
    let input = net.last();
    let mut shortcut: NodeId = input;
    if project {
        let stems = [0, 1].map(|n| format!("{stem}.downsample.{n}"));
        let conv = conv(width * form.expansion, 1, stride);
        conv_and_norm(net, form, &format!("{name}_0"), &stems[0], &stems[1], conv)?;
        shortcut = net.last();
        net.branch_from(input);
    }
    let convolutions: &[(usize, usize)] = match form.expansion {
        1 => &[(width, 3), (width, 3)],
        expansion => &[(width, 1), (width, 3), (width * expansion, 1)],
    };
    for (n, &(filters, size)) in (1..).zip(convolutions) {
        let stems = ["conv", "bn"].map(|part| format!("{stem}.{part}{n}"));
        let conv = conv(filters, size, if n == form.strided { stride } else { 1 });
        conv_and_norm(net, form, &format!("{name}_{n}"), &stems[0], &stems[1], conv)?;
        if n < convolutions.len() {
            net.layer(&format!("{name}_{n}_relu"), Activation::Relu)?;
        }
    }
    net.join(&format!("{name}_add"), Add, &[shortcut, net.last()])?;
    net.layer(&format!("{name}_out"), Activation::Relu)
}

fn conv(filters: usize, size: usize, stride: usize) -> Conv2D {
    Conv2D::new(filters, size).strides(stride).padding(Padding::Explicit(size / 2))
}

fn conv_and_norm(
    net: &mut Assembler,
    form: Form,
    name: &str,
    conv_stem: &str,
    norm_stem: &str,
    conv: Conv2D,
) -> Result<()> {
    let norm = BatchNormalization::default().momentum(form.momentum).epsilon(form.epsilon);
    net.conv(&format!("{name}_conv"), &[conv_stem], conv.use_bias(form.bias))?;
    net.batch_norm(&format!("{name}_bn"), &[norm_stem], norm)
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("avg_pool", GlobalAveragePooling2D)?;
    net.dense("predictions", &["fc"], classes, last)
}
