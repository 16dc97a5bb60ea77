//! What a model is trained with.

use std::collections::HashMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::loss::Output;
use super::metric::BuiltInMetric;
use super::metric_trait::{LOSS, numbered_names};
use super::{BuiltInLoss, Loss, LossSpec, MetricSpec, Optimizer, OptimizerConfig};
use crate::nn::{Activation, Model, Param, thousands};
use crate::{Error, Result};

/// Optimizer, loss and metrics.
pub(crate) struct Compiled {
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) loss: LossSpec,
    pub(crate) metrics: Vec<MetricSpec>,
    /// Each metric's name in a history.
    pub(crate) metric_names: Vec<String>,
    /// How many weights learnt when this was last said.
    pub(crate) learning: usize,
    /// The class names of the data of the last `fit`, if they are known.
    pub(crate) class_names: Vec<String>,
}

/// What a model is trained with, in words.
#[derive(Serialize, Deserialize)]
pub(crate) struct CompiledConfig {
    optimizer: OptimizerConfig,
    loss: BuiltInLoss,
    metrics: Vec<BuiltInMetric>,
}

impl Compiled {
    /// In words; `None` with an optimizer, a loss or a metric of the user's own.
    pub(crate) fn config(&self, params: &[(String, Param)]) -> Option<CompiledConfig> {
        let optimizer = self.optimizer.config(params)?;
        let metrics = self.metrics.iter().map(MetricSpec::as_built_in).collect::<Option<_>>()?;
        Some(CompiledConfig { optimizer, loss: self.loss.built_in()?, metrics })
    }
}

impl CompiledConfig {
    /// The same for a model whose parameters are these, its optimizer as it was after its last step.
    pub(crate) fn build(
        self,
        params: &[(String, Param)],
        state: &HashMap<String, Tensor>,
    ) -> Result<Compiled> {
        let mut optimizer = self.optimizer.build(params);
        optimizer.set_state(params, state)?;
        let metrics: Vec<MetricSpec> = self.metrics.into_iter().map(MetricSpec::built_in).collect();
        let learning =
            params.iter().filter(|(_, param)| param.is_trainable()).map(|(_, param)| param.count());
        Ok(Compiled {
            optimizer,
            loss: self.loss.spec(),
            metric_names: numbered_names(&metrics),
            metrics,
            learning: learning.sum(),
            class_names: Vec::new(),
        })
    }
}

/// What a model made of a batch, beside what it should have.
pub(crate) struct StepOutput {
    /// The mean over the batch, from which gradients flow back.
    pub(crate) loss: Tensor,
    pub(crate) output: Output,
    /// As the loss takes them, `[N, columns]`.
    pub(crate) targets: Tensor,
    /// Whether each output counts alone, as those of an image do.
    pub(crate) is_elementwise: bool,
    /// The shape of one output.
    pub(crate) shape: Vec<usize>,
}

impl Compiled {
    /// Targets as the loss takes them for a model.
    pub(crate) fn targets(&self, model: &Model, y: &Tensor) -> Result<Tensor> {
        self.loss.targets(y, model.output_shape().iter().product())
    }

    /// Whether each target is one class: also of two, by one output.
    pub(crate) fn is_of_one_class(&self, model: &Model) -> bool {
        let outputs: usize = model.output_shape().iter().product();
        let loss = self.loss.built_in();
        loss.is_some_and(|loss| loss.counts_classes() || loss.has_classes() && outputs == 1)
    }

    /// The loss of a model's output before its last function.
    pub(crate) fn step_output(
        &self,
        model: &Model,
        linear: Tensor,
        targets: Tensor,
        weights: Option<&Tensor>,
    ) -> Result<StepOutput> {
        if linear.rank() > 2 && model.last_activation() == Activation::Softmax {
            let hint = "flatten feature maps before the classes: `Flatten` or `GlobalAveragePooling2D`";
            return Err(Error::shape("the model's output", "[batch, classes]", linear.dims(), hint));
        }
        let is_elementwise = linear.rank() > 2 && model.last_activation() != Activation::Softmax;
        let linear = if is_elementwise { linear.flatten_from(1)? } else { linear };
        let output = Output::of(linear, model.last_activation())?;
        let loss = self.loss.compute(&output, &targets, weights, model.output_shape())?;
        Ok(StepOutput { loss, output, targets, is_elementwise, shape: model.output_shape().to_vec() })
    }

    /// What to tell of a change of `trainable` since the model was compiled, once.
    pub(crate) fn change(&mut self, params: &[Param]) -> Option<String> {
        let now = params.iter().map(Param::count).sum();
        let before = std::mem::replace(&mut self.learning, now);
        let (now, before) = (now != before).then(|| (thousands(now), thousands(before)))?;
        Some(format!(
            "since the model was compiled, `trainable` has changed: {now} weights learn, not {before}"
        ))
    }

    /// The names of what is measured, in the order in which Keras prints them.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.metric_names.iter().map(String::as_str).chain([LOSS]).collect();
        names.sort_unstable();
        names.into_iter().map(|name| format!("{prefix}{name}")).collect()
    }
}

impl Model {
    /// Says what to train with: `model.compile(Adam::default(), BinaryCrossentropy, [Accuracy])`.
    ///
    /// What is frozen or not may be changed before or after; `fit` looks when it begins, and says it
    /// if that is another than now.
    pub fn compile(
        &mut self,
        optimizer: impl Optimizer + 'static,
        loss: impl Loss + 'static,
        metrics: impl IntoIterator<Item = MetricSpec>,
    ) {
        self.compile_with(optimizer.boxed(), loss.spec(), metrics.into_iter().collect());
    }

    fn compile_with(&mut self, optimizer: Box<dyn Optimizer>, loss: LossSpec, metrics: Vec<MetricSpec>) {
        let learning = self.trainable_params().iter().map(Param::count).sum();
        let (metric_names, class_names) = (numbered_names(&metrics), Vec::new());
        self.set_compiled(Compiled { optimizer, loss, metrics, metric_names, learning, class_names });
    }
}
