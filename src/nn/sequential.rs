//! Models that are one layer after the other.

use std::sync::Arc;

use candle_core::Shape;

use super::{Build, Context, Layer, LayerSpec, Model, ModelBuilder};
use crate::{Error, Result};

/// Layers in a row that will be a model. [`sequential!`](crate::sequential) writes the calls for you.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<LayerSpec>,
}

impl Sequential {
    /// No layers yet. The first to be added says what it takes: a model does, and [`Input`] does
    /// nothing else.
    #[inline(never)] // or each cell compiles what a vector is
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Puts a layer after the others.
    // Not `Into`: of that the compiler does not say what a layer is.
    pub fn add<L>(&mut self, layer: L)
    where
        LayerSpec: From<L>,
    {
        self.layers.push(LayerSpec::from(layer));
    }

    /// Builds the layers one on the other.
    ///
    /// # Errors
    /// [`Error::Argument`] if the first does not say what it takes, [`Error::Shape`] if a layer cannot
    /// take what the one before it gives.
    pub fn build(&self) -> Result<Model> {
        let mut layers = self.layers.iter().map(LayerSpec::as_build).peekable();
        let Some(shape) = layers.peek().and_then(|first| first.input_shape()) else {
            return Err(Error::Argument {
                name: "layers",
                expected: "a model or `Input::new(shape)` first".into(),
                found: layers.peek().map_or("no layers".into(), |first| first.stem().to_owned()),
            });
        };
        let mut builder = ModelBuilder::new("sequential", &shape)?.sequential(true);
        let mut last = builder.input();
        layers.next_if(|first| first.is_input());
        for layer in layers {
            last = builder.add_spec("", layer, &[last])?;
        }
        Ok(builder.finish(last))
    }
}

/// The shape of one sample, without the batch dimension: the beginning of a model.
#[derive(Clone, Debug)]
pub struct Input {
    shape: Vec<usize>,
}

impl Input {
    /// Takes `n` numbers, `Input::new(n)`, or pictures, `Input::new((3, height, width))`.
    pub fn new(shape: impl Into<Shape>) -> Input {
        Input { shape: shape.into().into_dims() }
    }
}

impl Build for Input {
    fn stem(&self) -> &str {
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

    fn is_input(&self) -> bool {
        true
    }
}

/// A model of layers in a row, the first of them a model or an [`Input`](crate::nn::Input).
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
        // By the prelude, which rustc has read for a cell already.
        let mut layers = $crate::prelude::Sequential::new();
        $(layers.add($layer);)+
        layers.build()
    }};
}
