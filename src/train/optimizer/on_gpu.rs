//! Steps of the library's optimizers on the GPU. The optimizer's state is copied to the GPU and back.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use headstart_gpu::{Array, Chunks, Clip as GpuClip, Gpu, Network, Rule as GpuRule, Segment, Update};

use super::{Clip, LearningRate, Optimizer, OptimizerConfig, OptimizerSettings, Rule, STEPS};
use crate::Result;
use crate::nn::Param;

/// An optimizer whose steps run on the GPU.
pub(crate) struct GpuOptimizer {
    gpu: Gpu,
    rule: GpuRule,
    clip: Option<GpuClip>,
    /// `None`: the rate is that of the optimizer, which callbacks can change.
    schedule: Option<LearningRate>,
    weight_decay: f64,
    params: Vec<TrainedParam>,
    /// Names of the state tensors, in the order of `state`.
    slots: &'static [&'static str],
    state: Vec<Array>,
    chunks: Chunks,
    segments: Vec<Segment>,
    len: usize,
    /// Number of steps of the optimizer.
    steps: usize,
}

/// A parameter of the optimizer.
struct TrainedParam {
    path: String,
    multiplier: f64,
    is_decayed: bool,
    /// Number of steps of the parameter. It is smaller if the parameter was frozen for a time.
    steps: usize,
    shape: Vec<usize>,
}

impl GpuOptimizer {
    /// Copies an optimizer's settings and state. `params` are those of the network's segments, with their paths. `None`
    /// for an optimizer that the GPU path does not support.
    pub(crate) fn new(
        gpu: &Gpu,
        optimizer: &dyn Optimizer,
        network: &Network,
        params: &[(String, Param)],
    ) -> Result<Option<GpuOptimizer>> {
        let made = match optimizer.config(params) {
            Some(OptimizerConfig::SGD(settings)) => {
                let (momentum, nesterov) = (settings.rule.momentum, settings.rule.nesterov);
                Self::with(gpu, GpuRule::Sgd { momentum, nesterov }, settings, network, params)?
            }
            Some(OptimizerConfig::Adam(settings)) => {
                let (beta_1, beta_2) = (settings.rule.beta_1, settings.rule.beta_2);
                let rule = GpuRule::Adam { beta_1, beta_2, epsilon: settings.rule.epsilon };
                Self::with(gpu, rule, settings, network, params)?
            }
            Some(OptimizerConfig::RMSprop(settings)) => {
                let super::MeanSquare { rho, momentum, epsilon, centered } = settings.rule;
                let rule = GpuRule::RmsProp { rho, momentum, epsilon, centered };
                Self::with(gpu, rule, settings, network, params)?
            }
            None => None,
        };
        let Some(mut made) = made else { return Ok(None) };
        made.read_state(&optimizer.state(params)?)?;
        Ok(Some(made))
    }

    fn with<R: Rule>(
        gpu: &Gpu,
        rule: GpuRule,
        settings: OptimizerSettings<R>,
        network: &Network,
        params: &[(String, Param)],
    ) -> Result<Option<GpuOptimizer>> {
        if settings.gradient_accumulation_steps > 1 || settings.ema.is_some() {
            return Ok(None);
        }
        let clip = settings.clip.map(|clip| match clip {
            Clip::Norm(max) => GpuClip::Norm(max as f32),
            Clip::GlobalNorm(max) => GpuClip::GlobalNorm(max as f32),
            Clip::Value(max) => GpuClip::Value(max as f32),
        });
        let trained = params.iter().map(|(path, param)| TrainedParam {
            path: path.clone(),
            multiplier: settings.multipliers.get(path).copied().unwrap_or(1.0),
            is_decayed: !settings.not_decayed.iter().any(|name| path.contains(name.as_str())),
            steps: 0,
            shape: param.variable().dims().to_vec(),
        });
        let (segments, len) = (network.segments().to_vec(), network.weights().0.len());
        let slots = settings.rule.slots();
        let state = (0..rule.states()).map(|_| gpu.array(len)).collect::<Result<Vec<Array>, _>>()?;
        Ok(Some(GpuOptimizer {
            gpu: gpu.clone(),
            rule,
            clip,
            schedule: match settings.learning_rate {
                LearningRate::Constant(_) => None,
                schedule => Some(schedule),
            },
            weight_decay: settings.weight_decay,
            params: trained.collect(),
            slots,
            state,
            chunks: gpu.chunks(&segments)?,
            segments,
            len,
            steps: 0,
        }))
    }

