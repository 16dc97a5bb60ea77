//! EfficientNet-B0 (Tan and Le 2019), as in timm's `efficientnet.py`, and EfficientNet-Lite0
//! (TensorFlow's `lite/efficientnet_lite_builder.py`), which has no squeeze and excitation.

use super::Preprocessing;
use super::assembler::Assembler;
use super::network::{Architecture, Network};
use crate::Result;
use crate::nn::{
    Activation, Add, BatchNormalization, Conv2D, Dropout, GlobalAveragePooling2D, Multiply, Padding, Reshape,
};
use crate::weights::Weights;

/// One stage: number of blocks, kernel size, stride of the first block, expansion factor, output channels.
type Stage = (usize, usize, usize, usize, usize);
const STAGES: [Stage; 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];
const STEM: usize = 32;
const HEAD: usize = 1280;
/// Squeeze and excitation reduces the channels to the block's input channels divided by this.
const SQUEEZE: usize = 4;

/// Differences between the variants.
struct Form {
    activation: Activation,
    /// Whether padding is TensorFlow's "same", with an odd row below; otherwise PyTorch's symmetric padding.
    same: bool,
    epsilon: f64,
    squeeze: bool,
}

const B0: Form = Form { activation: Activation::Silu, same: false, epsilon: 1e-5, squeeze: true };
const B0_OF_KERAS: Form = Form { same: true, epsilon: 1e-3, ..B0 };
const LITE0: Form = Form { activation: Activation::Relu6, same: true, epsilon: 1e-3, squeeze: false };

static EFFICIENTNET_B0: Architecture = Architecture {
    name: "efficientnet_b0",
    features: |net| features(net, &B0),
    top,
    preprocessing: Preprocessing::TORCH,
    keras: Some(&EFFICIENTNET_B0_OF_KERAS),
    stochastic_depth: true,
    demo: None,
};

/// The variant trained with TensorFlow (`keras/src/applications/efficientnet.py`). In Keras its first layers
/// preprocess the images.
static EFFICIENTNET_B0_OF_KERAS: Architecture =
    Architecture { features: |net| features(net, &B0_OF_KERAS), keras: None, ..EFFICIENTNET_B0 };

