//! Prediction and evaluation on tensors.

use std::fmt;

use candle_core::Tensor;

use super::{lint, lint_images};
use crate::display::{Bundle, Show, text_bundle};
use crate::nn::{Mode, Model, Predictions};
use crate::{Error, Result, check_interrupt};

/// Default batch size.
pub(crate) const BATCH: usize = 32;

/// Prints a note if outputs are NaN.
pub(crate) fn note_nan<'a>(outputs: impl Iterator<Item = &'a f32> + Clone) {
    lint::print_advice(&lint::output_advice(outputs));
}

impl Model {
    pub(crate) fn predict_tensor(&self, x: &Tensor, batch_size: usize) -> Result<Predictions> {
        let predictions = self.predict_part(x, batch_size)?;
        note_nan(predictions.iter().flatten());
        Ok(predictions)
    }

    /// Like [`Model::predict_tensor`], for a part of the data. The caller calls [`note_nan`] once for all parts.
    pub(crate) fn predict_part(&self, x: &Tensor, batch_size: usize) -> Result<Predictions> {
        if batch_size == 0 {
            let (expected, found) = ("at least 1".into(), "0".into());
            return Err(Error::Argument { name: "batch_size", expected, found });
        }
        self.check_single("predict")?;
        let values = self.predict_tensors(std::slice::from_ref(x), batch_size)?.swap_remove(0);
        lint_images::advise_once(self, x, "predicted")?;
        Ok(Predictions::new(values, self.class_layout(), self.probability_function()))
    }

    /// The values of each output, from all samples of each input.
    pub(super) fn predict_tensors(&self, inputs: &[Tensor], batch_size: usize) -> Result<Vec<Vec<f32>>> {
        self.check_inputs(inputs)?;
        let samples = inputs[0].dim(0)?;
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.outputs().len()];
        for start in (0..samples).step_by(batch_size) {
            check_interrupt()?;
            let batch = |x: &Tensor| x.narrow(0, start, batch_size.min(samples - start));
            let batches = inputs.iter().map(batch).collect::<candle_core::Result<Vec<Tensor>>>()?;
            for (values, output) in values.iter_mut().zip(self.outputs_from(&batches, Mode::Inference)?) {
                values.extend(output.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(values)
    }

    /// Evaluates loss and metrics on inputs and targets, in inference mode and in batches of 32.
    ///
    /// # Errors
    /// [`Error::NotCompiled`]; [`Error::Shape`] and [`Error::Targets`] if the data do not fit the model;
    /// [`Error::Argument`] if the model has several inputs or outputs.
    pub fn evaluate(&self, x: &Tensor, y: &Tensor) -> Result<Scores> {
        self.evaluate_on((x, y), BATCH)
    }
}

/// Loss and metrics by name: the result of `evaluate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(Vec<(String, f64)>);

impl Scores {
    pub(super) fn new(row: Vec<(String, f64)>) -> Scores {
        Scores(row)
    }

    /// Returns the value with this name, or `None`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl std::ops::Index<&str> for Scores {
    type Output = f64;

    /// Returns the value with this name.
    ///
    /// # Panics
    /// Panics if no value has this name. [`Scores::get`] returns `None` instead.
    fn index(&self, name: &str) -> &f64 {
        let found = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        found.unwrap_or_else(|| {
            let known: Vec<&str> = self.0.iter().map(|(known, _)| known.as_str()).collect();
            panic!("the scores are {known:?}, and there is no {name:?}")
        })
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}: {value:.4}")).collect();
        f.write_str(&parts.join(" - "))
    }
}

impl Show for Scores {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lint::printed_advice;
    use crate::Result;
    use crate::prelude::*;

    #[test]
    fn outputs_that_are_nan_are_noted_once() -> Result<()> {
        let model = sequential![Input::new(2), Dense::new(1)]?;
        let x = (Tensor::zeros((100, 2), DType::F32, &device())? / 0.0)?;
        let y = Tensor::zeros(100, DType::U32, &device())?;
        let noted = || printed_advice::take().matches("100 of 100 outputs are NaN").count();
        noted();
        model.predict(&x)?;
        assert_eq!(noted(), 1, "a tensor");
        model.predict_in_batches((&x, &y), 10)?;
        assert_eq!(noted(), 1, "batches");
        model.predict_many(&[("input", &x)])?;
        assert_eq!(noted(), 1, "named inputs");
        model.confusion_matrix((&x, &y))?;
        assert_eq!(noted(), 1, "a confusion matrix");
        Ok(())
    }
}
