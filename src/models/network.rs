//! Configuration of a network before it is built, the same for all architectures.

use candle_core::Shape;
use rand::Rng;

use super::assembler::Assembler;
use super::registry::models;
use super::tensorflow_form::{Forms, has_form_of_keras, note_unknown_form};
use crate::check::check_below_one;
use crate::nn::{
    Activation, FirstToken, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling2D, Initializer,
    Model, Preprocessing,
};
use crate::weights::{self, TensorNames, TensorStems, Weights, pretrained};
use crate::{Error, Result, random};

/// An architecture, built with an [`Assembler`].
pub(crate) struct Architecture {
    /// Name of the model.
    pub(crate) name: &'static str,
    /// Adds the layers from the image to the last feature maps.
    pub(crate) features: fn(&mut Assembler) -> Result<()>,
    /// Adds the layers between global pooling and a classifier, which a network without its top but with pooling also
    /// has. `top` adds them itself.
    pub(crate) neck: Option<fn(&mut Assembler) -> Result<()>>,
    /// Whether the features are tokens, with the class token first, instead of feature maps.
    pub(crate) tokens: bool,
    /// Default height and width of the images.
    pub(crate) side: usize,
    /// Adds the classifier: from the feature maps to the given number of classes, with the last activation.
    pub(crate) top: fn(&mut Assembler, usize, Activation) -> Result<()>,
    /// Preprocessing of images for weights from files.
    pub(crate) preprocessing: Preprocessing,
    /// The variant for Keras's files and timm's `tf_…` weights, if it differs.
    pub(crate) keras: Option<&'static Architecture>,
    /// Whether the network itself is TensorFlow's variant, so that timm's weights without `tf_` do not fit.
    pub(crate) of_tensorflow: bool,
    /// Whether the architecture supports stochastic depth.
    pub(crate) stochastic_depth: bool,
    /// The bundled demo weights, if any.
    pub(crate) demo: Option<fn() -> &'static [u8]>,
}

impl Architecture {
    /// Most networks of PyTorch.
    pub(crate) const DEFAULT: Architecture = Architecture {
        name: "",
        features: |_| Ok(()),
        neck: None,
        tokens: false,
        side: 224,
        top: |_, _, _| Ok(()),
        preprocessing: Preprocessing::TORCH,
        keras: None,
        of_tensorflow: false,
        stochastic_depth: false,
        demo: None,
    };
}

/// Global pooling of the last feature maps of a network without its top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Global average pooling, to `[N, C]`.
    Avg,
    /// Global max pooling, to `[N, C]`.
    Max,
    /// The class token of a vision transformer, as `[N, C]`.
    Token,
}

/// Configuration of a network: see [`Vgg16::new`](super::Vgg16::new), [`ResNet50::new`](super::ResNet50::new).
#[derive(Clone, Debug)]
pub struct Network {
    architecture: &'static Architecture,
    weights: Weights,
    include_top: bool,
    input_shape: Option<Vec<usize>>,
    classes: Option<usize>,
    classifier_activation: Activation,
    alpha: Option<f64>,
    pooling: Option<Pooling>,
    drop_connect_rate: f32,
    skip_mismatch: bool,
    initializer: Initializer,
    /// Whether the user asked for TensorFlow's variant, with a name that begins with `tf_`. `None`: without a name.
    of_tensorflow: Option<bool>,
}

impl Network {
    pub(crate) fn new(architecture: &'static Architecture, weights: Weights) -> Network {
        Network {
            architecture,
            weights,
            include_top: true,
            input_shape: None,
            classes: None,
            classifier_activation: Activation::Softmax,
            alpha: None,
            pooling: None,
            drop_connect_rate: 0.0,
            skip_mismatch: false,
            initializer: Initializer::GlorotUniform,
            of_tensorflow: None,
        }
    }

    /// A network by its name in timm. `of_tensorflow`: whether it has the prefix `tf_`, for weights from TensorFlow.
    pub(super) fn by_name(
        architecture: &'static Architecture,
        weights: Weights,
        of_tensorflow: bool,
    ) -> Network {
        Network { of_tensorflow: Some(of_tensorflow), ..Network::new(architecture, weights) }
    }

    /// Sets whether the network has its top, the layers that classify. Default: true.
    pub fn include_top(self, include_top: bool) -> Network {
        Network { include_top, ..self }
    }

    /// Sets the shape of an image, channels first, with sides of at least 32 pixels. Default: the
    /// network's own size, mostly `(3, 224, 224)`; with the demo weights `(3, 64, 64)`.
    pub fn input_shape(self, shape: impl Into<Shape>) -> Network {
        Network { input_shape: Some(shape.into().into_dims()), ..self }
    }

    /// Sets the number of classes of the top. Default: 1000, with the demo weights their own number. No effect without
    /// the top.
    pub fn classes(self, classes: usize) -> Network {
        Network { classes: Some(classes), ..self }
    }

