//! Optimizers, with Keras's formulas (`keras/src/optimizers`).

mod accumulation;
mod fused;
mod implementations;
mod moving_average;
mod on_gpu;
mod options;
mod rule_settings;
mod rules;
mod saved;
mod schedule;

use std::collections::{HashMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId};
use serde::{Deserialize, Serialize};

use self::accumulation::Accumulation;
use self::moving_average::MovingAverage;
use crate::check::{check, check_not_negative, check_positive};
use crate::nn::Param;
use crate::{Error, Result};

pub(crate) use on_gpu::GpuOptimizer;
pub use rule_settings::{MeanSquare, Moments, Momentum};
pub use rules::{Adam, AdamW, RMSprop, SGD};
pub use saved::{OptimizerConfig, OptimizerSettings};
pub use schedule::{LearningRate, Schedule};

/// An optimizer: updates the parameters from their gradients.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an optimizer; pass a value: `Adam::default()`, `Adam::new(1e-5)`, `SGD::new(1e-2)`"
)]
pub trait Optimizer: Send + Sync {
    /// Takes one step: updates each parameter that has a gradient.
    fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()>;

    /// The current learning rate.
    fn learning_rate(&self) -> f64;

    /// The current learning rate of one parameter.
    fn learning_rate_of(&self, param: &Param) -> f64 {
        let _ = param;
        self.learning_rate()
    }

    /// The highest learning rate of one parameter in the next `steps` steps.
    fn highest_learning_rate_of(&self, param: &Param, steps: usize) -> f64 {
        let _ = steps;
        self.learning_rate_of(param)
    }

    /// Sets the learning rate.
    ///
    /// # Errors
    /// [`Error::Argument`] if a schedule sets the learning rate.
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()>;

    /// Checks the settings. `fit` calls it before the first step.
    ///
    /// # Errors
    /// [`Error::Argument`] if a setting is out of its range.
    fn check(&self) -> Result<()> {
        check_not_negative("learning_rate", self.learning_rate())
    }

    /// Prepares for a model's parameters, given with their paths. `fit` calls it before the first step. Default: does
    /// nothing.
    fn prepare(&mut self, params: &[(String, Param)]) {
        let _ = params;
    }

    /// Returns the optimizer's state as named tensors, to be saved with a model. `params` are the
    /// parameters of the model with their paths.
    fn state(&self, params: &[(String, Param)]) -> Result<HashMap<String, Tensor>> {
        let _ = params;
        Ok(HashMap::new())
    }

    /// Returns the serialisable configuration, for saving a compiled model. `None` for a custom
    /// optimizer.
    fn config(&self, params: &[(String, Param)]) -> Option<OptimizerConfig> {
        let _ = params;
        None
    }

    /// Restores the state that [`Optimizer::state`] returned.
    fn set_state(&mut self, params: &[(String, Param)], state: &HashMap<String, Tensor>) -> Result<()> {
        let _ = (params, state);
        Ok(())
    }

    /// Sets the weights to their final values. `fit` calls it after the last epoch. Default: does nothing.
    fn finalize_variable_values(&mut self, params: &[Param]) -> Result<()> {
        let _ = params;
        Ok(())
    }

    /// Converts the optimizer to the form that `compile` stores. The library's optimizers override this
    /// method, so that notebook cells do not compile it for them.
    #[doc(hidden)]
    fn boxed(self) -> Box<dyn Optimizer>
    where
        Self: Sized + 'static,
    {
        Box::new(self)
    }
}

/// One of Keras's optimizers: [`SGD`], [`Adam`], [`AdamW`], [`RMSprop`].
///
/// ```
/// use headstart::prelude::*;
/// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
/// let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
/// // Train the pretrained layers at a tenth of the head's learning rate.
/// let optimizer = Adam::new(1e-3).clipnorm(1.0).learning_rate_multiplier(&base, 0.1);
/// model.compile(optimizer, BinaryCrossentropy, [Accuracy]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Debug)]
pub struct GradientDescent<R> {
    rule: R,
    learning_rate: LearningRate,
    weight_decay: f64,
    not_decayed: Vec<String>,
    /// The parameters whose paths contain one of these names.
    not_decayed_ids: HashSet<TensorId>,
    clip: Option<Clip>,
    /// Whether the settings also named another kind of clipping.
    has_other_clip: bool,
    multipliers: HashMap<TensorId, f64>,
    /// Number of steps taken. A schedule computes the learning rate from it.
    steps: usize,
    memories: HashMap<TensorId, Memory>,
    accumulation: Accumulation,
    moving_average: MovingAverage,
}

