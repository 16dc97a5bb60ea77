//! The `Metric` trait, which users can implement, and the metrics of a compiled model.
#![allow(non_upper_case_globals, non_snake_case)]

use std::fmt;

use candle_core::Tensor;

use super::metric::{BuiltInMetric, Count};
use crate::{Error, Result};

/// A custom metric. Each epoch starts with a clone of the value that `compile` received.
///
/// ```
/// use headstart::prelude::*;
/// #[derive(Clone, Default)]
/// struct MeanError {
///     sum: f64,
///     samples: usize,
/// }
///
/// impl Metric for MeanError {
///     fn name(&self) -> &str {
///         "mean_error"
///     }
///
///     fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> headstart::Result<()> {
///         self.sum += f64::from((outputs - targets)?.sum_all()?.to_scalar::<f32>()?);
///         self.samples += targets.dim(0)?;
///         Ok(())
///     }
///
///     fn result(&self) -> f64 {
///         self.sum / self.samples as f64
///     }
/// }
/// # let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
/// let mut model = sequential![Input::new(2), Dense::new(1)]?;
/// model.compile(SGD::new(0.1), MeanSquaredError, [MeanError::default().into()]);
/// let history = model.fit((&x, &y), Fit::epochs(2))?;
/// assert!(history["mean_error"][1].is_finite());
/// # Ok::<(), headstart::Error>(())
/// ```
pub trait Metric: Clone + Send + Sync {
    /// The metric's name in the history.
    fn name(&self) -> &str;

    /// Adds a batch. Targets and outputs are `f32` tensors of the same shape, `[N, …]`. Class indices
    /// are one-hot. Outputs are probabilities, even if the loss takes logits.
    ///
    /// # Errors
    /// Any error ends `fit` or `evaluate`.
    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()>;

    /// Returns the metric over all added batches.
    fn result(&self) -> f64;

    /// Whether a larger value is better. With `None`, the default, callbacks need an explicit `mode`.
    fn is_larger_better(&self) -> Option<bool> {
        None
    }
}

/// The object-safe form of [`Metric`].
#[doc(hidden)]
pub trait AnyMetric: Send + Sync {
    fn name(&self) -> &str;
    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()>;
    fn result(&self) -> f64;
    fn is_larger_better(&self) -> Option<bool>;
    fn cloned(&self) -> Box<dyn AnyMetric>;
}

impl<M: Metric + 'static> AnyMetric for M {
    fn name(&self) -> &str {
        Metric::name(self)
    }

    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()> {
        Metric::update_state(self, targets, outputs)
    }

    fn result(&self) -> f64 {
        Metric::result(self)
    }

    fn is_larger_better(&self) -> Option<bool> {
        Metric::is_larger_better(self)
    }

    fn cloned(&self) -> Box<dyn AnyMetric> {
        Box::new(self.clone())
    }
}

/// A metric for `compile`: a built-in one, or your own with `MyMetric::default().into()`.
///
/// Metrics receive probabilities: if the loss takes logits, `Sigmoid` or `Softmax` is applied first.
/// Repeated metrics are numbered, as in Keras: `precision`, `precision_1`.
pub struct MetricSpec(Spec);

enum Spec {
    BuiltIn(BuiltInMetric),
    Own(Box<dyn AnyMetric>),
}

/// The share of samples with the correct class. With one output, the class is whether it exceeds 0.5;
/// with several, it is the index of the largest.
pub const Accuracy: MetricSpec = MetricSpec::built_in(BuiltInMetric::Accuracy);
/// The share of outputs that are on the side of 0.5 of their target, for several labels a sample: each output counts
/// for itself.
pub const BinaryAccuracy: MetricSpec = MetricSpec::built_in(BuiltInMetric::BinaryAccuracy);
/// The share of the outputs above 0.5 whose target is 1: true positives divided by all positive
/// predictions.
pub const Precision: MetricSpec = MetricSpec::built_in(BuiltInMetric::Precision);
/// The share of the targets of 1 whose output is above 0.5: true positives divided by all positive
/// targets.
pub const Recall: MetricSpec = MetricSpec::built_in(BuiltInMetric::Recall);
/// The harmonic mean of precision and recall. With several outputs, the predicted class is the largest
/// output, and the result is the mean over the classes (Keras's `average="macro"`).
pub const F1Score: MetricSpec = MetricSpec::built_in(BuiltInMetric::F1Score);
/// The area under the ROC curve, from 200 thresholds as in Keras.
pub const AUC: MetricSpec = MetricSpec::built_in(BuiltInMetric::AUC);

/// The share of samples whose class is among the `k` most probable classes.
pub const fn TopKCategoricalAccuracy(k: usize) -> MetricSpec {
    MetricSpec::built_in(BuiltInMetric::TopKCategoricalAccuracy(k))
}