    /// Sets the last activation of the top. Default: `Softmax`. `Linear` gives logits. No effect without the top.
    pub fn classifier_activation(self, activation: Activation) -> Network {
        Network { classifier_activation: activation, ..self }
    }

    /// Sets the width multiplier, as in Keras's MobileNet: 0.25 gives each layer a quarter of its channels. As in Keras,
    /// the last convolution of narrow MobileNets keeps its channels. Range: above 0, at most 16. Default: 1, with the demo
    /// weights 0.25.
    pub fn alpha(self, alpha: f64) -> Network {
        Network { alpha: Some(alpha), ..self }
    }

    /// Sets global pooling for a network without its top, to one vector per image. Default: none, the output is
    /// feature maps. No effect with the top.
    pub fn pooling(self, pooling: Pooling) -> Network {
        Network { pooling: Some(pooling), ..self }
    }

    /// Sets the rate of stochastic depth (Huang et al. 2016): training drops the residual branch of a block for
    /// random images. The rate rises linearly from 0 in the first block towards `rate` after the last. Only
    /// EfficientNets, MobileNets, ConvNeXts and vision
    /// transformers support it; Keras trains EfficientNets with 0.2. Default: 0, because random features cannot be cached.
    pub fn drop_connect_rate(self, rate: f32) -> Network {
        Network { drop_connect_rate: rate, ..self }
    }

    /// Sets whether layers that do not match the weights are skipped instead of being an error, like Keras's
    /// `load_weights(path, skip_mismatch=True)`. Skipped layers have random weights, and `build` prints them.
    /// Default: false.
    ///
    /// ```no_run
    /// use headstart::prelude::*;
    /// let weights = Weights::file("of_1000_classes.safetensors");
    /// let net = Vgg16::new(weights).classes(10).skip_mismatch(true).build()?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn skip_mismatch(self, skip: bool) -> Network {
        Network { skip_mismatch: skip, ..self }
    }

    /// Sets the initializer of the kernels for [`Weights::Random`]; it has no effect on layers with loaded weights.
    /// Default: Keras's `GlorotUniform`. VGG16 without batch normalisation hardly trains from it: use
    /// [`Initializer::HeNormal`] (Keras's `he_normal`) for stacks of ReLU.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let base = Vgg16::new(Weights::Random(0)).initializer(Initializer::HeNormal).include_top(false).build()?;
    /// # assert_eq!(base.output_shape(), [512, 7, 7]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn initializer(self, initializer: Initializer) -> Network {
        Network { initializer, ..self }
    }

    /// Builds the network and loads its weights.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input shape is not `(3, height, width)` with sides of at least 32;
    /// [`Error::Argument`] if `alpha` is out of range, or the network does not support stochastic depth;
    /// [`Error::Weights`], with the tensors concerned, if the weights do not match the network; [`Error::Hub`] if a
    /// download fails; [`Error::Io`] if a file cannot be read.
    pub fn build(self) -> Result<Model> {
        let Network { architecture, weights, include_top, skip_mismatch, .. } = self;
        // The manifest has the hashes of some networks' weights; the others' repositories are in the table.
        let weights = match weights {
            Weights::ImageNet if !pretrained().iter().any(|known| known.network == architecture.name) => {
                Weights::hub(&models().get(architecture.name)?.repository)
            }
            weights => weights,
        };
        let file = weights.open(architecture.name)?;
        let forms = Forms {
            name: architecture.name,
            has_variant: architecture.keras.is_some(),
            is_of_tensorflow: architecture.of_tensorflow,
        };
        let of_keras = has_form_of_keras(&forms, &file, self.of_tensorflow == Some(true))?;
        if self.of_tensorflow.is_none() && !of_keras {
            note_unknown_form(architecture.name, &file)?;
        }
        let architecture = architecture.keras.filter(|_| of_keras).unwrap_or(architecture);
        let (name, defaults) = (architecture.name, file.defaults());
        let side = defaults.side.unwrap_or(architecture.side);
        let input_shape = self.input_shape.unwrap_or_else(|| vec![3, side, side]);
        let (classes, alpha) =
            (self.classes.unwrap_or(defaults.classes), self.alpha.unwrap_or(defaults.alpha));
        match *input_shape {
            [3, height, width] if height >= 32 && width >= 32 => {}
            _ => {
                let hint = "images are channels first here, as in `.input_shape((3, 224, 224))`";
                let expected = "(3, height, width) with sides of at least 32";
                return Err(Error::shape(format!("{name}'s input_shape"), expected, &input_shape, hint));
            }
        }
        if include_top && classes == 0 {
            let (expected, found) = ("false, because these weights have no top".into(), "true".into());
            return Err(Error::Argument { name: "include_top", expected, found });
        }
        if !(alpha > 0.0 && alpha <= 16.0) {
            let (expected, found) = ("above 0, at most 16".into(), alpha.to_string());
            return Err(Error::Argument { name: "alpha", expected, found });
        }
        check_below_one("drop_connect_rate", f64::from(self.drop_connect_rate))?;
        if self.drop_connect_rate != 0.0 && !architecture.stochastic_depth {
            let (expected, found) =
                ("an EfficientNet, MobileNet, ConvNeXt or vision transformer".into(), name.into());
            return Err(Error::Argument { name: "drop_connect_rate", expected, found });
        }
        let seed = match weights {
            Weights::Random(seed) => Some(seed),
            _ => None,
        };
        let first_values = seed.or_else(|| skip_mismatch.then(|| random::stream().next_u64()));
        let mut assembler = Assembler::new(name, &input_shape, first_values, self.initializer, alpha)?
            .drop_connect_rate(self.drop_connect_rate);
        (architecture.features)(&mut assembler)?;
        if include_top {
            (architecture.top)(&mut assembler, classes, self.classifier_activation)?;
        } else {
            add_pooling(&mut assembler, architecture, self.pooling)?;
        }
        let mut omitted = if include_top { Vec::new() } else { stems_of_top(architecture)? };
        omitted.retain(|stems| !assembler.has(&stems.layer));
        let (model, stems) = assembler.finish(
            file.preprocessing(name)?.unwrap_or(architecture.preprocessing),
            weights.labels(classes).filter(|_| include_top),
            seed.is_none(),
            of_keras,
        )?;
        let demo = architecture.demo.map(|file| file());
        weights::fill(&model, &TensorNames { stems, omitted }, demo, &file, skip_mismatch)?;
        Ok(model)
    }
}