/// The state of one parameter.
#[derive(Debug)]
struct Memory {
    /// Number of steps of the parameter. As in PyTorch's Adam, this is fewer than the optimizer's steps
    /// if the parameter was frozen for a time.
    steps: usize,
    slots: Vec<Tensor>,
}

/// Gradient clipping.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Clip {
    Norm(f64),
    GlobalNorm(f64),
    Value(f64),
}

/// The update rule of an optimizer.
pub trait Rule: Clone + Send + Sync {
    /// Returns the serialisable configuration.
    #[doc(hidden)]
    fn config(settings: OptimizerSettings<Self>) -> OptimizerConfig;

    /// Checks that the settings are in their ranges.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The names of the state tensors of each parameter, in the order of [`Step::slots`].
    fn slots(&self) -> &'static [&'static str];

    /// Updates a parameter and returns its state tensors.
    fn step(&self, param: &Param, step: Step) -> Result<Vec<Tensor>>;
}

/// The inputs of a [`Rule`] for one parameter.
pub struct Step<'a> {
    gradient: &'a Tensor,
    /// Factor of the gradient from gradient clipping.
    scale: f64,
    rate: f64,
    /// Factor of the weight from weight decay.
    keep: f64,
    /// The number of this step for the parameter, from 1.
    number: i32,
    slots: Vec<Tensor>,
}

impl<R: Rule> GradientDescent<R> {
    fn with(rule: R, learning_rate: LearningRate) -> Self {
        GradientDescent {
            rule,
            learning_rate,
            weight_decay: 0.0,
            not_decayed: Vec::new(),
            not_decayed_ids: HashSet::new(),
            clip: None,
            has_other_clip: false,
            multipliers: HashMap::new(),
            steps: 0,
            memories: HashMap::new(),
            accumulation: Accumulation::new(1),
            moving_average: MovingAverage::default(),
        }
    }

    /// Checks that all settings are in their ranges.
    fn check_settings(&self) -> Result<()> {
        match &self.learning_rate {
            LearningRate::Constant(rate) => check_not_negative("learning_rate", *rate)?,
            LearningRate::Schedule(schedule) => schedule.check()?,
        }
        check_not_negative("weight_decay", self.weight_decay)?;
        self.moving_average.check()?;
        let expected = "one of `clipnorm`, `global_clipnorm` and `clipvalue`";
        check("gradient clipping", "several kinds", !self.has_other_clip, expected)?;
        match self.clip {
            None => {}
            Some(Clip::Norm(norm)) => check_positive("clipnorm", norm)?,
            Some(Clip::GlobalNorm(norm)) => check_positive("global_clipnorm", norm)?,
            Some(Clip::Value(value)) => check_positive("clipvalue", value)?,
        }
        check(
            "gradient_accumulation_steps",
            self.accumulation.steps,
            self.accumulation.steps > 0,
            "at least 1",
        )?;
        let mut multipliers = self.multipliers.values();
        multipliers.try_for_each(|factor| check_not_negative("learning rate multiplier", *factor))?;
        self.rule.check()
    }

    /// The factor of all gradients from clipping by global norm.
    fn global_scale(&self, params: &[Param], gradient: &dyn Fn(&Param) -> Option<Tensor>) -> Result<f64> {
        let Some(Clip::GlobalNorm(max)) = self.clip else { return Ok(1.0) };
        let mut square = 0.0;
        for gradient in params.iter().filter_map(gradient) {
            square += length(&gradient)?.powi(2);
        }
        Ok((max / square.sqrt().max(1e-12)).min(1.0))
    }
}

/// The name of the step count in an optimizer's state.
const STEPS: &str = "steps";

