//! Outputs of a model for a set of samples.

use std::fmt;
use std::ops::Index;

use candle_core::Tensor;

use super::Activation;
use super::decision::{class_of, confidence_of, probabilities};
use crate::Result;
use crate::display::{Bundle, Show, text_bundle};

/// Outputs of a model, one row per sample: `predictions[0][0]` is the first output of the first sample.
///
/// The values are the raw outputs of the model, which may be logits. [`Predictions::classes`] and
/// [`Predictions::confidences`] use probabilities, as the metrics of `evaluate` do.
#[derive(Clone, Debug)]
pub struct Predictions {
    values: Vec<f32>,
    columns: usize,
    /// The function that turns outputs into probabilities.
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

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Iterates over the rows, one per sample.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.columns)
    }

    /// Sets whether the outputs are logits. Needed only if the model ends without `Sigmoid` or `Softmax` and was not
    /// compiled. Otherwise the last activation or the loss (`.from_logits(true)`) decides.
    pub fn from_logits(self, from_logits: bool) -> Predictions {
        let function = match (from_logits, self.columns) {
            (false, _) => Activation::Linear,
            (true, 1) => Activation::Sigmoid,
            (true, _) => Activation::Softmax,
        };
        Predictions { function, ..self }
    }

    /// Probabilities of each sample.
    pub(crate) fn probabilities(&self) -> impl Iterator<Item = Vec<f32>> {
        self.iter().map(|row| probabilities(self.function, row))
    }

    /// Class of each sample: the most probable one; for a single output, 1 if its probability is above 0.5.
    pub fn classes(&self) -> Vec<usize> {
        self.probabilities().map(|row| class_of(&row)).collect()
    }

    /// Probability of each sample's predicted class, from 0 to 1.
    pub fn confidences(&self) -> Vec<f32> {
        self.probabilities().map(|row| confidence_of(&row)).collect()
    }

    /// Appends the rows of further samples.
    pub(crate) fn append(&mut self, more: Predictions) {
        self.values.extend(more.values);
    }

    /// Selects rows by index.
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
    /// If the index is out of range.
    fn index(&self, sample: usize) -> &[f32] {
        &self.values[sample * self.columns..(sample + 1) * self.columns]
    }
}

impl fmt::Display for Predictions {
    /// The first ten rows and the number of samples.
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
