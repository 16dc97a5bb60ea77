//! VGG16 (Simonyan and Zisserman 2014), as in torchvision's `vgg.py` and Keras's `vgg16.py`.

use super::Preprocessing;
use super::assembler::Assembler;
use super::network::{Architecture, Network};
use crate::Result;
use crate::nn::{Activation, BatchNormalization, Conv2D, Flatten, MaxPooling2D, Padding};
use crate::weights::Weights;

/// For each block: number of convolutions, and their filters.
const BLOCKS: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];

/// The file of the demo weights.
// Not inlined: its bytes would be part of the metadata that rustc reads for each notebook cell.
#[inline(never)]
fn demo() -> &'static [u8] {
    include_bytes!("../../weights/vgg16-demo.safetensors")
}

pub(super) static VGG16: Architecture = Architecture {
    name: "vgg16",
    features: |net| features(net, false),
    top,
    keras: Some(&VGG16_OF_KERAS),
    demo: Some(demo),
    ..Architecture::DEFAULT
};

/// The same network; Keras's weights need another preprocessing.
static VGG16_OF_KERAS: Architecture =
    Architecture { preprocessing: Preprocessing::CAFFE, keras: None, demo: None, ..VGG16 };

pub(super) static VGG16_BN: Architecture =
    Architecture { name: "vgg16_bn", features: |net| features(net, true), demo: None, keras: None, ..VGG16 };

/// VGG16: 13 convolutions in five blocks, and three dense layers on top.
///
/// 14,714,688 weights without its top, 138,357,544 with it. Layers have Keras's names:
/// `block1_conv1` to `block5_pool`, then `flatten`, `fc1`, `fc2`, `predictions`.
///
/// ```
/// use headstart::prelude::*;
/// let base = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 64, 64)).build()?;
/// assert_eq!(base.output_shape(), [512, 2, 2]);
/// assert_eq!(base.summary().total, 14_714_688);
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct Vgg16;

impl Vgg16 {
    /// Configures the network; [`Network::build`] builds it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(weights: Weights) -> Network {
        Network::new(&VGG16, weights)
    }
}

/// [`Vgg16`] with batch normalisation after each convolution, as in torchvision's `vgg16_bn`. It is easier to
/// train from scratch than VGG16, and two percentage points more accurate on ImageNet.
///
/// 138,365,992 weights with its top. The batch normalisation layers are named `block1_bn1` and so on.
pub struct Vgg16Bn;

impl Vgg16Bn {
    /// Configures the network; [`Network::build`] builds it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(weights: Weights) -> Network {
        Network::new(&VGG16_BN, weights)
    }
}

fn features(net: &mut Assembler, normalise: bool) -> Result<()> {
    // Index in torchvision's list, which counts convolutions, normalisations, ReLUs and poolings.
    let mut position = 0;
    for (block, (convolutions, filters)) in (1..).zip(BLOCKS) {
        for n in 1..=convolutions {
            let conv = Conv2D::new(net.width(filters), 3).padding(Padding::Same);
            let (name, stem) = (format!("block{block}_conv{n}"), format!("features.{position}"));
            position += 1;
            if normalise {
                net.conv(&name, &[&stem], conv)?;
                let norm = BatchNormalization::default().momentum(0.9).epsilon(1e-5);
                net.batch_norm(&format!("block{block}_bn{n}"), &[&format!("features.{position}")], norm)?;
                net.layer(&format!("block{block}_relu{n}"), Activation::Relu)?;
                position += 1;
            } else {
                net.conv(&name, &[&stem], conv.activation(Activation::Relu))?;
            }
            position += 1;
        }
        net.layer(&format!("block{block}_pool"), MaxPooling2D::new(2))?;
        position += 1;
    }
    Ok(())
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("flatten", Flatten)?;
    net.dense("fc1", &["classifier.0", "pre_logits.fc1"], net.width(4096), Activation::Relu)?;
    net.dense("fc2", &["classifier.3", "pre_logits.fc2"], net.width(4096), Activation::Relu)?;
    net.dense("predictions", &["classifier.6", "head.fc"], classes, last)
}
