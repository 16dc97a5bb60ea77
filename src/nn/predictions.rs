//! Outputs of a model for a set of samples.

use std::borrow::Cow;
use std::fmt;
use std::ops::Index;

use candle_core::Tensor;

use super::Activation;
use super::class_layout::ClassLayout;
use super::decision::{THRESHOLD, largest, probabilities};
use crate::display::{Bundle, Show, text_bundle};
use crate::{Error, Result};

/// Outputs of a model, one row per sample: `predictions[0][0]` is the first output of the first sample.
///
/// The values are the raw outputs of the model, which may be logits. [`Predictions::classes`] and
/// [`Predictions::confidences`] use probabilities, as the metrics of `evaluate` do. For outputs with a class at each
/// position, they have one value for each position: for each pixel of feature maps `[classes, height, width]`, or for
/// each token of `[tokens, classes]`.
#[derive(Clone, Debug)]
pub struct Predictions {
    values: Vec<f32>,
    layout: ClassLayout,
    /// The function that turns outputs into probabilities.
    function: Activation,
    /// Probability above which a single output means class 1.
    threshold: f64,
}

/// Smallest distance of a probability from 0 and 1 where its logit is computed: Keras's epsilon.
const EPSILON: f64 = 1e-7;

/// Largest distance of a probability outside the range from 0 to 1: the rounding errors of a mean of many.
const ROUNDING: f32 = 1e-5;

impl PartialEq for Predictions {
    fn eq(&self, other: &Predictions) -> bool {
        self.layout == other.layout && self.values == other.values
    }
}

impl Predictions {
    pub(crate) fn new(values: Vec<f32>, layout: ClassLayout, function: Activation) -> Predictions {
        Predictions { values, layout, function, threshold: f64::from(THRESHOLD) }
    }

