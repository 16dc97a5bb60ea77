//! Traits of layers: [`Build`] for the description, [`Layer`] for the built layer.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::ChaCha8Rng;

use super::{Mode, Param};
use crate::Result;

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
///
/// Implement it, with [`Build`] for the layer's description, to use a layer of your own in a model. Weights are
/// [`Param`]s: they are trained, frozen, saved and loaded like those of the library's layers.
///
/// ```
/// use std::sync::Arc;
/// use headstart::prelude::*;
///
/// /// Multiplies each feature by a trainable number.
/// struct Scale;
///
/// struct BuiltScale {
///     scale: Param,
///     shape: Vec<usize>,
/// }
///
/// impl Build for Scale {
///     fn default_name(&self) -> &str {
///         "scale"
///     }
///
///     fn build(&self, context: Context) -> headstart::Result<Arc<dyn Layer>> {
///         let shape = context.inputs[0].to_vec();
///         let ones = Tensor::ones(shape.as_slice(), DType::F32, context.device)?;
///         Ok(Arc::new(BuiltScale { scale: Param::weight("scale", &ones)?, shape }))
///     }
/// }
///
/// impl Layer for BuiltScale {
///     fn kind(&self) -> &'static str {
///         "Scale"
///     }
///
///     fn forward(&self, inputs: &[&Tensor], mode: Mode) -> headstart::Result<Tensor> {
///         Ok(inputs[0].broadcast_mul(&self.scale.value(mode))?)
///     }
///
///     fn output_shape(&self) -> &[usize] {
///         &self.shape
///     }
///
///     fn params(&self) -> Vec<Param> {
///         vec![self.scale.clone()]
///     }
/// }
///
/// let mut model = sequential![Input::new(4), Scale, Dense::new(1)]?;
/// model.compile(Adam::new(0.1), MeanSquaredError, []);
/// let x = random_uniform((64, 4), 0.0, 1.0)?;
/// let history = model.fit((&x, &x.sum_keepdim(1)?), Fit::epochs(20).verbose(false))?;
/// assert!(history["loss"][19] < history["loss"][0]);
/// assert_ne!(model.layer("scale")?.params()[0].value(Mode::Inference).to_vec1::<f32>()?, [1.0; 4]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub trait Layer: Any + Send + Sync {
    /// Type of the layer, as named by Keras: `Dense`, `Conv2D`, …
    fn kind(&self) -> &'static str;

    /// Computes the output from the inputs, each `[N, …]`.
    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor>;

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
/// Implement it to use a custom layer in `sequential!` or a `ModelBuilder`: see the example of [`Layer`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a layer; pass a value: `Flatten`, `Dense::new(128).activation(Relu)`, `Dropout::new(0.5)`, or a model"
)]
pub trait Build: Any {
    /// Default name of the layer: `dense`, `max_pooling2d`, …
    fn default_name(&self) -> &str;

    /// Builds the layer.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the layer does not accept inputs of these shapes.
    fn build(&self, context: Context) -> Result<Arc<dyn Layer>>;

    /// Numbers of inputs that the layer accepts: `1..=usize::MAX` for [`Add`](super::Add). Default: exactly 1.
    fn input_counts(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// Shape of the input, if the layer defines it: such a layer can be the first of a model.
    fn input_shape(&self) -> Option<Vec<usize>> {
        None
    }
}

/// Description of any layer: the argument type of `sequential!`.
pub struct LayerSpec(Box<dyn Build>);

impl LayerSpec {
    pub(crate) fn as_build(&self) -> &dyn Build {
        &*self.0
    }
}

impl<B: Build> From<B> for LayerSpec {
    fn from(layer: B) -> LayerSpec {
        LayerSpec(Box::new(layer))
    }
}
