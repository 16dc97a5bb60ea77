//! The serialisable configuration of optimizers, for saving a compiled model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::accumulation::Accumulation;
use super::moving_average::MovingAverage;
use super::{Clip, GradientDescent, LearningRate, MeanSquare, Moments, Momentum, Optimizer, Rule};
use crate::nn::Param;

/// The configuration of a built-in optimizer, without its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "class_name")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    SGD(OptimizerSettings<Momentum>),
    /// Adam, or AdamW if the weight decay is not 0.
    Adam(OptimizerSettings<Moments>),
    /// RMSprop.
    RMSprop(OptimizerSettings<MeanSquare>),
}

/// The settings of an optimizer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OptimizerSettings<R> {
    pub(super) rule: R,
    pub(super) learning_rate: LearningRate,
    pub(super) weight_decay: f64,
    pub(super) not_decayed: Vec<String>,
    pub(super) clip: Option<Clip>,
    /// Learning rate multipliers, by the path of the parameter.
    pub(super) multipliers: BTreeMap<String, f64>,
    /// Batches per step; older files have none.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) gradient_accumulation_steps: usize,
    /// The moving average of the weights, if it is used; older files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ema: Option<EmaSettings>,
}

/// The settings of the moving average of the weights.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct EmaSettings {
    momentum: f64,
    overwrite_frequency: Option<usize>,
}

fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

impl<R: Rule> GradientDescent<R> {
    pub(super) fn settings(&self, params: &[(String, Param)]) -> OptimizerSettings<R> {
        let multiplier = |(path, param): &(String, Param)| {
            Some((path.clone(), *self.multipliers.get(&param.variable().id())?))
        };
        OptimizerSettings {
            rule: self.rule.clone(),
            learning_rate: self.learning_rate.clone(),
            weight_decay: self.weight_decay,
            not_decayed: self.not_decayed.clone(),
            clip: self.clip,
            multipliers: params.iter().filter_map(multiplier).collect(),
            gradient_accumulation_steps: self.accumulation.steps,
            ema: self.moving_average.is_used.then_some(EmaSettings {
                momentum: self.moving_average.momentum,
                overwrite_frequency: self.moving_average.overwrite_frequency,
            }),
        }
    }
}

impl<R: Rule> OptimizerSettings<R> {
    fn build(self, params: &[(String, Param)]) -> GradientDescent<R> {
        let mut optimizer = GradientDescent::with(self.rule, self.learning_rate);
        optimizer.weight_decay = self.weight_decay;
        optimizer.not_decayed = self.not_decayed;
        optimizer.clip = self.clip;
        optimizer.accumulation = Accumulation::new(self.gradient_accumulation_steps);
        if let Some(EmaSettings { momentum, overwrite_frequency }) = self.ema {
            optimizer.moving_average = MovingAverage::new(momentum, overwrite_frequency);
        }
        let multiplier =
            |(path, param): &(String, Param)| Some((param.variable().id(), *self.multipliers.get(path)?));
        optimizer.multipliers = params.iter().filter_map(multiplier).collect();
        optimizer
    }
}

impl OptimizerConfig {
    /// The kind of the optimizer: `SGD`, `Adam` or `RMSprop`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            OptimizerConfig::SGD(_) => "SGD",
            OptimizerConfig::Adam(_) => "Adam",
            OptimizerConfig::RMSprop(_) => "RMSprop",
        }
    }

    /// Builds the optimizer for a model's parameters, given with their paths.
    pub(crate) fn build(self, params: &[(String, Param)]) -> Box<dyn Optimizer> {
        match self {
            OptimizerConfig::SGD(settings) => settings.build(params).boxed(),
            OptimizerConfig::Adam(settings) => settings.build(params).boxed(),
            OptimizerConfig::RMSprop(settings) => settings.build(params).boxed(),
        }
    }
}
