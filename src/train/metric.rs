//! The library's metrics, with Keras's definitions (`keras/src/metrics`).

use serde::{Deserialize, Serialize};

use crate::nn::{THRESHOLD, class_of, largest};

/// The built-in metrics, a subset of Keras's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::upper_case_acronyms)]
pub(crate) enum BuiltInMetric {
    Accuracy,
    BinaryAccuracy,
    TopKCategoricalAccuracy(usize),
    Precision,
    Recall,
    F1Score,
    AUC,
}

impl BuiltInMetric {
    /// The metric's name in the history.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BuiltInMetric::Accuracy => "accuracy",
            BuiltInMetric::BinaryAccuracy => "binary_accuracy",
            BuiltInMetric::TopKCategoricalAccuracy(_) => "top_k_categorical_accuracy",
            BuiltInMetric::Precision => "precision",
            BuiltInMetric::Recall => "recall",
            BuiltInMetric::F1Score => "f1_score",
            BuiltInMetric::AUC => "auc",
        }
    }
}

/// Number of thresholds for the AUC: Keras's `num_thresholds`.
const THRESHOLDS: usize = 200;

/// The running value of a built-in metric.
pub(crate) struct Count {
    metric: BuiltInMetric,
    right: f64,
    samples: f64,
    /// True positives, false positives and false negatives: per class, or over all outputs.
    classes: Vec<[f64; 3]>,
    /// Histograms of the outputs between two thresholds, for targets 1 (`positive`) and targets 0
    /// (`negative`).
    positive: Vec<f64>,
    negative: Vec<f64>,
}

impl Count {
    pub(crate) fn new(metric: BuiltInMetric) -> Count {
        Count {
            metric,
            classes: Vec::new(),
            right: 0.0,
            samples: 0.0,
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }

    /// Adds a batch: rows of `columns` outputs, and targets of the same shape.
    pub(crate) fn add(&mut self, outputs: &[f32], targets: &[f32], columns: usize) {
        let rows = outputs.chunks(columns).zip(targets.chunks(columns));
        match self.metric {
            BuiltInMetric::Accuracy => {
                self.share(rows, |output, target| class_of(output) == class_of(target))
            }
            BuiltInMetric::BinaryAccuracy => {
                let values = outputs.chunks(1).zip(targets.chunks(1));
                self.share(values, |output, target| (output[0] > THRESHOLD) == (target[0] > THRESHOLD))
            }
            BuiltInMetric::TopKCategoricalAccuracy(k) => self.share(rows, |output, target| {
                let wanted = output[largest(target)];
                // As in TensorFlow's `in_top_k`, a sample with an output that is not finite is wrong.
                let is_finite = output.iter().all(|value| value.is_finite());
                is_finite && output.iter().filter(|value| **value > wanted).count() < k
            }),
            BuiltInMetric::Precision | BuiltInMetric::Recall => {
                self.classes.resize(1, [0.0; 3]);
                let pairs = outputs.iter().zip(targets);
                pairs.for_each(|(output, target)| count(&mut self.classes[0], *output > 0.5, *target > 0.5));
            }
            BuiltInMetric::F1Score => {
                self.classes.resize(columns, [0.0; 3]);
                for (output, target) in rows {
                    let chosen = largest(output);
                    for (class, counts) in self.classes.iter_mut().enumerate() {
                        let is = if columns == 1 { output[0] > THRESHOLD } else { class == chosen };
                        count(counts, is, target[class] > 0.5);
                    }
                }
            }
            BuiltInMetric::AUC => {
                self.positive.resize(THRESHOLDS, 0.0);
                self.negative.resize(THRESHOLDS, 0.0);
                for (output, target) in outputs.iter().zip(targets) {
                    let bucket = ((output * (THRESHOLDS - 1) as f32).ceil() as usize).saturating_sub(1);
                    let counts = if *target > 0.5 { &mut self.positive } else { &mut self.negative };
                    counts[bucket.min(THRESHOLDS - 1)] += 1.0;
                }
            }
        }
    }

    /// Adds samples of which the number of correct ones was counted elsewhere.
    pub(crate) fn add_correct(&mut self, correct: f64, samples: f64) {
        self.right += correct;
        self.samples += samples;
    }

    fn share<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a [f32], &'a [f32])>,
        is_right: impl Fn(&[f32], &[f32]) -> bool,
    ) {
        for (output, target) in rows {
            self.samples += 1.0;
            self.right += f64::from(u8::from(is_right(output, target)));
        }
    }

    /// Returns the metric over all added batches. Where the divisor is 0, returns 0, as Keras does.
    pub(crate) fn value(&self) -> f64 {
        match self.metric {
            BuiltInMetric::Accuracy
            | BuiltInMetric::BinaryAccuracy
            | BuiltInMetric::TopKCategoricalAccuracy(_) => ratio(self.right, self.samples),
            BuiltInMetric::Precision => self.classes.first().map_or(0.0, |[tp, fp, _]| ratio(*tp, tp + fp)),
            BuiltInMetric::Recall => {
                self.classes.first().map_or(0.0, |[tp, _, missed]| ratio(*tp, tp + missed))
            }
            BuiltInMetric::F1Score => {
                let scores =
                    self.classes.iter().map(|[tp, fp, missed]| ratio(2.0 * tp, 2.0 * tp + fp + missed));
                ratio(scores.sum(), self.classes.len() as f64)
            }
            BuiltInMetric::AUC => self.area(),
        }
    }

    fn area(&self) -> f64 {
        // The number of outputs above each threshold.
        let over = |counts: &[f64]| {
            let mut sum = 0.0;
            let mut over: Vec<f64> = counts
                .iter()
                .rev()
                .map(|count| {
                    sum += count;
                    sum
                })
                .collect();
            over.reverse();
            over.iter().map(|count| ratio(*count, sum)).collect::<Vec<f64>>()
        };
        let (hits, alarms) = (over(&self.positive), over(&self.negative));
        let steps = hits.windows(2).zip(alarms.windows(2));
        steps.map(|(hit, alarm)| (alarm[0] - alarm[1]) * (hit[0] + hit[1]) / 2.0).sum()
    }
}

fn count([tp, fp, missed]: &mut [f64; 3], is: bool, should: bool) {
    match (is, should) {
        (true, true) => *tp += 1.0,
        (true, false) => *fp += 1.0,
        (false, true) => *missed += 1.0,
        (false, false) => {}
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
