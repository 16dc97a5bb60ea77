//! A model's outputs for some samples.

use std::fmt;
use std::ops::Index;

use candle_core::Tensor;

use super::Activation;
use super::decision::{class_of, confidence_of, probabilities};
use crate::Result;
use crate::display::{Bundle, Show, text_bundle};

/// One row of outputs a sample: `predictions[0][0]` is the first sample's first output.
///
/// The outputs are as the model gives them, logits too; [`Predictions::classes`] and [`Predictions::confidences`] look
/// at probabilities, as the metrics of `evaluate` do.
#[derive(Clone, Debug)]
pub struct Predictions {
    values: Vec<f32>,
    columns: usize,
    /// The function that makes probabilities of the outputs.
    function: Activation,
}

impl PartialEq for Predictions {
    fn eq(&self, other: &Predictions) -> bool {
        self.columns == other.columns && self.values == other.values
    }
}

impl Predictions {
    pub(crate) fn new(values: Vec<f32>, columns: usize, function: Activation) -> Predictions {
        Predictions { values, columns, function }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.columns)
    }

    /// Sets whether the outputs are logits: needed only for a model that ends without `Sigmoid` or `Softmax` and was
    /// not compiled; for any other it is known, from a loss with `.from_logits(true)` too.
    pub fn from_logits(self, from_logits: bool) -> Predictions {
        let function = match (from_logits, self.columns) {
            (false, _) => Activation::Linear,
            (true, 1) => Activation::Sigmoid,
            (true, _) => Activation::Softmax,
        };
        Predictions { function, ..self }
    }

    /// Each sample's probabilities.
    pub(crate) fn probabilities(&self) -> impl Iterator<Item = Vec<f32>> {
        self.iter().map(|row| probabilities(self.function, row))
    }

    /// The class that each sample is given: the most probable; for one output, 1 where its probability is over 0.5.
    pub fn classes(&self) -> Vec<usize> {
        self.probabilities().map(|row| class_of(&row)).collect()
    }

    /// The probability of each sample's class, from 0 to 1.
    pub fn confidences(&self) -> Vec<f32> {
        self.probabilities().map(|row| confidence_of(&row)).collect()
    }

    /// Adds the rows of further samples.
    pub(crate) fn append(&mut self, more: Predictions) {
        self.values.extend(more.values);
    }

    /// Some of the rows.
    pub(crate) fn select(&self, numbers: &[u32]) -> Predictions {
        let values = numbers.iter().flat_map(|at| &self[*at as usize]).copied().collect();
        Predictions { values, columns: self.columns, function: self.function }
    }

    /// All outputs as a tensor, `[N, outputs]`.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.values, (self.len(), self.columns), &crate::device())?)
    }
}

impl Index<usize> for Predictions {
    type Output = [f32];

    /// # Panics
    /// If there is no such sample.
    fn index(&self, sample: usize) -> &[f32] {
        &self.values[sample * self.columns..(sample + 1) * self.columns]
    }
}

impl fmt::Display for Predictions {
    /// The first rows, and how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for row in self.iter().take(SHOWN) {
            let row: Vec<String> = row.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
            writeln!(f, "[{}{}]", row.join(", "), if self.columns > SHOWN { ", …" } else { "" })?;
        }
        write!(f, "{} samples of {} outputs", self.len(), self.columns)
    }
}

impl Show for Predictions {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}