    /// The predictions with one row per position: those of samples with a single class.
    pub(crate) fn of_positions(&self) -> Cow<'_, Predictions> {
        if self.layout.positions == 1 {
            return Cow::Borrowed(self);
        }
        let layout = ClassLayout::of(&[self.layout.classes]);
        Cow::Owned(Predictions { values: self.layout.row_values(&self.values), layout, ..*self })
    }

    /// The number of outputs of a sample.
    fn columns(&self) -> usize {
        self.layout.columns()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Iterates over the rows, one per sample.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> + Clone {
        self.values.chunks(self.columns())
    }

    /// Sets whether the outputs are logits. Needed only if the model ends without `Sigmoid` or `Softmax` and was not
    /// compiled. Otherwise the last activation or the loss (`.from_logits(true)`) decides.
    pub fn from_logits(self, from_logits: bool) -> Predictions {
        let function = match (from_logits, self.layout.classes) {
            (false, _) => Activation::Linear,
            (true, 1) => Activation::Sigmoid,
            (true, _) => Activation::Softmax,
        };
        Predictions { function, ..self }
    }

    /// Probabilities of each sample with a single class.
    pub(crate) fn probabilities(&self) -> impl Iterator<Item = Vec<f32>> {
        self.iter().map(|row| probabilities(self.function, row))
    }

    /// Sets the probability above which a single output means class 1. Default: 0.5, as in Keras's `BinaryAccuracy`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are several outputs, or the threshold is NaN.
    pub fn with_threshold(self, threshold: f64) -> Result<Predictions> {
        if self.layout.classes != 1 || threshold.is_nan() {
            let (expected, found) = (
                "a number, for predictions with one output".into(),
                format!("{threshold}, {} outputs", self.layout.classes),
            );
            return Err(Error::Argument { name: "threshold", expected, found });
        }
        Ok(Predictions { threshold, ..self })
    }

    /// Divides the logits by `temperature` and returns probabilities: above 1, the model is less confident (Guo et al.
    /// 2017, "On Calibration of Modern Neural Networks"). With several outputs, the most probable class stays the same.
    ///
    /// # Errors
    /// [`Error::Argument`] if the temperature is not a finite number above 0, or the outputs are neither logits nor
    /// probabilities.
    pub fn with_temperature(&self, temperature: f64) -> Result<Predictions> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            let (expected, found) = ("a finite number above 0".into(), temperature.to_string());
            return Err(Error::Argument { name: "temperature", expected, found });
        }
        let mut rows = Vec::with_capacity(self.values.len());
        for row in self.of_positions().logits()? {
            let scaled = row.iter().map(|logit| (logit / temperature) as f32).collect::<Vec<_>>();
            let function = if self.layout.classes == 1 { Activation::Sigmoid } else { Activation::Softmax };
            rows.extend(probabilities(function, &scaled));
        }
        let (values, layout) = (self.layout.values_of_rows(&rows), self.layout.clone());
        Ok(Predictions { values, layout, function: Activation::Linear, ..*self })
    }

    /// Logits of each sample with a single class. Logits of probabilities are computed between [`EPSILON`] and 1 - [`EPSILON`].
    ///
    /// # Errors
    /// [`Error::Argument`] if the outputs count as probabilities, but one is not between 0 and 1.
    pub(crate) fn logits(&self) -> Result<impl Iterator<Item = Vec<f64>>> {
        let are_logits = matches!(self.function, Activation::Sigmoid | Activation::Softmax);
        // NaN stays NaN.
        let is_outside = |value: &&f32| **value < -ROUNDING || **value > 1.0 + ROUNDING;
        let are_probabilities = self.function == Activation::Linear;
        if let Some(value) = self.values.iter().find(is_outside).filter(|_| are_probabilities) {
            let expected = "probabilities; `.from_logits(true)` converts logits".into();
            return Err(Error::Argument {
                name: "predictions",
                expected,
                found: format!("an output of {value}"),
            });
        }
        Ok(self.iter().map(move |row| {
            let logit = |value: &f32| {
                if are_logits {
                    return f64::from(*value);
                }
                let p = f64::from(*value).clamp(EPSILON, 1.0 - EPSILON);
                if self.layout.classes == 1 { (p / (1.0 - p)).ln() } else { p.ln() }
            };
            match are_logits {
                true => row.iter().map(logit).collect(),
                false => probabilities(self.function, row).iter().map(logit).collect(),
            }
        }))
    }

    /// Class of each sample: the most probable one; for a single output, 1 if its probability is above the threshold.
    ///
    /// For feature maps, the class of each pixel, row by row and image by image:
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let model = sequential![Input::new((3, 8, 8)), Conv2D::new(5, 1).activation(Softmax)]?;
    /// let predictions = model.predict(&random_uniform((2, 3, 8, 8), 0.0, 1.0)?)?;
    /// let classes: Vec<u32> = predictions.classes().into_iter().map(|class| class as u32).collect();
    /// let masks = Tensor::from_vec(classes, (2, 8, 8), &device())?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn classes(&self) -> Vec<usize> {
        self.of_positions().probabilities().map(|row| self.class_of(&row)).collect()
    }

    /// Probability of each sample's predicted class, from 0 to 1. For feature maps, that of each pixel.
    pub fn confidences(&self) -> Vec<f32> {
        let confidence = |row: Vec<f32>| match (row.as_slice(), self.class_of(&row)) {
            ([], _) => f32::NAN,
            // NaN stays NaN.
            ([one], 0) => 1.0 - one,
            ([one], _) => *one,
            (several, class) => several[class],
        };
        self.of_positions().probabilities().map(confidence).collect()
    }

    fn class_of(&self, probabilities: &[f32]) -> usize {
        match probabilities {
            [one] => usize::from(f64::from(*one) > self.threshold),
            several => largest(several),
        }
    }

    /// Appends the rows of further samples.
    pub(crate) fn append(&mut self, more: Predictions) {
        self.values.extend(more.values);
    }

    /// Selects rows by index.
    pub(crate) fn select(&self, numbers: &[u32]) -> Predictions {
        let values = numbers.iter().flat_map(|at| &self[*at as usize]).copied().collect();
        Predictions { values, layout: self.layout.clone(), ..*self }
    }

    /// All outputs as a tensor, `[N, outputs]`.
    pub fn to_tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.values, (self.len(), self.columns()), &crate::device())?)
    }
}

impl Index<usize> for Predictions {
    type Output = [f32];

    /// # Panics
    /// If the index is out of range.
    fn index(&self, sample: usize) -> &[f32] {
        &self.values[sample * self.columns()..(sample + 1) * self.columns()]
    }
}

impl fmt::Display for Predictions {
    /// The first ten rows and the number of samples.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rows that a display shows.
        const SHOWN: usize = 10;
        for row in self.iter().take(SHOWN) {
            let row: Vec<String> = row.iter().take(SHOWN).map(|value| format!("{value:.4}")).collect();
            writeln!(f, "[{}{}]", row.join(", "), if self.columns() > SHOWN { ", …" } else { "" })?;
        }
        write!(f, "{} samples of {} outputs", self.len(), self.columns())
    }
}

impl Show for Predictions {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}
