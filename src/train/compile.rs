//! The result of `compile`: optimizer, loss and metrics.

use std::collections::{HashMap, HashSet};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::loss::Output;
use super::metric::BuiltInMetric;
use super::metric_trait::{LOSS, numbered_names};
use super::{BuiltInLoss, Loss, LossSpec, MetricSpec, Optimizer, OptimizerConfig};
use crate::Result;
use crate::check::check;
use crate::nn::{Activation, ClassLayout, Model, Param, thousands};

/// Optimizer, loss and metrics.
pub(crate) struct Compiled {
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) loss: LossSpec,
    pub(crate) metrics: Vec<MetricSpec>,
    /// Each metric's name in the history.
    pub(crate) metric_names: Vec<String>,
    /// Number of trainable weights at the last note about them.
    pub(crate) trainable_count: usize,
}

/// The serialisable form of [`Compiled`].
#[derive(Serialize, Deserialize)]
pub(crate) struct CompiledConfig {
    optimizer: OptimizerConfig,
    loss: BuiltInLoss,
    metrics: Vec<BuiltInMetric>,
}

impl Compiled {
    /// Returns the serialisable form. `None` with a custom optimizer, loss or metric.
    pub(crate) fn config(&self, params: &[(String, Param)]) -> Option<CompiledConfig> {
        let optimizer = self.optimizer.config(params)?;
        let metrics = self.metrics.iter().map(MetricSpec::as_built_in).collect::<Option<_>>()?;
        Some(CompiledConfig { optimizer, loss: self.loss.built_in()?, metrics })
    }
}

impl CompiledConfig {
    /// Builds [`Compiled`] for a model with these parameters. `state` is the saved state of the
    /// optimizer.
    pub(crate) fn build(
        self,
        params: &[(String, Param)],
        state: &HashMap<String, Tensor>,
    ) -> Result<Compiled> {
        let mut optimizer = self.optimizer.build(params);
        optimizer.set_state(params, state)?;
        let metrics: Vec<MetricSpec> = self.metrics.into_iter().map(MetricSpec::built_in).collect();
        // A layer that occurs several times has several paths.
        let mut seen = HashSet::new();
        let trained = params.iter().map(|(_, param)| param).filter(|param| param.is_trainable());
        let trainable_count = trained.filter(|param| seen.insert(param.identity())).map(Param::count).sum();
        Ok(Compiled {
            optimizer,
            loss: self.loss.spec(),
            metric_names: numbered_names(&metrics),
            metrics,
            trainable_count,
        })
    }
}

/// The output of a model for one batch, with the targets and the loss.
pub(crate) struct StepOutput {
    /// The mean loss over the batch, for the backward pass.
    pub(crate) loss: Tensor,
    pub(crate) output: Output,
    /// The targets in the form that the loss takes, `[N, columns]`.
    pub(crate) targets: Tensor,
    /// Whether metrics treat each output value as a separate sample, for example each pixel of an output
    /// image. Otherwise each position has a class.
    pub(crate) is_elementwise: bool,
    pub(crate) layout: ClassLayout,
}

impl Compiled {
    /// Checks the settings of the metrics.
    pub(crate) fn check_metrics(&self) -> Result<()> {
        for metric in self.metrics.iter().filter_map(MetricSpec::as_built_in) {
            if let BuiltInMetric::TopKCategoricalAccuracy(k) = metric {
                check("k of TopKCategoricalAccuracy", k, k > 0, "at least 1")?;
            }
        }
        Ok(())
    }

    /// Converts targets to the form that the loss takes for this model, and copies them to the device of this process.
    pub(crate) fn targets(&self, model: &Model, y: &Tensor) -> Result<Tensor> {
        let targets = self.loss.targets(y, &model.class_layout())?;
        Ok(targets.to_device(&crate::device())?)
    }

    /// Whether each target is a single class, or has a single class at each position. This includes two classes with
    /// one output.
    pub(crate) fn is_of_one_class(&self, model: &Model) -> bool {
        let outputs = model.class_layout().classes;
        let loss = self.loss.built_in();
        loss.is_some_and(|loss| loss.counts_classes() || loss.has_classes() && outputs == 1)
    }

