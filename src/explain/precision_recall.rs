//! Precision and recall over the threshold.

use std::fmt;

use candle_core::Tensor;

use super::truth::{second_class_probabilities, true_classes};
use crate::display::debug_as_text;
use crate::nn::Predictions;
use crate::{Error, Result};

/// Precision and recall of class 1 for each threshold: scikit-learn's `precision_recall_curve`.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(1), Activation::Linear]?;
/// let predictions = model.predict(&Tensor::new(&[[0.1f32], [0.4], [0.35], [0.8]], &device())?)?;
/// let curve = PrecisionRecall::new(&Tensor::new(&[0u32, 0, 1, 1], &device())?, &predictions)?;
/// assert!((curve.average_precision() - 0.8333).abs() < 1e-4);
/// // A missed sample of class 1 costs ten times as much as a false alarm.
/// let threshold = curve.cheapest_threshold(1.0, 10.0)?;
/// assert_eq!(predictions.with_threshold(threshold)?.classes(), [0, 1, 1, 1]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct PrecisionRecall {
    /// Distinct probabilities, ascending, each with the numbers of true and false positives among the samples that have
    /// at least this probability.
    points: Vec<(f64, usize, usize)>,
    positives: usize,
}

impl PrecisionRecall {
    /// Counts the predictions of two classes, for samples with true class numbers `[N]`. Class 1 is the positive class.
    ///
    /// # Errors
    /// [`Error::Argument`] if:
    /// - there are no samples, or the numbers of samples and predictions differ;
    /// - there are more than two classes;
    /// - no sample has class 1.
    pub fn new(truth: &Tensor, predictions: &Predictions) -> Result<PrecisionRecall> {
        let predictions = &*predictions.of_positions();
        let truth = true_classes(truth, predictions)?;
        let probabilities = second_class_probabilities(predictions)?;
        let positives = truth.iter().sum();
        if positives == 0 {
            let (expected, found) = ("at least one sample of class 1".into(), "none".into());
            return Err(Error::Argument { name: "truth", expected, found });
        }
        let mut samples: Vec<(f64, usize)> = probabilities.into_iter().zip(truth).collect();
        samples.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut points: Vec<(f64, usize, usize)> = Vec::new();
        let (mut hits, mut alarms) = (0, 0);
        for (probability, class) in samples {
            hits += class;
            alarms += 1 - class;
            match points.last_mut() {
                Some(last) if last.0 == probability => *last = (probability, hits, alarms),
                _ => points.push((probability, hits, alarms)),
            }
        }
        points.reverse();
        Ok(PrecisionRecall { points, positives })
    }

    /// The distinct probabilities, ascending. Samples with at least this probability are predicted as class 1.
    pub fn thresholds(&self) -> Vec<f64> {
        self.points.iter().map(|point| point.0).collect()
    }

    /// At each threshold: of the samples predicted as class 1, the fraction that belongs to it.
    pub fn precision(&self) -> Vec<f64> {
        self.points.iter().map(|(_, hits, alarms)| *hits as f64 / (hits + alarms) as f64).collect()
    }

    /// At each threshold: of the samples of class 1, the fraction that is predicted as it.
    pub fn recall(&self) -> Vec<f64> {
        self.points.iter().map(|(_, hits, _)| *hits as f64 / self.positives as f64).collect()
    }

    /// The mean of the precisions, each weighted by the rise of the recall: scikit-learn's `average_precision_score`.
    pub fn average_precision(&self) -> f64 {
        let (precision, mut recall) = (self.precision(), self.recall());
        recall.push(0.0);
        precision.iter().zip(recall.windows(2)).map(|(precision, pair)| precision * (pair[0] - pair[1])).sum()
    }

    /// The threshold with the lowest total cost, for [`Predictions::with_threshold`]. `false_positive` is the cost of a
    /// sample that is wrongly predicted as class 1, `false_negative` that of a missed sample of class 1.
    ///
    /// Of several thresholds with the same cost, it is the one nearest to `false_positive / (false_positive +
    /// false_negative)`, which is best for calibrated probabilities (Elkan 2001).
    ///
    /// # Errors
    /// [`Error::Argument`] if a cost is not a finite number above 0.
    pub fn cheapest_threshold(&self, false_positive: f64, false_negative: f64) -> Result<f64> {
        for cost in [false_positive, false_negative] {
            if !(cost > 0.0 && cost.is_finite()) {
                let (expected, found) = ("a finite number above 0".into(), cost.to_string());
                return Err(Error::Argument { name: "cost", expected, found });
            }
        }
        let (lowest, highest) = (self.points[0].0, self.points[self.points.len() - 1].0);
        // A threshold below a probability predicts its samples as class 1. One above the highest predicts none.
        let below = if lowest > 0.0 { lowest / 2.0 } else { -f64::EPSILON };
        let between = self.points.windows(2).map(|pair| pair[0].0.midpoint(pair[1].0));
        let thresholds = std::iter::once(below).chain(between).chain([highest.midpoint(1.0).max(highest)]);
        let counts = self.points.iter().map(|(_, hits, alarms)| (*hits, *alarms)).chain([(0, 0)]);
        let theory = false_positive / (false_positive + false_negative);
        let cost = |(hits, alarms): (usize, usize)| {
            alarms as f64 * false_positive + (self.positives - hits) as f64 * false_negative
        };
        let choices = thresholds
            .zip(counts)
            .map(|(threshold, counts)| (cost(counts), (threshold - theory).abs(), threshold));
        let best = choices.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Ok(best.map_or(theory, |(_, _, threshold)| threshold))
    }
}

debug_as_text!(PrecisionRecall);

impl fmt::Display for PrecisionRecall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "average precision {:.4}, {} samples of class 1", self.average_precision(), self.positives)
    }
}
