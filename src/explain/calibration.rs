//! Calibration: whether confidences agree with accuracies.

use std::fmt;

use candle_core::Tensor;

use super::truth::{class_count, true_classes};
use crate::display::debug_as_text;
use crate::nn::Predictions;
use crate::{Error, Result};

/// Reliability diagram and expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks").
///
/// Samples are grouped by the confidence of their predicted class, in bins of equal width. A calibrated model is right
/// in 80 % of the cases in which its confidence is 0.8.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(1), Activation::Linear]?;
/// let predictions = model.predict(&Tensor::new(&[[0.9f32], [0.9], [0.9], [0.9]], &device())?)?;
/// let truth = Tensor::new(&[1u32, 1, 1, 0], &device())?;
/// let calibration = Calibration::new(&truth, &predictions, 10)?;
/// assert!((calibration.error() - 0.15).abs() < 1e-6);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct Calibration {
    classes: usize,
    count: usize,
    bins: Vec<(f64, f64, usize)>,
}

impl Calibration {
    /// Groups the predictions for samples with true class numbers `[N]` into `bins` bins from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Argument`] if:
    /// - `bins` is not from 1 to 1000;
    /// - there are no samples, or the numbers of samples and predictions differ;
    /// - a target is not the number of a predicted class;
    /// - a confidence is not between 0 and 1.
    pub fn new(truth: &Tensor, predictions: &Predictions, bins: usize) -> Result<Calibration> {
        if !(1..=1000).contains(&bins) {
            let (expected, found) = ("a number from 1 to 1000".into(), bins.to_string());
            return Err(Error::Argument { name: "bins", expected, found });
        }
        let predictions = &*predictions.of_positions();
        let truth = true_classes(truth, predictions)?;
        let confidences = predictions.confidences();
        if let Some(confidence) = confidences.iter().find(|confidence| !(0.0..=1.0).contains(*confidence)) {
            let expected = "probabilities; `.from_logits(true)` converts logits".into();
            return Err(Error::Argument {
                name: "predictions",
                expected,
                found: format!("a confidence of {confidence}"),
            });
        }
        // Sum of the confidences, number of correct samples, number of samples.
        let mut sums = vec![(0.0, 0usize, 0usize); bins];
        for ((truth, class), confidence) in truth.iter().zip(predictions.classes()).zip(confidences) {
            // The upper end of a bin belongs to it.
            let at =
                (0..bins - 1).take_while(|at| f64::from(confidence) > (at + 1) as f64 / bins as f64).count();
            let (sum, right, count) = &mut sums[at];
            *sum += f64::from(confidence);
            *right += usize::from(*truth == class);
            *count += 1;
        }
        let means = sums.into_iter().filter(|(_, _, count)| *count > 0);
        let bins_used =
            means.map(|(sum, right, count)| (sum / count as f64, right as f64 / count as f64, count));
        Ok(Calibration { classes: class_count(predictions), count: truth.len(), bins: bins_used.collect() })
    }

    /// Mean confidence, accuracy and number of samples of each bin that has samples.
    pub fn bins(&self) -> &[(f64, f64, usize)] {
        &self.bins
    }

    /// The expected calibration error: the mean distance of confidence and accuracy, weighted by the number of samples.
    pub fn error(&self) -> f64 {
        let gaps = self
            .bins
            .iter()
            .map(|(confidence, accuracy, count)| (confidence - accuracy).abs() * *count as f64);
        gaps.sum::<f64>() / self.count as f64
    }

    /// Number of classes.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }
}

debug_as_text!(Calibration);

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected calibration error {:.4} of {} samples", self.error(), self.count)?;
        for (confidence, accuracy, count) in &self.bins {
            write!(f, "\nconfidence {confidence:.2}: accuracy {accuracy:.2} of {count}")?;
        }
        Ok(())
    }
}

/// Range of temperatures that [`Predictions::fit_temperature`] searches.
const TEMPERATURES: (f64, f64) = (0.01, 100.0);
/// Number of golden-section steps (60: the interval shrinks to less than 1e-12 of its length).
const STEPS: usize = 60;

impl Predictions {
    /// Finds the temperature with the smallest cross-entropy for samples with true class numbers `[N]`, for
    /// [`Predictions::with_temperature`] (Guo et al. 2017). Use validation images that the model was not trained on.
    ///
    /// # Errors
    /// Those of [`Predictions::losses`]; [`Error::Argument`] if no temperature from 0.01 to 100 is best: all
    /// predictions are right, or they are no better than chance.
    pub fn fit_temperature(&self, truth: &Tensor) -> Result<f64> {
        let rows = self.of_positions();
        let truth = true_classes(truth, &rows)?;
        let logits: Vec<Vec<f64>> = rows.logits()?.collect();
        let loss = |temperature: f64| -> f64 {
            let rows = logits.iter().zip(&truth);
            rows.map(|(row, class)| cross_entropy(row.iter().map(|logit| logit / temperature), *class)).sum()
        };
        // The loss is convex in the inverse of the temperature, so it has one minimum.
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let (mut low, mut high) = (TEMPERATURES.0.ln(), TEMPERATURES.1.ln());
        let probe = |low: f64, high: f64| (high - golden * (high - low), low + golden * (high - low));
        for _ in 0..STEPS {
            let (left, right) = probe(low, high);
            if loss(left.exp()) < loss(right.exp()) { high = right } else { low = left }
        }
        let found = low.midpoint(high).exp();
        if !(1.01 * TEMPERATURES.0..TEMPERATURES.1 / 1.01).contains(&found) {
            let expected = "predictions with some mistakes, but better than chance".into();
            let right = self.classes().iter().zip(&truth).filter(|(class, truth)| class == truth).count();
            let found = format!("{right} of {} right", truth.len());
            return Err(Error::Argument { name: "predictions", expected, found });
        }
        Ok(found)
    }

    /// Cross-entropy of each sample, for true class numbers `[N]`. A large loss is a confident mistake.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no samples, or the numbers of samples and predictions differ. Also if a target is
    /// not the number of a predicted class, or the outputs are neither logits nor probabilities.
    pub fn losses(&self, truth: &Tensor) -> Result<Vec<f64>> {
        let rows = self.of_positions();
        let truth = true_classes(truth, &rows)?;
        Ok(rows.logits()?.zip(truth).map(|(row, class)| cross_entropy(row.into_iter(), class)).collect())
    }
}

/// Cross-entropy from logits; a single logit is that of class 1.
fn cross_entropy(logits: impl Iterator<Item = f64> + Clone, class: usize) -> f64 {
    let mut rest = logits.clone();
    if let (Some(logit), None) = (rest.next(), rest.next()) {
        let signed = if class == 1 { logit } else { -logit };
        return (-signed).max(0.0) + (-signed.abs()).exp().ln_1p();
    }
    let max = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.clone().map(|logit| (logit - max).exp()).sum();
    let own = logits.clone().nth(class).unwrap_or(f64::NEG_INFINITY);
    sum.ln() + max - own
}
