//! The trait of losses, which a user can implement, and the losses that a model can be compiled with.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::loss::{BuiltInLoss, Output, one_hot};
use crate::nn::Activation;
use crate::{Error, Result};

/// What training minimises: [`BinaryCrossentropy`](super::BinaryCrossentropy) and the other losses of Keras, or one of
/// your own.
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
    message = "`{Self}` is no loss; a loss is a value: `BinaryCrossentropy`, `SparseCategoricalCrossentropy`, or a type that implements `Loss`"
)]
pub trait Loss: Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// The loss of each sample, `[N]`. `fit` minimises the mean over the batch, so the loss must consist of tensor
    /// operations on `outputs`.
    ///
    /// `targets` and `outputs` are `f32`, of one shape, `[N, …]`. Class numbers for a model of several outputs are one-hot
    /// already. Dimensions after the first that are left in the result are averaged.
    ///
    /// # Errors
    /// Any error ends `fit`.
    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor>;

    /// The function that makes probabilities of the outputs, for metrics and `classes()`: `Sigmoid` or `Softmax` for a
    /// loss of logits.
    fn probability_function(&self) -> Activation {
        Activation::Linear
    }

    /// The loss as `compile` keeps it. The library's own override it, so that no cell compiles this code for them.
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
        let targets = match targets.dims() == outputs.dims() {
            true => targets.clone(),
            false => self.targets(targets, outputs.dims().iter().skip(1).product())?,
        };
        self.of_samples(&Output::new(outputs.clone()), &self.smooth(&targets)?)
    }

    fn probability_function(&self) -> Activation {
        BuiltInLoss::probability_function(*self)
    }

    fn spec(self) -> LossSpec {
        LossSpec(Spec::BuiltIn(self))
    }
}

/// A loss as a compiled model has it.
#[derive(Clone)]
pub struct LossSpec(Spec);

#[derive(Clone)]
enum Spec {
    BuiltIn(BuiltInLoss),
    Own(Arc<dyn Loss>),
}

impl LossSpec {
    /// The loss, if it is one of the library's.
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

    /// Targets of any number type as the loss takes them, `[N, columns]`, for a model of so many outputs.
    ///
    /// # Errors
    /// [`Error::Targets`] if their shape or a value does not fit.
    pub(crate) fn targets(&self, targets: &Tensor, columns: usize) -> Result<Tensor> {
        match &self.0 {
            Spec::BuiltIn(loss) => loss.targets(targets, columns),
            Spec::Own(loss) => own_targets(loss.name(), targets, columns),
        }
    }

    /// The mean loss over a batch: Keras's `sum_over_batch_size`. `shape` is that of one output.
    pub(crate) fn compute(
        &self,
        output: &Output,
        targets: &Tensor,
        weights: Option<&Tensor>,
        shape: &[usize],
    ) -> Result<Tensor> {
        let losses = match &self.0 {
            Spec::BuiltIn(loss) => loss.of_samples(output, &loss.smooth(targets)?)?,
            Spec::Own(loss) => own_losses(&**loss, output, targets, shape)?,
        };
        Ok(match weights {
            Some(weights) => (losses * weights)?.mean_all()?,
            None => losses.mean_all()?,
        })
    }

    /// Outputs as the metrics take them: probabilities, whatever the model puts out.
    pub(crate) fn probabilities(&self, output: &Output) -> Result<Tensor> {
        self.probability_function().apply(&output.values.detach())
    }
}

/// Targets for a loss of the user's own: as many numbers as outputs, or class numbers, which become one-hot.
fn own_targets(loss: &str, targets: &Tensor, columns: usize) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::F32)?;
    let samples = targets.dims().first().copied().unwrap_or(0);
    if targets.elem_count() == samples * columns {
        return Ok(targets.reshape((samples, columns))?);
    }
    if targets.elem_count() == samples {
        return one_hot(loss, &targets, columns);
    }
    Err(Error::Targets {
        loss: loss.to_owned(),
        expected: format!("targets of shape [{samples}, {columns}], or one class number a sample"),
        found: format!("shape {:?}", targets.dims()),
        hint: "give the model one output for each number of a target".into(),
    })
}

/// The losses `[N]` of a loss of the user's own, which sees outputs and targets in the model's shape.
fn own_losses(loss: &dyn Loss, output: &Output, targets: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let samples = targets.dim(0)?;
    let whole = [&[samples], shape].concat();
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
