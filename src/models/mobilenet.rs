//! MobileNets as tables: V2 (Sandler et al. 2018) and V3 (Howard et al. 2019), as in timm's `efficientnet.py` and
//! `mobilenetv3.py`. Keras's networks have TensorFlow's padding and another epsilon, and V3 has convolutions in its top
//! (`keras/src/applications/mobilenet_v2.py`, `mobilenet_v3.py`).

use super::inverted_residual::{Blocks, Kind, SqueezeForm, Table};
use super::layer_names::Names;
use super::network::Architecture;
use crate::nn::{Activation, Preprocessing};

/// Inverted residual blocks with the network's activation: stage, number, kernel size, stride, expansion, outputs.
const fn row(
    stage: usize,
    (count, kernel, stride, expansion, outputs): (usize, usize, usize, f64, usize),
) -> Blocks {
    let (squeeze, relu) = (false, false);
    Blocks { stage, kind: Kind::Inverted, count, kernel, stride, expansion, outputs, squeeze, relu }
}

const fn first(stride: usize, squeeze: bool, relu: bool) -> Blocks {
    Blocks { kind: Kind::Separable, squeeze, relu, ..row(1, (1, 3, stride, 1.0, 16)) }
}

/// With squeeze and excitation.
const fn squeezed(blocks: Blocks) -> Blocks {
    Blocks { squeeze: true, ..blocks }
}

/// With ReLU.
const fn relu(blocks: Blocks) -> Blocks {
    Blocks { relu: true, ..blocks }
}

/// A single 1x1 convolution with six times as many outputs as inputs. `outputs` is their number at full width.
const fn last(stage: usize, outputs: usize) -> Blocks {
    Blocks { kind: Kind::Plain, ..row(stage, (1, 1, 1, 6.0, outputs)) }
}

static TABLE_V2: Table = Table {
    blocks: &[
        first(1, false, false),
        row(2, (2, 3, 2, 6.0, 24)),
        row(3, (3, 3, 2, 6.0, 32)),
        row(4, (4, 3, 2, 6.0, 64)),
        row(5, (3, 3, 1, 6.0, 96)),
        row(6, (3, 3, 2, 6.0, 160)),
        row(7, (1, 3, 1, 6.0, 320)),
    ],
    names: Names::MobileNetV2,
    stem: 32,
    fixed_stem: false,
    head: 1280,
    wide_head: true,
    head_after_pooling: false,
    convolutional_top: false,
    width: 1.0,
    depth: 1.0,
    activation: Activation::Relu6,
    squeeze: SqueezeForm::OfInput,
    same: false,
    epsilon: 1e-5,
    momentum: 0.9,
    top_dropout: 0.2,
};

static TABLE_V3_LARGE: Table = Table {
    blocks: &[
        first(1, false, true),
        relu(row(2, (1, 3, 2, 4.0, 24))),
        relu(row(2, (1, 3, 1, 3.0, 24))),
        relu(squeezed(row(3, (3, 5, 2, 3.0, 40)))),
        row(4, (1, 3, 2, 6.0, 80)),
        row(4, (1, 3, 1, 2.5, 80)),
        row(4, (2, 3, 1, 2.3, 80)),
        squeezed(row(5, (2, 3, 1, 6.0, 112))),
        squeezed(row(6, (3, 5, 2, 6.0, 160))),
        last(7, 960),
    ],
    names: Names::MobileNetV3,
    stem: 16,
    fixed_stem: true,
    head: 1280,
    wide_head: true,
    head_after_pooling: true,
    convolutional_top: false,
    width: 1.0,
    depth: 1.0,
    activation: Activation::HardSwish,
    squeeze: SqueezeForm::OfInside,
    same: false,
    epsilon: 1e-5,
    momentum: 0.9,
    top_dropout: 0.2,
};

static TABLE_V3_SMALL: Table = Table {
    blocks: &[
        first(2, true, true),
        relu(row(2, (1, 3, 2, 4.5, 24))),
        relu(row(2, (1, 3, 1, 3.67, 24))),
        squeezed(row(3, (1, 5, 2, 4.0, 40))),
        squeezed(row(3, (2, 5, 1, 6.0, 40))),
        squeezed(row(4, (2, 5, 1, 3.0, 48))),
        squeezed(row(5, (3, 5, 2, 6.0, 96))),
        last(6, 576),
    ],
    head: 1024,
    ..TABLE_V3_LARGE
};

/// The form of Keras.
const fn of_keras(table: Table) -> Table {
    Table { same: true, epsilon: 1e-3, momentum: 0.999, ..table }
}

static TABLE_V2_OF_KERAS: Table = Table { top_dropout: 0.0, ..of_keras(TABLE_V2) };
static TABLE_V3_LARGE_OF_KERAS: Table = Table { convolutional_top: true, ..of_keras(TABLE_V3_LARGE) };
static TABLE_V3_SMALL_OF_KERAS: Table = Table { convolutional_top: true, ..of_keras(TABLE_V3_SMALL) };

pub(super) static MOBILENET_V2: Architecture = Architecture {
    name: "mobilenetv2_100",
    features: |net| TABLE_V2.features(net),
    top: |net, classes, last| TABLE_V2.top(net, classes, last),
    stochastic_depth: true,
    keras: Some(&MOBILENET_V2_OF_KERAS),
    ..Architecture::DEFAULT
};

static MOBILENET_V2_OF_KERAS: Architecture = Architecture {
    features: |net| TABLE_V2_OF_KERAS.features(net),
    top: |net, classes, last| TABLE_V2_OF_KERAS.top(net, classes, last),
    preprocessing: Preprocessing::TF,
    keras: None,
    ..MOBILENET_V2
};

pub(super) static MOBILENET_V3_LARGE: Architecture = Architecture {
    name: "mobilenetv3_large_100",
    features: |net| TABLE_V3_LARGE.features(net),
    top: |net, classes, last| TABLE_V3_LARGE.top(net, classes, last),
    keras: Some(&MOBILENET_V3_LARGE_OF_KERAS),
    ..MOBILENET_V2
};

static MOBILENET_V3_LARGE_OF_KERAS: Architecture = Architecture {
    features: |net| TABLE_V3_LARGE_OF_KERAS.features(net),
    top: |net, classes, last| TABLE_V3_LARGE_OF_KERAS.top(net, classes, last),
    preprocessing: Preprocessing::TF,
    keras: None,
    ..MOBILENET_V3_LARGE
};

pub(super) static MOBILENET_V3_SMALL: Architecture = Architecture {
    name: "mobilenetv3_small_100",
    features: |net| TABLE_V3_SMALL.features(net),
    top: |net, classes, last| TABLE_V3_SMALL.top(net, classes, last),
    keras: Some(&MOBILENET_V3_SMALL_OF_KERAS),
    ..MOBILENET_V2
};

static MOBILENET_V3_SMALL_OF_KERAS: Architecture = Architecture {
    features: |net| TABLE_V3_SMALL_OF_KERAS.features(net),
    top: |net, classes, last| TABLE_V3_SMALL_OF_KERAS.top(net, classes, last),
    preprocessing: Preprocessing::TF,
    keras: None,
    ..MOBILENET_V3_SMALL
};