    /// Uploads an optimizer's state.
    fn read_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let count = |name: &str| -> Result<usize> {
            let steps = state.get(name).map(|steps| steps.to_scalar::<i64>()).transpose()?;
            Ok(steps.map_or(0, |steps| steps.max(0) as usize))
        };
        self.steps = count(STEPS)?;
        for param in &mut self.params {
            param.steps = count(&format!("{}/{STEPS}", param.path))?;
        }
        for (slot, array) in self.slots.iter().zip(&self.state) {
            let mut values = vec![0f32; self.len];
            for (param, &Segment { start, len }) in self.params.iter().zip(&self.segments) {
                if let Some(slot) = state.get(&format!("{}/{slot}", param.path)) {
                    let slot = slot.flatten_all()?.to_vec1::<f32>()?;
                    if slot.len() == len {
                        values[start..start + len].copy_from_slice(&slot);
                    }
                }
            }
            self.gpu.write(array, &values)?;
        }
        Ok(())
    }

    /// Takes a step. Does not wait for it. Nothing changes if `stopped` is not 0.
    pub(crate) fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        network: &Network,
        stopped: &Array,
    ) -> Result<()> {
        let rate = match &self.schedule {
            Some(schedule) => schedule.at(self.steps),
            None => optimizer.learning_rate(),
        };
        self.steps += 1;
        let mut settings = Vec::with_capacity(2 * self.params.len());
        for param in &mut self.params {
            param.steps += 1;
            let rate = rate * param.multiplier;
            let keep = if param.is_decayed { 1.0 - self.weight_decay * rate } else { 1.0 };
            let number = i32::try_from(param.steps).unwrap_or(i32::MAX);
            let rate = match self.rule {
                GpuRule::Adam { beta_1, beta_2, .. } => {
                    rate * (1.0 - beta_2.powi(number)).sqrt() / (1.0 - beta_1.powi(number))
                }
                _ => rate,
            };
            settings.extend([rate as f32, keep as f32]);
        }
        let settings = self.gpu.upload(&settings)?;
        let (weights, gradients) = network.weights();
        let (state, settings, stopped) = (self.state.as_slice(), &settings, Some(stopped));
        let update = Update { weights, gradients, state, settings, stopped };
        Ok(self.gpu.optimizer_step(self.rule, self.clip, &self.chunks, &update)?)
    }

    /// Subtracts steps that changed nothing from the step counts.
    pub(crate) fn uncount(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub(steps);
        self.params.iter_mut().for_each(|param| param.steps = param.steps.saturating_sub(steps));
    }

    /// Copies the state to the optimizer. `all` has all parameters of the model; the state of frozen ones does not
    /// change.
    pub(crate) fn write_back(&self, optimizer: &mut dyn Optimizer, all: &[(String, Param)]) -> Result<()> {
        let mut state = optimizer.state(all)?;
        let count = |steps: usize| Tensor::new(steps as i64, &Device::Cpu);
        state.insert(STEPS.to_owned(), count(self.steps)?);
        for param in self.params.iter().filter(|param| param.steps > 0) {
            state.insert(format!("{}/{STEPS}", param.path), count(param.steps)?);
        }
        for (slot, array) in self.slots.iter().zip(&self.state) {
            let values = self.gpu.download(array)?;
            for (param, &Segment { start, len }) in self.params.iter().zip(&self.segments) {
                if param.steps > 0 {
                    let slice = &values[start..start + len];
                    let tensor = Tensor::from_slice(slice, param.shape.as_slice(), &Device::Cpu)?;
                    state.insert(format!("{}/{slot}", param.path), tensor);
                }
            }
        }
        optimizer.set_state(all, &state)
    }
}