impl<M: Metric + 'static> From<M> for MetricSpec {
    fn from(metric: M) -> MetricSpec {
        MetricSpec(Spec::Own(Box::new(metric)))
    }
}

impl Clone for MetricSpec {
    fn clone(&self) -> MetricSpec {
        MetricSpec(match &self.0 {
            Spec::BuiltIn(metric) => Spec::BuiltIn(*metric),
            Spec::Own(metric) => Spec::Own(metric.cloned()),
        })
    }
}

impl fmt::Debug for MetricSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MetricSpec {
    pub(super) const fn built_in(metric: BuiltInMetric) -> MetricSpec {
        MetricSpec(Spec::BuiltIn(metric))
    }

    /// The metric's name in the history.
    pub fn name(&self) -> &str {
        match &self.0 {
            Spec::BuiltIn(metric) => metric.name(),
            Spec::Own(metric) => metric.name(),
        }
    }

    /// Returns the metric if the library defines it.
    pub(crate) fn as_built_in(&self) -> Option<BuiltInMetric> {
        match &self.0 {
            Spec::BuiltIn(metric) => Some(*metric),
            Spec::Own(_) => None,
        }
    }

    /// Whether a larger value is better, if known.
    pub(crate) fn is_larger_better(&self) -> Option<bool> {
        match &self.0 {
            Spec::BuiltIn(_) => Some(true),
            Spec::Own(metric) => metric.is_larger_better(),
        }
    }

    /// Whether the metric ranges from 0 to 1, as all built-in metrics do.
    pub(crate) fn is_proportion(&self) -> bool {
        self.as_built_in().is_some()
    }

    /// Creates the running value of the metric, without samples.
    pub(crate) fn begin(&self) -> Measurement {
        match &self.0 {
            Spec::BuiltIn(metric) => Measurement::BuiltIn(Count::new(*metric)),
            Spec::Own(metric) => Measurement::Own(metric.cloned()),
        }
    }
}

/// Returns the names of metrics in the history. The second of two equal names gets the number 1, as in
/// Keras.
pub(crate) fn numbered_names(metrics: &[MetricSpec]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for metric in metrics {
        let numbered = (1..).map(|number| format!("{}_{number}", metric.name()));
        let mut candidates = std::iter::once(metric.name().to_owned()).chain(numbered);
        let is_free = |name: &String| name != LOSS && !names.contains(name);
        let free = candidates.find(is_free).unwrap_or_default();
        names.push(free);
    }
    names
}

/// The name of the loss in the history.
pub(crate) const LOSS: &str = "loss";

/// The running value of a metric.
pub(crate) enum Measurement {
    BuiltIn(Count),
    Own(Box<dyn AnyMetric>),
}

/// A batch in the form that metrics take.
pub(crate) struct MetricBatch<'a> {
    /// Targets and probabilities in the model's output shape.
    pub(crate) tensors: (&'a Tensor, &'a Tensor),
    /// The same values, row by row.
    pub(crate) targets: &'a [f32],
    pub(crate) outputs: &'a [f32],
    /// The number of values in a row.
    pub(crate) columns: usize,
}

impl Measurement {
    pub(crate) fn add(&mut self, batch: &MetricBatch) -> Result<()> {
        match self {
            Measurement::BuiltIn(count) => {
                count.add(batch.outputs, batch.targets, batch.columns);
                Ok(())
            }
            Measurement::Own(metric) => metric.update_state(batch.tensors.0, batch.tensors.1),
        }
    }

    /// Adds a batch to [`Accuracy`], whose number of correct samples was counted elsewhere.
    pub(crate) fn add_correct(&mut self, correct: f64, samples: f64) {
        if let Measurement::BuiltIn(count) = self {
            count.add_correct(correct, samples);
        }
    }

    pub(crate) fn value(&self) -> f64 {
        match self {
            Measurement::BuiltIn(count) => count.value(),
            Measurement::Own(metric) => metric.result(),
        }
    }
}

/// Whether a larger value is better for the history column `name`.
///
/// # Errors
/// [`Error::Argument`] if the metric does not define it.
pub(crate) fn is_larger_better(name: &str, names: &[String], metrics: &[MetricSpec]) -> Result<bool> {
    let measured = name.strip_prefix("val_").unwrap_or(name);
    if measured == LOSS {
        return Ok(false);
    }
    let at = names.iter().position(|known| known == measured);
    at.and_then(|at| metrics[at].is_larger_better()).ok_or_else(|| Error::Argument {
        name: "mode",
        expected: format!(
            "`.mode(\"max\")` or `.mode(\"min\")`, since `{name}` does not define which direction is better"
        ),
        found: "\"auto\"".into(),
    })
}
