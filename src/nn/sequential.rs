//! Models that are a plain stack of layers.

use std::any::Any;
use std::sync::Arc;

use candle_core::Shape;

use super::{Build, Context, Layer, LayerSpec, Model, ModelBuilder};
use crate::{Error, Result};

/// A stack of layers, from which a model is built. [`sequential!`](crate::sequential) is the short form.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<LayerSpec>,
}

impl Sequential {
    /// Creates an empty stack. The first layer must define the input shape: add an [`Input`] or a model.
    #[inline(never)] // otherwise each notebook cell compiles the code of `Vec`
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a layer.
    // Not `impl Into<LayerSpec>`: the compiler's message for it does not explain what a layer is.
    pub fn add<L>(&mut self, layer: L)
    where
        LayerSpec: From<L>,
    {
        self.layers.push(LayerSpec::from(layer));
    }

    /// Builds the model.
    ///
    /// # Errors
    /// [`Error::Argument`] if the first layer does not define the input shape; [`Error::Shape`] if a layer does not
    /// accept the output of the previous one.
    pub fn build(&self) -> Result<Model> {
        let mut layers = self.layers.iter().map(LayerSpec::as_build).peekable();
        let Some(shape) = layers.peek().and_then(|first| first.input_shape()) else {
            return Err(Error::Argument {
                name: "layers",
                expected: "a model or `Input::new(shape)` first".into(),
                found: layers.peek().map_or("no layers".into(), |first| first.default_name().to_owned()),
            });
        };
        let mut builder = ModelBuilder::new("sequential", &shape)?.sequential(true);
        let mut last = builder.input();
        layers.next_if(|first| <dyn Any>::is::<Input>(*first));
        if layers.peek().is_none() {
            let expected = "at least one layer after `Input`".into();
            return Err(Error::Argument { name: "layers", expected, found: "none".into() });
        }
        for layer in layers {
            last = builder.add_spec("", layer, &[last])?;
        }
        builder.finish(last)
    }
}

/// Shape of one sample, without the batch dimension: the first layer of a model.
#[derive(Clone, Debug)]
pub struct Input {
    shape: Vec<usize>,
}

impl Input {
    /// `Input::new(n)` is a vector of `n` numbers; `Input::new((3, height, width))` is an image.
    pub fn new(shape: impl Into<Shape>) -> Input {
        Input { shape: shape.into().into_dims() }
    }
}

impl Build for Input {
    fn default_name(&self) -> &str {
        "input"
    }

    fn build(&self, _: Context) -> Result<Arc<dyn Layer>> {
        let expected = "one `Input`, as the first of a Sequential".into();
        let found = format!("`Input::new({:?})` after another layer; remove it", self.shape);
        Err(Error::Argument { name: "layers", expected, found })
    }

    fn input_shape(&self) -> Option<Vec<usize>> {
        Some(self.shape.clone())
    }
}

/// Builds a model from a stack of layers. The first is a model or an [`Input`](crate::nn::Input).
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1).activation(Sigmoid)]?;
/// assert_eq!(model.output_shape(), [1]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[macro_export]
macro_rules! sequential {
    ($($layer:expr),+ $(,)?) => {{
        // Through the prelude, whose metadata rustc has already loaded in a notebook cell.
        let mut layers = $crate::prelude::Sequential::new();
        $(layers.add($layer);)+
        layers.build()
    }};
}