static EFFICIENTNET_LITE0: Architecture = Architecture {
    name: "efficientnet_lite0",
    features: |net| features(net, &LITE0),
    top,
    // (pixel - 127) / 128
    preprocessing: Preprocessing::standardize([127.0 / 255.0; 3], [128.0 / 255.0; 3]),
    keras: None,
    stochastic_depth: true,
    demo: None,
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

impl Form {
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

    fn padding(&self, kernel: usize) -> Padding {
        if self.same { Padding::Same } else { Padding::Explicit(kernel / 2) }
    }

    /// Adds an inverted residual block: 1x1 expansion, depthwise convolution, squeeze and excitation, 1x1
    /// projection, and a shortcut if input and output have the same shape.
    fn inverted_residual(
        &self,
        net: &mut Assembler,
        name: &str,
        (timm, lite): (String, String),
        (kernel, stride): (usize, usize),
        [inputs, inside, outputs]: [usize; 3],
        drop_rate: f32,
    ) -> Result<()> {
        let input = net.last();
        let expands = inside != inputs;
        // Without an expansion, timm numbers the layers one lower.
        let [filtered, project, projected] =
            if expands { ["bn2", "conv_pwl", "bn3"] } else { ["bn1", "conv_pw", "bn2"] };
        let add = |net: &mut Assembler, names: [&str; 2], stems: [[&str; 2]; 2], conv: Conv2D| {
            let [[a, b], [c, d]] =
                stems.map(|[ours, theirs]| [format!("{timm}.{ours}"), format!("{lite}.{theirs}")]);
            let names = names.map(|layer| format!("{name}_{layer}"));
            self.step(net, [&names[0], &names[1]], [&[&a, &b], &[&c, &d]], conv)
        };
        if expands {
            let stems = [["conv_pw", "_expand_conv"], ["bn1", "_bn0"]];
            add(net, ["expand_conv", "expand_bn"], stems, Conv2D::new(inside, 1))?;
            net.layer(&format!("{name}_expand_activation"), self.activation)?;
        }
        let stems = [["conv_dw", "_depthwise_conv"], [filtered, "_bn1"]];
        let conv = Conv2D::depthwise(kernel).strides(stride).padding(self.padding(kernel));
        add(net, ["dwconv", "bn"], stems, conv)?;
        net.layer(&format!("{name}_activation"), self.activation)?;
        if self.squeeze {
            self.squeeze_and_excite(net, name, &timm, inside, (inputs / SQUEEZE).max(1))?;
        }
        let stems = [[project, "_project_conv"], [projected, "_bn2"]];
        add(net, ["project_conv", "project_bn"], stems, Conv2D::new(outputs, 1))?;
        if stride != 1 || inputs != outputs {
            return Ok(());
        }
        // Every nonzero rate adds the layer, which rejects invalid rates.
        if drop_rate != 0.0 {
            net.layer(&format!("{name}_drop"), Dropout::new(drop_rate).noise_shape((1, 1, 1)))?;
        }
        net.join(&format!("{name}_add"), Add, &[net.last(), input])
    }

    /// Squeeze and excitation: scales each channel by a factor computed from all channel means (Hu et al. 2017).
    fn squeeze_and_excite(
        &self,
        net: &mut Assembler,
        name: &str,
        stem: &str,
        channels: usize,
        narrow: usize,
    ) -> Result<()> {
        let input = net.last();
        net.layer(&format!("{name}_se_squeeze"), GlobalAveragePooling2D)?;
        net.layer(&format!("{name}_se_reshape"), Reshape::new((channels, 1, 1)))?;
        let reduce = Conv2D::new(narrow, 1).activation(self.activation);
        net.conv(&format!("{name}_se_reduce"), &[&format!("{stem}.se.conv_reduce")], reduce)?;
        let expand = Conv2D::new(channels, 1).activation(Activation::Sigmoid);
        net.conv(&format!("{name}_se_expand"), &[&format!("{stem}.se.conv_expand")], expand)?;
        net.join(&format!("{name}_se_excite"), Multiply, &[input, net.last()])
    }
}

fn features(net: &mut Assembler, form: &Form) -> Result<()> {
    let stem = Conv2D::new(net.width_in_eights(STEM), 3).strides(2).padding(form.padding(3));
    form.step(net, ["stem_conv", "stem_bn"], [&["conv_stem", "_conv_stem"], &["bn1", "_bn0"]], stem)?;
    net.layer("stem_activation", form.activation)?;
    let all: usize = STAGES.iter().map(|(blocks, ..)| blocks).sum();
    let (mut inputs, mut number) = (net.width_in_eights(STEM), 0);
    for (stage, (blocks, kernel, stride, wider, outputs)) in STAGES.into_iter().enumerate() {
        let outputs = net.width_in_eights(outputs);
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("block{}{}", stage + 1, char::from(b'a' + block as u8));
            // timm numbers blocks within each stage, efficientnet-lite-pytorch across all stages.
            let stems = (format!("blocks.{stage}.{block}"), format!("_blocks.{number}"));
            let widths = [inputs, inputs * wider, outputs];
            let drop_rate = net.drop_connect_rate * number as f32 / all as f32;
            form.inverted_residual(net, &name, stems, (kernel, stride), widths, drop_rate)?;
            (inputs, number) = (outputs, number + 1);
        }
    }
    let head = Conv2D::new(net.width_in_eights(HEAD), 1);
    form.step(net, ["top_conv", "top_bn"], [&["conv_head", "_conv_head"], &["bn2", "_bn1"]], head)?;
    net.layer("top_activation", form.activation)
}

fn top(net: &mut Assembler, classes: usize, last: Activation) -> Result<()> {
    net.layer("avg_pool", GlobalAveragePooling2D)?;
    net.layer("top_dropout", Dropout::new(0.2))?;
    net.dense("predictions", &["classifier", "_fc"], classes, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    use crate::{nn::Mode, random};

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