    /// Computes the loss from the model's output before its last activation.
    pub(crate) fn step_output(
        &self,
        model: &Model,
        linear: Tensor,
        targets: Tensor,
        weights: Option<&Tensor>,
    ) -> Result<StepOutput> {
        let output = Output::of(linear, model.last_activation())?;
        let layout = model.class_layout();
        let loss = self.loss.compute(&output, &targets, weights, &layout)?;
        Ok(StepOutput { loss, output, targets, is_elementwise: self.is_elementwise(model), layout })
    }

    /// The output for the metrics, with a loss that was computed elsewhere. `is_linear`: the values are those before
    /// the last activation.
    pub(crate) fn output_of_loss(
        &self,
        model: &Model,
        (values, is_linear): (Tensor, bool),
        targets: Tensor,
        loss: f32,
    ) -> Result<StepOutput> {
        let loss = Tensor::new(loss, values.device())?;
        let output = match is_linear {
            true => Output::of(values, model.last_activation())?,
            false => Output::new(values),
        };
        let (is_elementwise, layout) = (self.is_elementwise(model), model.class_layout());
        Ok(StepOutput { loss, output, targets, is_elementwise, layout })
    }

    /// Whether metrics treat the values of an output separately: outputs with several positions, unless softmax or
    /// the loss makes them classes.
    fn is_elementwise(&self, model: &Model) -> bool {
        let has_classes = self.loss.built_in().is_some_and(BuiltInLoss::counts_classes)
            || [model.last_activation(), self.loss.probability_function()].contains(&Activation::Softmax);
        model.output_shape().len() > 1 && !has_classes
    }

    /// Describes a change of `trainable` since the model was compiled. Each change is reported once.
    pub(crate) fn change(&mut self, params: &[Param]) -> Option<String> {
        let now = params.iter().map(Param::count).sum();
        let before = std::mem::replace(&mut self.trainable_count, now);
        let (now, before) = (now != before).then(|| (thousands(now), thousands(before)))?;
        Some(format!(
            "since the model was compiled, `trainable` has changed: {now} weights are trainable, not {before}"
        ))
    }

    /// The names of the measured values, in Keras's print order.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.metric_names.iter().map(String::as_str).chain([LOSS]).collect();
        names.sort_unstable();
        names.into_iter().map(|name| format!("{prefix}{name}")).collect()
    }

    /// The names of the metrics that range from 0 to 1.
    pub(crate) fn proportions(&self) -> Vec<String> {
        let metrics = self.metric_names.iter().zip(&self.metrics);
        metrics.filter(|(_, metric)| metric.is_proportion()).map(|(name, _)| name.clone()).collect()
    }
}

impl Model {
    /// Sets the optimizer, the loss and the metrics for training:
    /// `model.compile(Adam::default(), BinaryCrossentropy, [Accuracy])`.
    ///
    /// Layers may be frozen or unfrozen before or after this call. `fit` reads `trainable` when it
    /// starts, and prints a note if it has changed since this call.
    pub fn compile(
        &mut self,
        optimizer: impl Optimizer + 'static,
        loss: impl Loss + 'static,
        metrics: impl IntoIterator<Item = MetricSpec>,
    ) {
        self.compile_with(optimizer.boxed(), loss.spec(), metrics.into_iter().collect());
    }

    fn compile_with(&mut self, optimizer: Box<dyn Optimizer>, loss: LossSpec, metrics: Vec<MetricSpec>) {
        let trainable_count = self.trainable_params().iter().map(Param::count).sum();
        let metric_names = numbered_names(&metrics);
        self.set_compiled(Compiled { optimizer, loss, metrics, metric_names, trainable_count });
    }
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::prelude::*;

    #[test]
    fn a_loaded_model_with_a_shared_layer_is_unchanged() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twice.safetensors");
        let base = sequential![Input::new(3), Dense::new(2)]?;
        let mut builder = ModelBuilder::new("twice", &[3])?;
        let [left, right] = ["left", "right"].map(|name| builder.add(name, &base, &[builder.input()]));
        let sum = builder.add("sum", Add, &[left?, right?])?;
        let mut model = builder.finish(sum)?;
        model.compile(SGD::new(0.1), MeanSquaredError, []);
        model.save(&path)?;
        let mut loaded = Model::load(&path)?;
        let params = loaded.trainable_params();
        let compiled = loaded.training_state_mut().compiled.as_mut().unwrap();
        assert_eq!(compiled.change(&params), None);
        Ok(())
    }
}
