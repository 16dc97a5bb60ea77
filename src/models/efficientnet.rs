//! EfficientNets as tables: B0 to B4 (Tan and Le 2019), V2-S (Tan and Le 2021), and Lite0 (TensorFlow's
//! `lite/efficientnet_lite_builder.py`), which has no squeeze and excitation.

use super::Preprocessing;
use super::inverted_residual::{Blocks, Kind, SqueezeForm, Table};
use super::layer_names::Names;
use super::network::{Architecture, Network};
use crate::nn::Activation;
use crate::weights::Weights;

/// Blocks of EfficientNet-B0 and -Lite0: stage, number of blocks, kernel size, stride of the first block, expansion,
/// output channels.
const fn blocks(squeeze: bool) -> [Blocks; 7] {
    const ROWS: [(usize, usize, usize, f64, usize); 7] = [
        (1, 3, 1, 1.0, 16),
        (2, 3, 2, 6.0, 24),
        (2, 5, 2, 6.0, 40),
        (3, 3, 2, 6.0, 80),
        (3, 5, 1, 6.0, 112),
        (4, 5, 2, 6.0, 192),
        (1, 3, 1, 6.0, 320),
    ];
    let mut blocks = [row(1, Kind::Separable, ROWS[0], squeeze); 7];
    let mut at = 1;
    while at < ROWS.len() {
        blocks[at] = row(at + 1, Kind::Inverted, ROWS[at], squeeze);
        at += 1;
    }
    blocks
}

const fn row(
    stage: usize,
    kind: Kind,
    (count, kernel, stride, expansion, outputs): (usize, usize, usize, f64, usize),
    squeeze: bool,
) -> Blocks {
    Blocks { stage, kind, count, kernel, stride, expansion, outputs, squeeze, relu: false }
}

const B0: Table = Table {
    blocks: &blocks(true),
    names: Names::EfficientNet,
    stem: 32,
    fixed_stem: false,
    head: 1280,
    wide_head: false,
    head_after_pooling: false,
    convolutional_top: false,
    width: 1.0,
    depth: 1.0,
    activation: Activation::Silu,
    squeeze: SqueezeForm::OfInput,
    same: false,
    epsilon: 1e-5,
    momentum: 0.9,
    top_dropout: 0.2,
};

/// The form of Keras and TensorFlow.
const fn of_keras(table: Table) -> Table {
    Table { same: true, epsilon: 1e-3, momentum: 0.99, ..table }
}

static TABLE_B0: Table = B0;
static TABLE_B0_OF_KERAS: Table = of_keras(B0);
static TABLE_B1: Table = Table { width: 1.0, depth: 1.1, ..B0 };
static TABLE_B1_OF_KERAS: Table = of_keras(TABLE_B1);
static TABLE_B2: Table = Table { width: 1.1, depth: 1.2, top_dropout: 0.3, ..B0 };
static TABLE_B2_OF_KERAS: Table = of_keras(TABLE_B2);
static TABLE_B3: Table = Table { width: 1.2, depth: 1.4, top_dropout: 0.3, ..B0 };
static TABLE_B3_OF_KERAS: Table = of_keras(TABLE_B3);
static TABLE_B4: Table = Table { width: 1.4, depth: 1.8, top_dropout: 0.4, ..B0 };
static TABLE_B4_OF_KERAS: Table = of_keras(TABLE_B4);
static TABLE_LITE0: Table = Table { blocks: &blocks(false), activation: Activation::Relu6, ..of_keras(B0) };
static TABLE_V2_S: Table = Table {
    blocks: &[
        row(1, Kind::Plain, (2, 3, 1, 1.0, 24), false),
        row(2, Kind::Fused, (4, 3, 2, 4.0, 48), false),
        row(3, Kind::Fused, (4, 3, 2, 4.0, 64), false),
        row(4, Kind::Inverted, (6, 3, 2, 4.0, 128), true),
        row(5, Kind::Inverted, (9, 3, 1, 6.0, 160), true),
        row(6, Kind::Inverted, (15, 3, 2, 6.0, 256), true),
    ],
    stem: 24,
    same: true,
    epsilon: 1e-3,
    ..B0
};

pub(super) static EFFICIENTNET_B0: Architecture = Architecture {
    name: "efficientnet_b0",
    features: |net| TABLE_B0.features(net),
    top: |net, classes, last| TABLE_B0.top(net, classes, last),
    keras: Some(&EFFICIENTNET_B0_OF_KERAS),
    stochastic_depth: true,
    ..Architecture::DEFAULT
};

/// The variant trained with TensorFlow (`keras/src/applications/efficientnet.py`). In Keras its first layers
/// preprocess the images.
static EFFICIENTNET_B0_OF_KERAS: Architecture =
    Architecture { features: |net| TABLE_B0_OF_KERAS.features(net), keras: None, ..EFFICIENTNET_B0 };

pub(super) static EFFICIENTNET_B1: Architecture = Architecture {
    name: "efficientnet_b1",
    features: |net| TABLE_B1.features(net),
    side: 240,
    preprocessing: Preprocessing::TF,
    keras: Some(&EFFICIENTNET_B1_OF_KERAS),
    ..EFFICIENTNET_B0
};

