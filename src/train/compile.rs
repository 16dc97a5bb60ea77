//! What a model is trained with.

use super::{Loss, Metric, Optimizer};
use crate::nn::Model;

/// Optimizer, loss and metrics.
pub(crate) struct Compiled {
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) loss: Loss,
    pub(crate) metrics: Vec<Metric>,
}

impl Compiled {
    /// The names of what is measured, in the order in which Keras prints them.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.metrics.iter().map(|metric| metric.name()).chain(["loss"]).collect();
        names.sort_unstable();
        names.into_iter().map(|name| format!("{prefix}{name}")).collect()
    }
}

impl Model {
    /// Says what to train with: `model.compile(Adam::default(), BinaryCrossentropy, [Accuracy])`.
    ///
    /// What is frozen or not may be changed before or after; `fit` looks when it begins.
    pub fn compile(
        &mut self,
        optimizer: impl Optimizer + 'static,
        loss: Loss,
        metrics: impl IntoIterator<Item = Metric>,
    ) {
        let metrics = metrics.into_iter().collect();
        self.compiled = Some(Compiled { optimizer: Box::new(optimizer), loss, metrics });
    }
}
