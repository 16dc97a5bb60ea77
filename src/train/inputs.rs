//! Prediction and evaluation for all data that `fit` takes.

use std::collections::HashMap;

use candle_core::{Tensor, Var};

use super::features::Validation;
use super::predict::{BATCH, note_nan};
use super::{Compiled, Predictions, Scores};
use crate::data::{Dataset, IntoDataset, announced_batches, check_not_mixed, check_same, missing_batches};
use crate::nn::{ClassLayout, Model};
use crate::{Error, Result, check_interrupt};

/// Input of `predict`: a tensor, or a dataset whose targets are ignored.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be used as inputs: pass a tensor, `&x`, or data that `fit` takes: `&files`, `datagen.flow(&x, &y, 32)?`; put `?` after a call that returns a `Result`"
)]
pub trait IntoInputs {
    /// Converts to inputs. Data that come in batches keep their batch size.
    fn into_inputs(self, batch_size: usize) -> Result<Inputs>;
}

/// The inputs of a model.
pub enum Inputs {
    /// All inputs in one tensor, `[N, …]`.
    Tensor(Tensor),
    /// Inputs in batches.
    Dataset(Box<dyn Dataset>),
}

impl IntoInputs for &Tensor {
    fn into_inputs(self, _: usize) -> Result<Inputs> {
        Ok(Inputs::Tensor(self.clone()))
    }
}

impl IntoInputs for &Var {
    fn into_inputs(self, _: usize) -> Result<Inputs> {
        Ok(Inputs::Tensor(self.as_detached_tensor()))
    }
}

impl<T: IntoDataset> IntoInputs for T {
    fn into_inputs(self, batch_size: usize) -> Result<Inputs> {
        Ok(Inputs::Dataset(self.into_dataset(batch_size, false)?))
    }
}

impl Model {
    /// Returns the model's outputs for inputs `[N, …]` or for a dataset, in the order of the data. Batches
    /// have 32 samples. Examples: `predict(&x)`, `predict(&files)`, `predict(datagen.flow(&x, &y, 8)?)`.
    ///
    /// The images of a generator are augmented but not shuffled: row 0 is the first image.
    ///
    /// # Errors
    /// [`Error::Shape`] if the inputs do not fit the model; [`Error::Interrupted`]; those of the data.
    pub fn predict(&self, inputs: impl IntoInputs) -> Result<Predictions> {
        self.predict_inputs(inputs.into_inputs(BATCH)?, BATCH)
    }

    /// Like [`Model::predict`], with another batch size.
    ///
    /// # Errors
    /// Those of [`Model::predict`], and [`Error::Argument`] for a batch size of 0.
    pub fn predict_in_batches(&self, inputs: impl IntoInputs, batch_size: usize) -> Result<Predictions> {
        self.predict_inputs(inputs.into_inputs(batch_size)?, batch_size)
    }

    /// Returns each output of a model with several inputs or outputs, with its name. Batches have 32 samples.
    /// Keras: `model.predict({"image": x, "age": age})`. [`Model::forward_many`] computes one batch with
    /// gradients.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let mut builder = ModelBuilder::new("two", &[4])?.input_name("left")?;
    /// let right = builder.add_input("right", &[4])?;
    /// let sum = builder.add("", Add, &[builder.input(), right])?;
    /// let class = builder.add("", Dense::new(3).activation(Softmax), &[sum])?;
    /// let model = builder.finish_many(&[("class", class), ("sum", sum)])?;
    /// let x = random_uniform((50, 4), 0.0, 1.0)?;
    /// let predictions = model.predict_many(&[("left", &x), ("right", &x)])?;
    /// assert_eq!((predictions["class"].len(), predictions["sum"][0].len()), (50, 4));
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::forward_many`], and [`Error::Interrupted`].
    pub fn predict_many(&self, inputs: &[(&str, &Tensor)]) -> Result<HashMap<String, Predictions>> {
        let names = self.output_names();
        let outputs = self.predict_tensors(&self.sorted_inputs(inputs)?, BATCH)?;
        note_nan(outputs.iter().flatten());
        let predictions = names.iter().zip(outputs).zip(self.outputs()).map(|((name, values), output)| {
            let layout = ClassLayout::of(self.nodes()[output.node].layer.output_shape());
            (name.clone(), Predictions::new(values, layout, self.probability_function()))
        });
        Ok(predictions.collect())
    }

    fn predict_inputs(&self, inputs: Inputs, batch_size: usize) -> Result<Predictions> {
        match inputs {
            Inputs::Tensor(x) => self.predict_tensor(&x, batch_size),
            Inputs::Dataset(mut data) => {
                check_not_mixed("predict", &*data)?;
                data.keep_order();
                let mut predictions: Option<Predictions> = None;
                for batch in announced_batches(&mut *data)? {
                    let of_batch = self.predict_part(&batch?.x, batch_size)?;
                    match &mut predictions {
                        Some(predictions) => predictions.append(of_batch),
                        None => predictions = Some(of_batch),
                    }
                }
                // An epoch without a batch is an error above.
                let predictions = predictions.ok_or_else(|| missing_batches(0, 0))?;
                note_nan(predictions.iter().flatten());
                Ok(predictions)
            }
        }
    }

    /// Evaluates loss and metrics on any data that `fit` takes: `evaluate_on(&files, 32)`.
    /// [`Model::evaluate`] takes a pair of tensors.
    ///
    /// # Errors
    /// Those of [`Model::evaluate`], and [`Error::Argument`] if the classes differ from those of the
    /// training.
    pub fn evaluate_on(&self, data: impl IntoDataset, batch_size: usize) -> Result<Scores> {
        self.evaluate_data(data.into_dataset(batch_size, false)?)
    }

    pub(crate) fn evaluate_data(&self, data: Box<dyn Dataset>) -> Result<Scores> {
        self.check_outside_fit("evaluate")?;
        let state = self.training_state();
        self.evaluate_with(state.and_then(|state| state.compiled.as_ref()).ok_or(Error::NotCompiled)?, data)
    }

    /// Like [`Model::evaluate_data`], with a given training configuration: during `fit`, the model does not hold it.
    pub(super) fn evaluate_with(&self, compiled: &Compiled, data: Box<dyn Dataset>) -> Result<Scores> {
        self.check_single("evaluate")?;
        compiled.check_metrics()?;
        check_not_mixed("evaluate", &*data)?;
        check_same("evaluate", self.trained_classes(), data.class_names())?;
        check_interrupt()?;
        Ok(Scores::new(Validation::of(self, data).measure(compiled, |_, _| Ok(()))?.row("")))
    }

    /// Checks that no `fit` of this model runs, which has the optimizer, the loss and the metrics.
    pub(super) fn check_outside_fit(&self, method: &'static str) -> Result<()> {
        match self.training_state().is_some_and(|state| state.is_in_fit) {
            false => Ok(()),
            true => Err(Error::Argument {
                name: "the model of a callback",
                expected: format!("`training.{method}(…)?`, for `fit` has the loss and the optimizer"),
                found: format!("`training.model().{method}(…)`"),
            }),
        }
    }
}
