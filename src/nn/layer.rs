//! What every layer is: first a description, then, once its input is known, the thing itself.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::ChaCha8Rng;

use super::{Activation, LayerConfig, Model, Param};
use crate::Result;
use crate::ops::Epilogue;

/// Whether a forward pass is to be learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout drops, unfrozen normalisation uses the batch, and trainable weights record a graph.
    Training,
    /// What `predict` and `evaluate` do.
    Inference,
}

impl std::fmt::Debug for dyn Layer {
    /// Its kind and the shapes of its parameters.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shapes: Vec<Vec<usize>> =
            self.params().iter().map(|param| param.variable().dims().to_vec()).collect();
        write!(f, "{} with parameters of shapes {shapes:?}", self.kind())
    }
}

/// A layer in its place in a model, with its parameters.
///
/// Shapes are without the batch dimension, channels first: `[3, 224, 224]` for a picture.
pub trait Layer: Send + Sync {
    /// The layer's type as Keras names it: `Dense`, `Conv2D`, …
    fn kind(&self) -> &'static str;

    /// What it makes of its inputs, each `[N, …]`.
    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor>;

    /// Its last function, if [`Layer::forward_linear`] leaves one out.
    fn last_activation(&self) -> Activation {
        Activation::Linear
    }

    /// As [`Layer::forward`], without the last function: what a loss takes to be safe with numbers.
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

    /// As [`Layer::forward`] with a fused ReLU. `None` if the layer does not support it.
    #[doc(hidden)]
    fn forward_rectified(&self, _: &[&Tensor], _: Mode) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A scale and a shift per channel, if that is all the layer does and neither requires a gradient.
    #[doc(hidden)]
    fn scale_and_shift(&self, _: Mode) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    /// The shape of its output.
    fn output_shape(&self) -> &[usize];

    /// Its weights and statistics, in the order in which Keras lists them.
    fn params(&self) -> Vec<Param> {
        Vec::new()
    }

    /// Whether it draws at random in training, so that the same input does not give the same output.
    /// What frozen layers make of a picture is computed once, up to the first that says so.
    fn is_random(&self) -> bool {
        false
    }

    /// The model inside, if the layer is a whole model.
    fn model(&self) -> Option<&Model> {
        None
    }
}

/// What a layer's builder needs to know.
pub struct Context<'a> {
    /// The name that the layer has in its model.
    pub name: &'a str,
    /// The shapes of its inputs, without the batch dimension.
    pub inputs: &'a [&'a [usize]],
    /// Where its initial weights come from.
    pub random: &'a mut ChaCha8Rng,
    /// Where its parameters are to live.
    pub device: &'a Device,
}

/// A description that becomes a [`Layer`] when a model gives it its place.
///
/// Implement it for a layer of your own, and `sequential!` takes that as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no layer; a layer is a value: `Flatten`, `Dense::new(128).activation(Relu)`, `Dropout::new(0.5)`, or a model"
)]
pub trait Build {
    /// The stem of the layer's name where the user gives none: `dense`, `max_pooling2d`, …
    fn stem(&self) -> &str;

    /// Makes the layer.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the layer cannot take an input of that shape.
    fn build(&self, context: Context) -> Result<Arc<dyn Layer>>;

    /// Whether it takes any number of inputs, as [`Add`](super::Add) does; other layers take one.
    fn takes_many(&self) -> bool {
        false
    }

    /// The layer in words, so that a model with it can be saved whole.
    fn config(&self) -> Option<LayerConfig> {
        None
    }

    /// The shape of one input, for a layer that can begin a model.
    fn input_shape(&self) -> Option<Vec<usize>> {
        None
    }

    /// Whether it only gives the shape of a model's input, as [`Input`](super::Input) does.
    #[doc(hidden)]
    fn is_input(&self) -> bool {
        false
    }
}

/// Any description of a layer, as `sequential!` takes it.
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
