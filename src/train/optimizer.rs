//! Optimizers, with Keras's formulas.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Tensor, TensorId, bail};
use rayon::prelude::*;

use crate::Result;
use crate::nn::Param;
use crate::ops::contiguous;

/// What turns gradients into smaller loss.
pub trait Optimizer: Send + Sync {
    /// Takes one step: changes each parameter that has a gradient.
    fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()>;

    /// The size of a step.
    fn learning_rate(&self) -> f64;

    /// Sets the size of a step from now on.
    fn set_learning_rate(&mut self, learning_rate: f64);
}

/// Adam (Kingma and Ba 2014), as in Keras's `adam.py`:
/// `w -= lr·√(1-β₂ᵗ)/(1-β₁ᵗ) · m/(√v + ε)`.
#[derive(Debug)]
pub struct Adam {
    learning_rate: f64,
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    weight_decay: f64,
    global_clipnorm: Option<f64>,
    steps: i32,
    moments: HashMap<TensorId, Moments>,
}

/// The running means of a parameter's gradient and of its square.
#[derive(Debug)]
struct Moments {
    first: Tensor,
    second: Tensor,
}

impl Default for Adam {
    /// Keras's values: learning rate 0.001, betas 0.9 and 0.999, epsilon 1e-7.
    fn default() -> Adam {
        Adam::new(1e-3)
    }
}

impl Adam {
    /// Adam with a learning rate of your own, as `1e-5` for fine-tuning.
    pub fn new(learning_rate: f64) -> Adam {
        Adam {
            learning_rate,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            weight_decay: 0.0,
            global_clipnorm: None,
            steps: 0,
            moments: HashMap::new(),
        }
    }

    /// Sets the share, times the learning rate, by which each step makes a weight smaller, apart
    /// from its gradient (Loshchilov and Hutter 2017): nought unless told. As in Keras's AdamW, but
    /// biases and the scales of normalisation are left alone.
    pub fn weight_decay(self, weight_decay: f64) -> Adam {
        Adam { weight_decay, ..self }
    }

    /// Shortens all gradients together to at most this length.
    pub fn global_clipnorm(self, norm: f64) -> Adam {
        Adam { global_clipnorm: Some(norm), ..self }
    }

    /// By how much to shorten the gradients.
    fn clip(&self, params: &[Param], gradients: &GradStore) -> Result<f64> {
        let Some(most) = self.global_clipnorm else { return Ok(1.0) };
        let mut square = 0.0;
        for gradient in params.iter().filter_map(|param| gradients.get(param.var())) {
            square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok((most / square.sqrt().max(1e-12)).min(1.0))
    }
}

impl Optimizer for Adam {
    fn step(&mut self, params: &[Param], gradients: &GradStore) -> Result<()> {
        let clip = self.clip(params, gradients)?;
        self.steps += 1;
        let (b1, b2) = (self.beta_1, self.beta_2);
        let rate = self.learning_rate * (1.0 - b2.powi(self.steps)).sqrt() / (1.0 - b1.powi(self.steps));
        for param in params {
            let Some(gradient) = gradients.get(param.var()) else { continue };
            let gradient = gradient.detach().contiguous()?;
            let decay = if param.var().rank() > 1 { self.weight_decay * self.learning_rate } else { 0.0 };
            let moments = match self.moments.remove(&param.var().id()) {
                Some(moments) => moments,
                None => Moments { first: gradient.zeros_like()?, second: gradient.zeros_like()? },
            };
            let step = Step { b1, b2, rate, epsilon: self.epsilon, decay, clip };
            self.moments.insert(param.var().id(), step.take(param, &gradient, moments)?);
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }
}

/// One step of one parameter.
#[derive(Clone, Copy)]
struct Step {
    b1: f64,
    b2: f64,
    rate: f64,
    epsilon: f64,
    decay: f64,
    clip: f64,
}

impl Step {
    fn take(self, param: &Param, gradient: &Tensor, moments: Moments) -> Result<Moments> {
        let Step { b1, b2, rate, epsilon, decay, clip } = self;
        let weight = param.var().as_detached_tensor();
        if weight.device().is_cpu() {
            // In one pass each: the weight last, which needs both moments.
            moments
                .first
                .inplace_op2(gradient, &Blend { keep: b1, scale: clip * (1.0 - b1), square: false })?;
            let scale = clip * clip * (1.0 - b2);
            moments.second.inplace_op2(gradient, &Blend { keep: b2, scale, square: true })?;
            weight.inplace_op3(
                &moments.first,
                &moments.second,
                &Move { rate, epsilon, keep: 1.0 - decay },
            )?;
            return Ok(moments);
        }
        let gradient = (gradient * clip)?;
        let first = ((moments.first * b1)? + (&gradient * (1.0 - b1))?)?;
        let second = ((moments.second * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
        let change = ((&first * rate)? / (second.sqrt()? + epsilon)?)?;
        param.var().set(&((weight * (1.0 - decay))? - change)?)?;
        Ok(Moments { first, second })
    }
}

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;

/// `mean = keep · mean + scale · gradient`, or the gradient's square.
struct Blend {
    keep: f64,
    scale: f64,
    square: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "moment"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        ml: &Layout,
        gradient: &CpuStorage,
        gl: &Layout,
    ) -> candle_core::Result<()> {
        let (keep, scale) = (self.keep as f32, self.scale as f32);
        let gradient = contiguous(gradient, gl)?;
        let mean = contiguous_mut(mean, ml)?;
        mean.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).for_each(|(mean, gradient)| {
            let pairs = mean.iter_mut().zip(gradient);
            match self.square {
                true => pairs.for_each(|(mean, g)| *mean = keep * *mean + scale * (g * g)),
                false => pairs.for_each(|(mean, g)| *mean = keep * *mean + scale * g),
            }
        });
        Ok(())
    }
}

/// `weight = keep · weight - rate · first / (√second + ε)`.
struct Move {
    rate: f64,
    epsilon: f64,
    keep: f64,
}

impl InplaceOp3 for Move {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        wl: &Layout,
        first: &CpuStorage,
        fl: &Layout,
        second: &CpuStorage,
        sl: &Layout,
    ) -> candle_core::Result<()> {
        let (rate, epsilon, keep) = (self.rate as f32, self.epsilon as f32, self.keep as f32);
        let (first, second) = (contiguous(first, fl)?, contiguous(second, sl)?);
        let weight = contiguous_mut(weight, wl)?.par_chunks_mut(CHUNK);
        weight.zip(first.par_chunks(CHUNK)).zip(second.par_chunks(CHUNK)).for_each(|((weight, m), v)| {
            for ((weight, m), v) in weight.iter_mut().zip(m).zip(v) {
                *weight = keep * *weight - rate * m / (v.sqrt() + epsilon);
            }
        });
        Ok(())
    }
}

fn contiguous_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("expected contiguous f32 values, found {layout:?} of another type"),
    }
}
