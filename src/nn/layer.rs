//! Traits of layers: [`Build`] for the description, [`Layer`] for the built layer.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::ChaCha8Rng;

use super::{Activation, LayerConfig, Model, Param};
use crate::Result;
use crate::ops::Epilogue;

/// Whether a forward pass is for training or inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is active, unfrozen batch normalisation uses batch statistics, and trainable weights record a graph.
    Training,
    /// The mode of `predict` and `evaluate`.
    Inference,
}

impl std::fmt::Debug for dyn Layer {
    /// The layer's type and the shapes of its parameters.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<Vec<usize>> =
            self.params().iter().map(|param| param.variable().dims().to_vec()).collect();
        write!(f, "{} with parameters of shapes {shapes:?}", self.kind())
    }
}

/// A built layer of a model, with its parameters.
///
/// Shapes exclude the batch dimension and are channels first: `[3, 224, 224]` for an image.
pub trait Layer: Send + Sync {
    /// Type of the layer, as named by Keras: `Dense`, `Conv2D`, …
    fn kind(&self) -> &'static str;

    /// Computes the output from the inputs, each `[N, …]`.
    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor>;

    /// The activation that [`Layer::forward_linear`] omits. Default: `Linear`.
    fn last_activation(&self) -> Activation {
        Activation::Linear
    }

    /// Like [`Layer::forward`], without the last activation. Losses use it for numerical stability.
    fn forward_linear(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.forward(inputs, mode)
    }

    /// A convolution fused with an epilogue. `None` if the layer does not support it: it requires a gradient, has an
    /// activation other than ReLU, or is not on the CPU. The output may be channels last, a view of `[N, H, W, C]`.
    #[doc(hidden)]
    fn forward_with(&self, _: &Tensor, _: Mode, _: Epilogue) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Whether the layer prefers channels-last inputs, views of `[N, H, W, C]` as inference convolutions return them.
    /// Other layers get NCHW.
    #[doc(hidden)]
    fn takes_channels_last(&self) -> bool {
        false
    }

    /// Like [`Layer::forward`], with a fused ReLU. `None` if the layer does not support it.
    #[doc(hidden)]
    fn forward_rectified(&self, _: &[&Tensor], _: Mode) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A scale and a shift per channel, if that is all the layer does and neither requires a gradient.
    #[doc(hidden)]
    fn scale_and_shift(&self, _: Mode) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    /// Shape of the output, without the batch dimension.
    fn output_shape(&self) -> &[usize];

    /// Weights and statistics, in Keras's order. Default: none.
    fn params(&self) -> Vec<Param> {
        Vec::new()
    }

    /// Whether the layer is random in training, so that equal inputs can give different outputs. Default: false.
    /// Features of frozen layers are cached only up to the first random layer.
    fn is_random(&self) -> bool {
        false
    }

    /// The nested model, if the layer is one.
    fn model(&self) -> Option<&Model> {
        None
    }
}

/// Arguments of [`Build::build`].
pub struct Context<'a> {
    /// Name of the layer in its model.
    pub name: &'a str,
    /// Shapes of the inputs, without the batch dimension.
    pub inputs: &'a [&'a [usize]],
    /// Random stream for the initial weights.
    pub random: &'a mut ChaCha8Rng,
    /// Device for the parameters.
    pub device: &'a Device,
}

/// Description of a layer, from which a model builds the [`Layer`].
///
/// Implement it to use a custom layer in `sequential!`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no layer; a layer is a value: `Flatten`, `Dense::new(128).activation(Relu)`, `Dropout::new(0.5)`, or a model"
)]
pub trait Build {
    /// Default name of the layer: `dense`, `max_pooling2d`, …
    fn stem(&self) -> &str;

    /// Builds the layer.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the layer does not accept inputs of these shapes.
    fn build(&self, context: Context) -> Result<Arc<dyn Layer>>;

    /// Whether the layer accepts any number of inputs, like [`Add`](super::Add). Default: false, exactly one input.
    fn takes_many(&self) -> bool {
        false
    }

    /// Serialisable description of the layer. `None` (the default): a model with this layer cannot be saved whole.
    fn config(&self) -> Option<LayerConfig> {
        None
    }

    /// Shape of the input, if the layer defines it: such a layer can be the first of a model.
    fn input_shape(&self) -> Option<Vec<usize>> {
        None
    }

    /// Whether the layer only defines the shape of the model's input, like [`Input`](super::Input).
    #[doc(hidden)]
    fn is_input(&self) -> bool {
        false
    }
}

/// Description of any layer: the argument type of `sequential!`.
pub struct LayerSpec(Box<dyn Build>);

impl LayerSpec {
    pub(crate) fn as_build(&self) -> &dyn Build {
        &*self.0
    }
}

impl<B: Build + 'static> From<B> for LayerSpec {
    fn from(layer: B) -> LayerSpec {
        LayerSpec(Box::new(layer))
    }
}

impl From<&Model> for LayerSpec {
    fn from(model: &Model) -> LayerSpec {
        LayerSpec(Box::new(model.clone()))
    }
}
