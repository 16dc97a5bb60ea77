//! Properties of the library's own layers that are not in the trait [`Layer`]. They are found by the layer's type.

use std::any::Any;
use std::sync::Arc;

use candle_core::Tensor;

use super::nested::Nested;
use super::{Activation, Layer, Mode, Model, activation, conv, dense, separable};
use crate::Result;

impl dyn Layer {
    /// The layer as a value of type `T`, if it has that type.
    pub(super) fn as_type<T: Layer>(&self) -> Option<&T> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }

    /// The nested model, if the layer is one.
    pub(crate) fn model(&self) -> Option<&Model> {
        self.as_type::<Nested>().map(|nested| &nested.0)
    }

    /// The activation that [`forward_linear`](Self::forward_linear) omits.
    pub(super) fn last_activation(&self) -> Activation {
        if let Some(dense) = self.as_type::<dense::Built>() {
            return dense.activation;
        }
        if let Some(conv) = self.as_type::<conv::Built>() {
            return conv.activation();
        }
        if let Some(conv) = self.as_type::<separable::Built>() {
            return conv.activation();
        }
        if let Some(activation) = self.as_type::<activation::Built>() {
            return activation.function;
        }
        self.model().map_or(Activation::Linear, Model::last_activation)
    }

    /// The output without the last activation. Losses use it for numerical stability.
    pub(super) fn forward_linear(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        if let Some(dense) = self.as_type::<dense::Built>() {
            return dense.forward_linear(inputs, mode);
        }
        if let Some(conv) = self.as_type::<conv::Built>() {
            return conv.forward_with(inputs[0], mode, Activation::Linear);
        }
        if let Some(conv) = self.as_type::<separable::Built>() {
            return conv.forward_linear(inputs[0], mode);
        }
        if self.as_type::<activation::Built>().is_some() {
            return Ok(inputs[0].clone());
        }
        match self.model() {
            Some(model) => model.forward_as_layer(inputs, mode, true),
            None => self.forward(inputs, mode),
        }
    }
}

/// The layer as a value of type `T`, if it has that type. Shares the layer.
pub(super) fn shared_as_type<T: Layer>(layer: &Arc<dyn Layer>) -> Option<Arc<T>> {
    let any: Arc<dyn Any + Send + Sync> = layer.clone();
    any.downcast().ok()
}
