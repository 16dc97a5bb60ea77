//! The `Loss` trait, which users can implement, and the loss of a compiled model.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::loss::{BuiltInLoss, Output, one_hot};
use crate::nn::{Activation, ClassLayout};
use crate::{Error, Result};

/// The function that training minimises: [`BinaryCrossentropy`](super::BinaryCrossentropy), another of
/// Keras's losses, or a loss of your own.
///
/// ```
/// use headstart::prelude::*;
/// struct LogCosh;
///
/// impl Loss for LogCosh {
///     fn name(&self) -> &str {
///         "log_cosh"
///     }
///
///     fn call(&self, targets: &Tensor, outputs: &Tensor) -> headstart::Result<Tensor> {
///         let error = (outputs - targets)?;
///         let cosh = ((error.exp()? + error.neg()?.exp()?)? / 2.0)?;
///         Ok(cosh.log()?.mean(D::Minus1)?)
///     }
/// }
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// model.compile(SGD::new(0.1), LogCosh, []);
/// let history = model.fit((&x, &y), Fit::epochs(2))?;
/// assert!(history["loss"][1] < history["loss"][0]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a loss; pass a value: `BinaryCrossentropy`, `SparseCategoricalCrossentropy`, or a type that implements `Loss`"
)]
pub trait Loss: Send + Sync {
    /// The loss's name in messages.
    fn name(&self) -> &str;

    /// Returns the loss of each sample, `[N]`. `fit` minimises the mean over the batch, so the loss must
    /// consist of tensor operations on `outputs`.
    ///
    /// `targets` and `outputs` are `f32` tensors of the same shape, `[N, …]`. Class indices for a model
    /// with several outputs are already one-hot, also those of pixels or tokens. Further dimensions of the
    /// result are averaged.
    ///
    /// # Errors
    /// Any error ends `fit`.
    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor>;

    /// The activation that converts the outputs to probabilities, for metrics and `classes()`: `Sigmoid`
    /// or `Softmax` for a loss of logits. Default: `Linear`.
    fn probability_function(&self) -> Activation {
        Activation::Linear
    }

    /// Converts the loss to the form that `compile` stores. The library's losses override this method,
    /// so that user code does not compile it for them.
    #[doc(hidden)]
    fn spec(self) -> LossSpec
    where
        Self: Sized + 'static,
    {
        LossSpec(Spec::Own(Arc::new(self)))
    }
}

impl Loss for BuiltInLoss {
    fn name(&self) -> &str {
        BuiltInLoss::name(*self)
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        let layout = ClassLayout::of(outputs.dims().get(1..).unwrap_or_default());
        let targets = match targets.dims() == outputs.dims() {
            true => targets.clone(),
            false => self.targets(targets, &layout)?,
        };
        let losses = self.position_losses(&Output::new(outputs.clone()), &targets, &layout)?;
        Ok(losses.reshape((outputs.dim(0)?, layout.positions))?.mean(1)?)
    }

    fn probability_function(&self) -> Activation {
        BuiltInLoss::probability_function(*self)
    }

    fn spec(self) -> LossSpec {
        LossSpec(Spec::BuiltIn(self))
    }
}

/// The loss of a compiled model.
#[derive(Clone)]
pub struct LossSpec(Spec);

#[derive(Clone)]
enum Spec {
    BuiltIn(BuiltInLoss),
    Own(Arc<dyn Loss>),
}

impl LossSpec {
    /// Returns the loss if the library defines it.
    pub(crate) fn built_in(&self) -> Option<BuiltInLoss> {
        match &self.0 {
            Spec::BuiltIn(loss) => Some(*loss),
            Spec::Own(_) => None,
        }
    }

    pub(crate) fn probability_function(&self) -> Activation {
        match &self.0 {
            Spec::BuiltIn(loss) => loss.probability_function(),
            Spec::Own(loss) => loss.probability_function(),
        }
    }

    /// Converts targets of any number type to the form that the loss takes, `[N, columns]` in the order of the
    /// model's outputs.
    ///
    /// # Errors
    /// [`Error::Targets`] if the shape or a value does not fit.
    pub(crate) fn targets(&self, targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
        match &self.0 {
            Spec::BuiltIn(loss) => loss.targets(targets, layout),
            Spec::Own(loss) => own_targets(loss.name(), targets, layout),
        }
    }

    /// Returns the mean loss over a batch (Keras's `sum_over_batch_size`). There is one weight for each sample or for
    /// each position.
    pub(crate) fn compute(
        &self,
        output: &Output,
        targets: &Tensor,
        weights: Option<&Tensor>,
        layout: &ClassLayout,
    ) -> Result<Tensor> {
        let losses = match &self.0 {
            Spec::BuiltIn(loss) => loss.position_losses(output, targets, layout)?,
            Spec::Own(loss) => own_losses(&**loss, output, targets, layout)?,
        };
        let Some(weights) = weights else { return Ok(losses.mean_all()?) };
        // One row per weight.
        let losses =
            losses.reshape((weights.elem_count(), losses.elem_count() / weights.elem_count().max(1)))?;
        Ok(losses.broadcast_mul(&weights.unsqueeze(1)?)?.mean_all()?)
    }

    /// Returns the outputs as probabilities, for metrics.
    pub(crate) fn probabilities(&self, output: &Output) -> Result<Tensor> {
        self.probability_function().apply(&output.values.detach())
    }
}

/// Converts targets for a custom loss: one number per output, or class indices, which become
/// one-hot.
fn own_targets(loss: &str, targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::F32)?;
    let samples = targets.dims().first().copied().unwrap_or(0);
    if layout.has_outputs(targets.dims()) {
        return Ok(targets.reshape((samples, layout.columns()))?);
    }
    if layout.has_classes(targets.dims()) {
        return one_hot(loss, &targets, layout);
    }
    let (outputs, classes) = (layout.output_shape(samples), layout.class_shape(samples));
    Err(Error::Targets {
        loss: loss.to_owned(),
        expected: format!("targets of shape {outputs:?}, or class numbers of shape {classes:?}"),
        found: format!("shape {:?}", targets.dims()),
        hint: "use a model with one output for each number of a target".into(),
    })
}

/// Returns the losses `[N]` of a custom loss. The loss receives outputs and targets in the model's
/// shape.
fn own_losses(loss: &dyn Loss, output: &Output, targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
    let samples = targets.dim(0)?;
    let whole = layout.output_shape(samples);
    let losses = loss.call(&targets.reshape(&*whole)?, &output.values.reshape(&*whole)?)?;
    match losses.dims() {
        [found, rest @ ..] if *found == samples => {
            Ok(if rest.is_empty() { losses } else { losses.flatten_from(1)?.mean(1)? })
        }
        found => {
            let hint = "return one loss for each sample: take means over the last dimensions only, `.mean(D::Minus1)?`";
            let place = format!("the result of the loss `{}`", loss.name());
            Err(Error::shape(place, format!("[{samples}]"), found, hint))
        }
    }
}
