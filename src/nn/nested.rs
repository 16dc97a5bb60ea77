//! Models as layers of other models.

use std::ops::RangeInclusive;
use std::sync::Arc;

use candle_core::Tensor;

use super::{Build, Context, Layer, LayerSpec, Mode, Model, Param};
use crate::{Error, Result};

/// A model used as a layer of another model.
pub(super) struct Nested(pub(super) Model);

impl Build for Model {
    fn default_name(&self) -> &str {
        self.name()
    }

    fn input_counts(&self) -> RangeInclusive<usize> {
        let count = self.input_nodes().len();
        count..=count
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        if self.outputs().len() > 1 {
            return Err(Error::Argument {
                name: "layer",
                expected: format!(
                    "a model with one output for `{}`; take one of them with `up_to`",
                    context.name
                ),
                found: format!("`{}` with {}", self.name(), self.interface()),
            });
        }
        for (&node, found) in self.input_nodes().iter().zip(context.inputs) {
            let expected = self.nodes()[node].layer.output_shape();
            if *found != expected {
                return Err(Error::shape(context.name, format!("{expected:?}"), found, ""));
            }
        }
        Ok(Arc::new(Nested(self.clone())))
    }

    fn input_shape(&self) -> Option<Vec<usize>> {
        Some(self.input_shape().to_vec())
    }
}

impl From<&Model> for LayerSpec {
    fn from(model: &Model) -> LayerSpec {
        LayerSpec::from(model.clone())
    }
}

impl Layer for Nested {
    fn kind(&self) -> &'static str {
        "Model"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.0.forward_as_layer(inputs, mode, false)
    }

    fn output_shape(&self) -> &[usize] {
        self.0.output_shape()
    }

    fn params(&self) -> Vec<Param> {
        self.0.params()
    }

    fn is_random(&self) -> bool {
        self.0.nodes().iter().any(|node| node.layer.is_random())
    }
}
