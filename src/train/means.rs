//! The means of loss and metrics over the samples of an epoch.

use candle_core::Tensor;

use super::compile::StepOutput;
use super::metric_trait::{LOSS, Measurement, MetricBatch};
use super::{Compiled, LossSpec};
use crate::{Error, Result};

/// The results of a training step for the metrics.
pub(crate) enum Measured {
    Output(StepOutput),
    /// The number of correct rows, if the only metric is the accuracy.
    Correct {
        samples: usize,
        rows: usize,
        correct: f64,
    },
}

/// Running means of loss and metrics.
pub(crate) struct Means {
    loss: LossSpec,
    samples: usize,
    sum: f64,
    metrics: Vec<(String, Measurement)>,
}

impl Means {
    pub(crate) fn new(compiled: &Compiled) -> Means {
        let metrics = compiled.metrics.iter().map(|metric| metric.begin());
        let metrics = compiled.metric_names.iter().cloned().zip(metrics).collect();
        Means { loss: compiled.loss.clone(), samples: 0, sum: 0.0, metrics }
    }

    /// Adds a training step with its mean loss.
    pub(crate) fn add_step(&mut self, loss: f32, measured: &Measured) -> Result<()> {
        match *measured {
            Measured::Output(ref step) => self.add(loss, step)?,
            Measured::Correct { samples, rows, correct } => {
                self.samples += samples;
                self.sum += f64::from(loss) * samples as f64;
                self.metrics.iter_mut().for_each(|(_, metric)| metric.add_correct(correct, rows as f64));
            }
        }
        Ok(())
    }

    /// Adds a batch with its mean loss.
    pub(crate) fn add(&mut self, loss: f32, step: &StepOutput) -> Result<()> {
        let StepOutput { output, targets, is_elementwise, layout, .. } = step;
        let samples = targets.dim(0)?;
        self.samples += samples;
        self.sum += f64::from(loss) * samples as f64;
        if self.metrics.is_empty() {
            return Ok(());
        }
        let whole = layout.output_shape(samples);
        let outputs = self.loss.probabilities(output)?.reshape(&*whole)?;
        let rows = |x: &Tensor| match is_elementwise {
            true => Ok(x.flatten_all()?.to_vec1()?),
            false => Ok::<_, Error>(layout.rows(x)?.flatten_all()?.to_vec1()?),
        };
        let (of_outputs, of_targets) = (rows(&outputs)?, rows(targets)?);
        let batch = MetricBatch {
            tensors: (&targets.reshape(&*whole)?, &outputs),
            targets: &of_targets,
            outputs: &of_outputs,
            columns: if *is_elementwise { 1 } else { layout.classes },
        };
        self.metrics.iter_mut().try_for_each(|(_, metric)| metric.add(&batch))
    }

    /// Returns names and values, in Keras's print order.
    pub(crate) fn row(&self, prefix: &str) -> Vec<(String, f64)> {
        let loss = (LOSS, self.sum / self.samples as f64);
        let metrics = self.metrics.iter().map(|(name, metric)| (name.as_str(), metric.value()));
        let mut row: Vec<_> = metrics.chain([loss]).collect();
        row.sort_unstable_by_key(|(name, _)| *name);
        row.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
    }
}