/// Adds the global pooling of a network without its top, and the neck.
fn add_pooling(net: &mut Assembler, architecture: &Architecture, pooling: Option<Pooling>) -> Result<()> {
    match (pooling, architecture.tokens) {
        (None, _) => return Ok(()),
        (Some(Pooling::Avg), false) => net.layer("avg_pool", GlobalAveragePooling2D)?,
        (Some(Pooling::Max), false) => net.layer("max_pool", GlobalMaxPooling2D)?,
        (Some(Pooling::Avg), true) => net.layer("avg_pool", GlobalAveragePooling1D)?,
        (Some(Pooling::Token), true) => net.layer("class_features", FirstToken)?,
        (Some(Pooling::Token), false) => {
            let (expected, found) = ("Avg or Max, for a network without tokens".into(), "Token".into());
            return Err(Error::Argument { name: "pooling", expected, found });
        }
        (Some(Pooling::Max), true) => {
            let (expected, found) = ("Avg or Token, for a vision transformer".into(), "Max".into());
            return Err(Error::Argument { name: "pooling", expected, found });
        }
    }
    architecture.neck.map_or(Ok(()), |neck| neck(net))
}

/// Names of the weights of the network's top in files.
fn stems_of_top(architecture: &Architecture) -> Result<Vec<TensorStems>> {
    // The smallest possible top: only the names are needed.
    let shape: &[usize] = if architecture.tokens { &[1, 1] } else { &[1, 1, 1] };
    let mut top = Assembler::new(architecture.name, shape, None, Initializer::Zeros, f64::MIN_POSITIVE)?;
    (architecture.top)(&mut top, 1, Activation::Linear)?;
    Ok(top.finish(architecture.preprocessing, None, false, false)?.1)
}

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    /// The variance is 2 / fan-in for He, and 2 / (fan-in + fan-out) for Glorot.
    #[test]
    fn random_kernels_have_the_variance_of_their_initializer() -> crate::Result<()> {
        let variance = |network: crate::models::Network| -> crate::Result<f32> {
            let base = network.include_top(false).input_shape((3, 64, 64)).alpha(0.25).build()?;
            let kernel = base.layer("block4_conv1")?.params()[0].value(Mode::Inference);
            Ok(kernel.sqr()?.mean_all()?.to_scalar::<f32>()?)
        };
        let (fan_in, fan_out) = (64.0 * 9.0, 128.0 * 9.0);
        for (initializer, expected) in [
            (Initializer::HeNormal, 2.0 / fan_in),
            (Initializer::HeUniform, 2.0 / fan_in),
            (Initializer::GlorotUniform, 2.0 / (fan_in + fan_out)),
        ] {
            let found = variance(Vgg16::new(Weights::Random(0)).initializer(initializer))?;
            assert!((found / expected - 1.0).abs() < 0.05, "{initializer:?}: {found}, expected {expected}");
        }
        let default = variance(Vgg16::new(Weights::Random(0)))?;
        assert_eq!(
            default,
            variance(Vgg16::new(Weights::Random(0)).initializer(Initializer::GlorotUniform))?
        );
        Ok(())
    }
}