static EFFICIENTNET_B1_OF_KERAS: Architecture = Architecture {
    features: |net| TABLE_B1_OF_KERAS.features(net),
    preprocessing: Preprocessing::TORCH,
    keras: None,
    ..EFFICIENTNET_B1
};

pub(super) static EFFICIENTNET_B2: Architecture = Architecture {
    name: "efficientnet_b2",
    features: |net| TABLE_B2.features(net),
    top: |net, classes, last| TABLE_B2.top(net, classes, last),
    side: 256,
    keras: Some(&EFFICIENTNET_B2_OF_KERAS),
    ..EFFICIENTNET_B0
};

static EFFICIENTNET_B2_OF_KERAS: Architecture =
    Architecture { features: |net| TABLE_B2_OF_KERAS.features(net), keras: None, ..EFFICIENTNET_B2 };

pub(super) static EFFICIENTNET_B3: Architecture = Architecture {
    name: "efficientnet_b3",
    features: |net| TABLE_B3.features(net),
    top: |net, classes, last| TABLE_B3.top(net, classes, last),
    side: 288,
    keras: Some(&EFFICIENTNET_B3_OF_KERAS),
    ..EFFICIENTNET_B0
};

static EFFICIENTNET_B3_OF_KERAS: Architecture =
    Architecture { features: |net| TABLE_B3_OF_KERAS.features(net), keras: None, ..EFFICIENTNET_B3 };

pub(super) static EFFICIENTNET_B4: Architecture = Architecture {
    name: "efficientnet_b4",
    features: |net| TABLE_B4.features(net),
    top: |net, classes, last| TABLE_B4.top(net, classes, last),
    side: 320,
    keras: Some(&EFFICIENTNET_B4_OF_KERAS),
    ..EFFICIENTNET_B0
};

static EFFICIENTNET_B4_OF_KERAS: Architecture =
    Architecture { features: |net| TABLE_B4_OF_KERAS.features(net), keras: None, ..EFFICIENTNET_B4 };

pub(super) static EFFICIENTNET_V2_S: Architecture = Architecture {
    name: "tf_efficientnetv2_s",
    features: |net| TABLE_V2_S.features(net),
    side: 300,
    preprocessing: Preprocessing::TF,
    keras: None,
    of_tensorflow: true,
    ..EFFICIENTNET_B0
};

pub(super) static EFFICIENTNET_LITE0: Architecture = Architecture {
    name: "efficientnet_lite0",
    features: |net| TABLE_LITE0.features(net),
    // (pixel - 127) / 128
    preprocessing: Preprocessing::standardize([127.0 / 255.0; 3], [128.0 / 255.0; 3]),
    keras: None,
    of_tensorflow: true,
    ..EFFICIENTNET_B0
};

/// EfficientNet-B0: more accurate than ResNet50 on ImageNet with a fifth of its weights.
///
/// 5,288,548 weights with its top. Layers have Keras's names: `stem_conv`, `block1a_dwconv` to
/// `block7a_project_bn`, `top_conv`, then `avg_pool`, `predictions`.
pub struct EfficientNetB0;

impl EfficientNetB0 {
    /// Configures the network; [`Network::build`] builds it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(weights: Weights) -> Network {
        Network::new(&EFFICIENTNET_B0, weights)
    }
}

/// EfficientNet-Lite0, for small devices: nearly the accuracy of ResNet50 with a fifth of its weights.
///
/// 4,652,008 weights with its top. Layers have the same names as in [`EfficientNetB0`].
///
/// ```
/// use headstart::prelude::*;
/// let base = EfficientNetLite0::new(Weights::Random(0)).include_top(false).input_shape((3, 64, 64)).build()?;
/// assert_eq!(base.output_shape(), [1280, 2, 2]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct EfficientNetLite0;

impl EfficientNetLite0 {
    /// Configures the network; [`Network::build`] builds it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(weights: Weights) -> Network {
        Network::new(&EFFICIENTNET_LITE0, weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    use crate::{Result, nn::Mode, random};

    #[test]
    fn stochastic_depth_applies_only_in_training() -> Result<()> {
        let network = || EfficientNetB0::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32));
        let (plain, dropping) = (network().build()?, network().drop_connect_rate(0.2).build()?);
        let names = |model: &crate::nn::Model| model.summary().to_string().matches("_drop").count();
        // Blocks with a shortcut: 16 minus the seven that change the shape.
        assert_eq!((names(&plain), names(&dropping)), (0, 9));
        let x = random::random_uniform((2, 3, 32, 32), -1.0, 1.0)?;
        let difference =
            |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a - b)?.abs()?.max_all()?.to_scalar()?) };
        let inference = plain.forward(&x, Mode::Inference)?;
        assert_eq!(difference(&inference, &dropping.forward(&x, Mode::Inference)?)?, 0.0);
        let [first, second] = [0, 1].map(|_| dropping.forward(&x, Mode::Training));
        assert!(difference(&first?, &second?)? > 0.0);
        let error = super::super::Vgg16::new(Weights::Random(0)).drop_connect_rate(0.2).build();
        assert!(error.err().is_some_and(|error| error.to_string().contains("drop_connect_rate")));
        Ok(())
    }
}
