//! The loss and the metrics over the samples of an epoch.

use super::compile::Judged;
use super::metric::Count;
use super::{Compiled, Loss};
use crate::Result;

/// What was measured so far.
pub(crate) struct Means {
    loss: Loss,
    samples: usize,
    sum: f64,
    counts: Vec<Count>,
}

impl Means {
    pub(crate) fn new(compiled: &Compiled) -> Means {
        let counts = compiled.metrics.iter().map(|metric| metric.begin()).collect();
        Means { loss: compiled.loss, samples: 0, sum: 0.0, counts }
    }

    /// Adds a batch and its mean loss.
    pub(crate) fn add(&mut self, loss: f32, judged: &Judged) -> Result<()> {
        let Judged { output, targets, is_elementwise, .. } = judged;
        let (samples, columns) = targets.dims2()?;
        self.samples += samples;
        self.sum += f64::from(loss) * samples as f64;
        if !self.counts.is_empty() {
            let outputs = self.loss.probabilities(output)?.flatten_all()?.to_vec1()?;
            let targets = targets.flatten_all()?.to_vec1()?;
            let columns = if *is_elementwise { 1 } else { columns };
            self.counts.iter_mut().for_each(|count| count.add(&outputs, &targets, columns));
        }
        Ok(())
    }

    /// Names and values, in the order in which Keras prints them.
    pub(crate) fn row(&self, prefix: &str) -> Vec<(String, f64)> {
        let loss = ("loss", self.sum / self.samples as f64);
        let counts = self.counts.iter().map(|count| (count.metric.name(), count.value()));
        let mut row: Vec<_> = counts.chain([loss]).collect();
        row.sort_unstable_by_key(|(name, _)| *name);
        row.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
    }
}
