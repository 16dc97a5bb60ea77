//! The trait of metrics, which a user can implement, and the metrics that a model can be compiled with.
#![allow(non_upper_case_globals, non_snake_case)]

use std::fmt;

use candle_core::Tensor;

use super::metric::{BuiltInMetric, Count};
use crate::{Error, Result};

/// A metric of your own. It is measured anew in each epoch, on a clone of the value that `compile` was given.
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
    /// The metric's name in a history.
    fn name(&self) -> &str;

    /// Adds a batch: targets and outputs as `f32`, of one shape, `[N, …]`. Class numbers are one-hot; outputs are
    /// probabilities where the loss takes logits.
    ///
    /// # Errors
    /// Any error ends `fit` or `evaluate`.
    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()>;

    /// The metric over all batches that were added.
    fn result(&self) -> f64;

    /// Whether a larger value is better. `None`, the default, if callbacks must be given a `mode`.
    fn is_larger_better(&self) -> Option<bool> {
        None
    }
}

/// A [`Metric`] without its type.
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

/// A metric as `compile` takes it: one of Keras's, or one of your own, `MyMetric::default().into()`.
///
/// Metrics look at probabilities: where the loss takes logits, `Sigmoid` or `Softmax` is applied first. A metric that is
/// given twice is numbered, as in Keras: `precision`, `precision_1`.
pub struct MetricSpec(Spec);

enum Spec {
    BuiltIn(BuiltInMetric),
    Own(Box<dyn AnyMetric>),
}

/// The share of samples whose class is right: for one output, whether it is over 0.5; for several, whether the largest
/// is the target's.
pub const Accuracy: MetricSpec = MetricSpec::built_in(BuiltInMetric::Accuracy);
/// Of the outputs over 0.5, the share that should be.
pub const Precision: MetricSpec = MetricSpec::built_in(BuiltInMetric::Precision);
/// Of the outputs that should be over 0.5, the share that is.
pub const Recall: MetricSpec = MetricSpec::built_in(BuiltInMetric::Recall);
/// The harmonic mean of precision and recall; for several outputs, of each class with the largest output as its choice,
/// and the mean over the classes (Keras's `average="macro"`).
pub const F1Score: MetricSpec = MetricSpec::built_in(BuiltInMetric::F1Score);
/// The area under the curve of true over false positives, from 200 thresholds as in Keras.
pub const AUC: MetricSpec = MetricSpec::built_in(BuiltInMetric::AUC);

/// The share of samples whose class is among the `k` most probable.
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

    /// The metric's name in a history.
    pub fn name(&self) -> &str {
        match &self.0 {
            Spec::BuiltIn(metric) => metric.name(),
            Spec::Own(metric) => metric.name(),
        }
    }

    /// The metric, if it is one of the library's.
    pub(crate) fn as_built_in(&self) -> Option<BuiltInMetric> {
        match &self.0 {
            Spec::BuiltIn(metric) => Some(*metric),
            Spec::Own(_) => None,
        }
    }

    /// Whether a larger value is better, if that is known.
    pub(crate) fn is_larger_better(&self) -> Option<bool> {
        match &self.0 {
            Spec::BuiltIn(_) => Some(true),
            Spec::Own(metric) => metric.is_larger_better(),
        }
    }

    /// A measurement without samples.
    pub(crate) fn begin(&self) -> Measurement {
        match &self.0 {
            Spec::BuiltIn(metric) => Measurement::BuiltIn(Count::new(*metric)),
            Spec::Own(metric) => Measurement::Own(metric.cloned()),
        }
    }
}

/// The names of metrics in a history; of equal ones the second is numbered 1, as in Keras.
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

/// The name of the loss in a history.
pub(crate) const LOSS: &str = "loss";

/// A metric over the samples seen so far.
pub(crate) enum Measurement {
    BuiltIn(Count),
    Own(Box<dyn AnyMetric>),
}

/// A batch as metrics take it.
pub(crate) struct MetricBatch<'a> {
    /// Targets and probabilities in the model's shape.
    pub(crate) tensors: (&'a Tensor, &'a Tensor),
    /// The same, row by row.
    pub(crate) targets: &'a [f32],
    pub(crate) outputs: &'a [f32],
    /// The numbers in a row.
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

    pub(crate) fn value(&self) -> f64 {
        match self {
            Measurement::BuiltIn(count) => count.value(),
            Measurement::Own(metric) => metric.result(),
        }
    }
}

/// Whether a larger value of what a history calls so is better.
///
/// # Errors
/// [`Error::Argument`] if only the user can know.
pub(crate) fn is_larger_better(name: &str, names: &[String], metrics: &[MetricSpec]) -> Result<bool> {
    let measured = name.strip_prefix("val_").unwrap_or(name);
    if measured == LOSS {
        return Ok(false);
    }
    let at = names.iter().position(|known| known == measured);
    at.and_then(|at| metrics[at].is_larger_better()).ok_or_else(|| Error::Argument {
        name: "mode",
        expected: format!(
            "`.mode(\"max\")` or `.mode(\"min\")`, for nothing says whether a larger {name} is better"
        ),
        found: "\"auto\"".into(),
    })
}
