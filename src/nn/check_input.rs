//! Checks of a model's inputs, with hints.

use candle_core::Tensor;

use super::Model;
use crate::device::check_device;
use crate::{Error, Result};

impl Model {
    /// Checks a batch for a model with a single input.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has several inputs; [`Error::Shape`] if the batch does not fit.
    pub(crate) fn check_input(&self, batch: &Tensor) -> Result<()> {
        match *self.input_nodes() {
            [node] => self.check_input_of(node, batch),
            _ => Err(Error::Argument {
                name: "the model",
                expected: "one input; use `predict_many` or `forward_many` for several".into(),
                found: format!("`{}` with {}", self.name(), self.interface()),
            }),
        }
    }

    /// Checks one batch for each input, of the same number of samples.
    pub(crate) fn check_inputs(&self, batches: &[Tensor]) -> Result<()> {
        let mut inputs = self.input_nodes().iter().zip(batches);
        inputs.try_for_each(|(&node, batch)| self.check_input_of(node, batch))?;
        let samples = batches[0].dims()[0];
        if let Some(other) = batches.iter().find(|batch| batch.dims()[0] != samples) {
            let expected = format!("the same number of samples for each input, {samples}");
            return Err(Error::shape(format!("inputs of `{}`", self.name()), expected, other.dims(), ""));
        }
        Ok(())
    }

    /// Checks a batch for the input with this node.
    fn check_input_of(&self, node: usize, batch: &Tensor) -> Result<()> {
        let place = match self.input_nodes().len() {
            1 => format!("input of `{}`", self.name()),
            _ => format!("input `{}` of `{}`", self.nodes()[node].name, self.name()),
        };
        check_device(&place, batch)?;
        let expected = self.nodes()[node].layer.output_shape();
        if batch.rank() > 0 && &batch.dims()[1..] == expected {
            if batch.dims()[0] == 0 {
                return Err(Error::shape(place, "at least one sample", batch.dims(), "the batch is empty"));
            }
            return Ok(());
        }
        let sizes = expected.iter().map(|n| format!(", {n}")).collect::<String>();
        let hint = if batch.dims() == expected {
            "this is one sample; add the batch dimension with `unsqueeze(0)?`"
        } else if expected.len() == 3 && matches!(batch.dims(), [_, _, _, 1 | 3]) {
            "images are channels first here, [batch, channels, height, width]: `x.permute((0, 3, 1, 2))?`"
        } else if matches!((expected, batch.dims()), ([3, ..], [_, 1, _, _])) {
            "these are greyscale images, and the model expects colour images: `x.repeat((1, 3, 1, 1))?`"
        } else if matches!((expected, batch.dims()), ([1, ..], [_, 3, _, _])) {
            "these are colour images, and the model expects greyscale images: `x.mean_keepdim(1)?`"
        } else if matches!((expected, batch.dims()), ([_, height, width], [_, h, w]) if h == height && w == width)
        {
            "greyscale images need a dimension of channels: `x.unsqueeze(1)?`, and for colour `.repeat((1, 3, 1, 1))?`"
        } else {
            "use data of this shape, or build the model with the data's `input_shape`"
        };
        Err(Error::shape(place, format!("[batch{sizes}]"), batch.dims(), hint))
    }
}