fn length(gradient: &Tensor) -> Result<f64> {
    Ok(f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// The generic implementation of [`Optimizer`].
impl<R: Rule> GradientDescent<R> {
    fn take_step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()> {
        if self.accumulation.steps == 1 {
            return self.update(params, &|param| Some(gradients.get(param.variable())?.detach()));
        }
        match self.accumulation.add(params, gradients)? {
            Some(means) => self.update(params, &|param| means.get(&param.variable().id()).cloned()),
            None => Ok(()),
        }
    }

    /// Updates the parameters that have a gradient.
    fn update(&mut self, params: &[Param], gradient: &dyn Fn(&Param) -> Option<Tensor>) -> Result<()> {
        let global = self.global_scale(params, gradient)?;
        let learning_rate = self.learning_rate.at(self.steps);
        self.steps += 1;
        for param in params {
            let Some(gradient) = gradient(param) else { continue };
            let mut gradient = gradient.contiguous()?;
            let scale = match self.clip {
                Some(Clip::Norm(max)) => (max / length(&gradient)?.max(1e-12)).min(1.0),
                Some(Clip::Value(max)) => {
                    gradient = gradient.clamp(-max, max)?;
                    1.0
                }
                _ => global,
            };
            let id = param.variable().id();
            let rate = learning_rate * self.multiplier(id);
            let is_excluded = self.not_decayed_ids.contains(&id)
                || self.not_decayed.iter().any(|name| param.name().contains(name.as_str()));
            let keep = if is_excluded { 1.0 } else { 1.0 - self.weight_decay * rate };
            let Memory { steps, slots } = match self.memories.remove(&id) {
                Some(memory) => memory,
                None => {
                    let slots = self.rule.slots().iter().map(|_| Ok(gradient.zeros_like()?));
                    Memory { steps: 0, slots: slots.collect::<Result<_>>()? }
                }
            };
            let steps = steps + 1;
            let number = i32::try_from(steps).unwrap_or(i32::MAX);
            let step = Step { gradient: &gradient, scale, rate, keep, number, slots };
            let slots = self.rule.step(param, step)?;
            self.memories.insert(id, Memory { steps, slots });
        }
        self.moving_average.update(params, self.steps)
    }

    fn change_rate(&mut self, learning_rate: f64) -> Result<()> {
        match &mut self.learning_rate {
            LearningRate::Constant(rate) => {
                *rate = learning_rate;
                Ok(())
            }
            LearningRate::Schedule(_) => Err(Error::Argument {
                name: "learning_rate",
                expected: "an optimizer whose learning rate is a number, as in `Adam::new(1e-3)`".into(),
                found: "one that follows a schedule".into(),
            }),
        }
    }

    fn kept_state(&self, params: &[(String, Param)]) -> Result<HashMap<String, Tensor>> {
        let count = |steps: usize| Tensor::new(steps as i64, &candle_core::Device::Cpu);
        let mut state = HashMap::from([(STEPS.to_owned(), count(self.steps)?)]);
        for (path, param) in params {
            let Some(memory) = self.memories.get(&param.variable().id()) else { continue };
            state.insert(format!("{path}/{STEPS}"), count(memory.steps)?);
            let slots = self.rule.slots().iter().zip(&memory.slots);
            state.extend(slots.map(|(name, slot)| (format!("{path}/{name}"), slot.clone())));
        }
        state.extend(self.accumulation.state(params)?);
        state.extend(self.moving_average.state(params));
        Ok(state)
    }

    fn put_back(&mut self, params: &[(String, Param)], state: &HashMap<String, Tensor>) -> Result<()> {
        let count = |name: &str| -> Result<Option<usize>> {
            let steps = state.get(name).map(|steps| steps.to_scalar::<i64>()).transpose()?;
            Ok(steps.map(|steps| steps.max(0) as usize))
        };
        self.steps = count(STEPS)?.unwrap_or(0);
        self.accumulation.restore(params, state)?;
        self.moving_average.restore(params, state)?;
        self.memories.clear();
        for (path, param) in params {
            let slots: Option<Vec<&Tensor>> =
                self.rule.slots().iter().map(|name| state.get(&format!("{path}/{name}"))).collect();
            let fits = |slots: &Vec<&Tensor>| slots.iter().all(|slot| slot.dims() == param.variable().dims());
            if let Some(slots) = slots.filter(fits).filter(|slots| !slots.is_empty()) {
                // Copies, because the rules change them in place.
                let slots = slots.iter().map(|slot| Ok(slot.to_device(param.variable().device())?.copy()?));
                let slots = slots.collect::<Result<_>>()?;
                // Older files have one count for all parameters.
                let steps = count(&format!("{path}/{STEPS}"))?.unwrap_or(self.steps);
                self.memories.insert(param.variable().id(), Memory { steps, slots });
            }
        }
        Ok(())
    }
}
