//! Learning rates that change from step to step (`keras/src/optimizers/schedules`).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::check::{check, check_not_negative, check_positive};

/// A learning rate: a number, or a [`Schedule`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LearningRate {
    /// The same rate at each step, until it is changed.
    Constant(f64),
    /// A rate that depends on the step.
    Schedule(Schedule),
}

impl LearningRate {
    /// Returns the learning rate after `steps` steps.
    pub fn at(&self, steps: usize) -> f64 {
        match self {
            LearningRate::Constant(rate) => *rate,
            LearningRate::Schedule(schedule) => schedule.at(steps),
        }
    }

    /// The highest learning rate in `count` steps after `steps` steps. Of many steps, about a thousand are looked at.
    pub(super) fn highest(&self, steps: usize, count: usize) -> f64 {
        const MAX_LOOKS: usize = 1000;
        let distance = count.div_ceil(MAX_LOOKS).max(1);
        let looks = (0..count.max(1)).step_by(distance);
        looks.map(|step| self.at(steps.saturating_add(step))).fold(0.0, f64::max)
    }
}

impl From<f64> for LearningRate {
    fn from(rate: f64) -> LearningRate {
        LearningRate::Constant(rate)
    }
}

impl From<Schedule> for LearningRate {
    fn from(schedule: Schedule) -> LearningRate {
        LearningRate::Schedule(schedule)
    }
}

/// A learning rate as a function of the steps (batches) so far.
///
/// ```
/// use headstart::prelude::*;
/// let schedule = Schedule::cosine_decay(0.0, 90).warmup(1e-3, 10);
/// assert_eq!([0, 5, 10, 55, 100].map(|step| schedule.at(step)), [0.0, 5e-4, 1e-3, 5e-4, 0.0]);
/// let optimizer = Adam::new(schedule);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Schedule {
    initial: f64,
    warmup: Option<(f64, f64)>,
    form: Form,
    /// The method that was called although the form has no such setting.
    #[serde(skip)]
    misplaced: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Form {
    Piecewise { boundaries: Vec<usize>, values: Vec<f64> },
    Exponential { steps: f64, rate: f64, staircase: bool },
    Cosine { steps: f64, alpha: f64 },
    Restarts { first: f64, longer: f64, lower: f64, alpha: f64 },
    OneCycle { steps: f64 },
}

impl Schedule {
    /// `values[0]` up to and including step `boundaries[0]`, then `values[1]`, and so on. There is one
    /// more value than there are boundaries. Corresponds to Keras's `PiecewiseConstantDecay`.
    pub fn piecewise_constant(boundaries: &[usize], values: &[f64]) -> Schedule {
        let form = Form::Piecewise { boundaries: boundaries.to_vec(), values: values.to_vec() };
        Schedule { initial: values.first().copied().unwrap_or_default(), warmup: None, form, misplaced: None }
    }

    /// Multiplies the rate by `rate` every `steps` steps, continuously: `initial · rate^(step/steps)`.
    /// Corresponds to Keras's `ExponentialDecay`.
    pub fn exponential_decay(initial: f64, steps: usize, rate: f64) -> Schedule {
        let form = Form::Exponential { steps: steps as f64, rate, staircase: false };
        Schedule { initial, warmup: None, form, misplaced: None }
    }

    /// Multiplies the rate by `rate` at the end of every `steps` steps. Corresponds to Keras's
    /// `ExponentialDecay` with `staircase=True`.
    pub fn step_decay(initial: f64, steps: usize, rate: f64) -> Schedule {
        let form = Form::Exponential { steps: steps as f64, rate, staircase: true };
        Schedule { initial, warmup: None, form, misplaced: None }
    }

    /// Half a cosine, from `initial` down to 0 in `steps` steps (Loshchilov and Hutter 2016).
    /// Corresponds to Keras's `CosineDecay`.
    pub fn cosine_decay(initial: f64, steps: usize) -> Schedule {
        let form = Form::Cosine { steps: steps as f64, alpha: 0.0 };
        Schedule { initial, warmup: None, form, misplaced: None }
    }

    /// Repeats the cosine decay; each period is twice as long as the one before. Corresponds to Keras's
    /// `CosineDecayRestarts`.
    pub fn cosine_decay_restarts(initial: f64, first_steps: usize) -> Schedule {
        let form = Form::Restarts { first: first_steps as f64, longer: 2.0, lower: 1.0, alpha: 0.0 };
        Schedule { initial, warmup: None, form, misplaced: None }
    }

    /// Rises to `max_rate` in the first 30 % of the steps, then falls to almost 0 (Smith 2018), like
    /// PyTorch's `OneCycleLR`.
    pub fn one_cycle(max_rate: f64, steps: usize) -> Schedule {
        let form = Form::OneCycle { steps: steps as f64 };
        Schedule { initial: max_rate, warmup: None, form, misplaced: None }
    }

    /// Sets the final rate of a cosine, as a share of the initial rate. Default: 0.
    pub fn alpha(mut self, share: f64) -> Schedule {
        match &mut self.form {
            Form::Cosine { alpha, .. } | Form::Restarts { alpha, .. } => *alpha = share,
            _ => self.misplaced = Some("alpha"),
        }
        self
    }

    /// Sets the factors of length (`t_mul`) and height (`m_mul`) from one cosine period to the next.
    /// Defaults: 2 and 1.
    pub fn restarts(mut self, t_mul: f64, m_mul: f64) -> Schedule {
        match &mut self.form {
            Form::Restarts { longer, lower, .. } => (*longer, *lower) = (t_mul, m_mul),
            _ => self.misplaced = Some("restarts"),
        }
        self
    }

    /// Adds a linear warmup: rises from the initial rate to `target` in `steps` steps, before the rest
    /// of the schedule. [`Schedule::piecewise_constant`] and [`Schedule::one_cycle`] take no warmup: their own rates
    /// rise.
    pub fn warmup(mut self, target: f64, steps: usize) -> Schedule {
        match self.form {
            Form::Piecewise { .. } | Form::OneCycle { .. } => self.misplaced = Some("warmup"),
            _ => self.warmup = Some((target, steps as f64)),
        }
        self
    }

    /// Checks that all rates are finite and not negative, and that the settings fit together.
    pub(super) fn check(&self) -> Result<()> {
        check_not_negative("learning_rate", self.initial)?;
        if let Some((target, _)) = self.warmup {
            check_not_negative("warmup's target", target)?;
        }
        if let Some(method) = self.misplaced {
            let expected = match method {
                "restarts" => "cosine_decay_restarts",
                "warmup" => "a cosine or exponential decay",
                _ => "a cosine decay",
            };
            check(method, "another schedule", false, expected)?;
        }
        match &self.form {
            Form::Piecewise { boundaries, values } => {
                let fits = values.len() == boundaries.len() + 1;
                let found = format!("{} values and {} boundaries", values.len(), boundaries.len());
                check("piecewise_constant", found, fits, "one more value than boundaries")?;
                let found = format!("{boundaries:?}");
                check("boundaries", found, boundaries.is_sorted(), "steps in rising order")?;
                values.iter().try_for_each(|value| check_not_negative("values", *value))
            }
            Form::Exponential { steps, rate, .. } => {
                check_steps(*steps)?;
                check_positive("rate", *rate)
            }
            Form::Cosine { steps, alpha } => {
                check_steps(*steps)?;
                check_not_negative("alpha", *alpha)
            }
            Form::Restarts { first, longer, lower, alpha } => {
                check_steps(*first)?;
                check_positive("t_mul", *longer)?;
                check_not_negative("m_mul", *lower)?;
                check_not_negative("alpha", *alpha)
            }
            Form::OneCycle { steps } => check_steps(*steps),
        }
    }

    /// Returns the learning rate after `steps` steps.
    pub fn at(&self, steps: usize) -> f64 {
        let mut step = steps as f64;
        let mut initial = self.initial;
        if let Some((target, warmup)) = self.warmup {
            if step < warmup {
                return initial + (target - initial) * step / warmup;
            }
            (step, initial) = (step - warmup, target);
        }
        match &self.form {
            Form::Piecewise { boundaries, values } => {
                let at = boundaries.iter().filter(|boundary| step > **boundary as f64).count();
                values.get(at).or(values.last()).copied().unwrap_or_default()
            }
            Form::Exponential { steps, rate, staircase } => {
                let periods = step / steps.max(1.0);
                let periods = if *staircase { periods.floor() } else { periods };
                initial * rate.powf(periods)
            }
            Form::Cosine { steps, alpha } => initial * cosine((step / steps.max(1.0)).min(1.0), *alpha),
            Form::Restarts { first, longer, lower, alpha } => {
                let (count, part) = period(step, first.max(1.0), *longer);
                // Only the part above the final rate becomes lower.
                initial * (lower.powf(count) * cosine(part, 0.0) * (1.0 - alpha) + alpha)
            }
            Form::OneCycle { steps } => {
                let steps = steps.max(2.0);
                let (top, end) = (0.3 * steps - 1.0, steps - 1.0);
                let between =
                    |from: f64, to: f64, part: f64| to + (from - to) / 2.0 * (1.0 + (PI * part).cos());
                let low = initial / 25.0;
                match step < top {
                    true => between(low, initial, step / top),
                    false => between(initial, low / 1e4, ((step - top) / (end - top)).min(1.0)),
                }
            }
        }
    }
}

/// Fewer samples than a batch give 0 in `samples / batch_size`.
fn check_steps(steps: f64) -> Result<()> {
    check("a schedule's steps", steps, steps >= 1.0, "at least 1")
}

/// The number of periods before a step, and the part of the current one that has passed. Each period is `longer` times
/// as long as the one before it, and has at least one step.
fn period(step: f64, first: f64, longer: f64) -> (f64, f64) {
    if longer == 1.0 {
        return ((step / first).floor(), (step / first).fract());
    }
    // The length of the first periods together.
    let sum = |count: f64| first * (longer.powf(count) - 1.0) / (longer - 1.0);
    if longer < 1.0 {
        let shrinking = (first.ln() / -longer.ln()).ceil();
        if step >= sum(shrinking) {
            let rest = step - sum(shrinking);
            return (shrinking + rest.floor(), rest.fract());
        }
    }
    let count = ((1.0 + step / first * (longer - 1.0)).ln() / longer.ln()).floor().max(0.0);
    // The logarithm of the first step of a period may be rounded down.
    let count = if sum(count + 1.0) <= step * (1.0 + 1e-12) { count + 1.0 } else { count };
    (count, ((step - sum(count)) / (first * longer.powf(count))).clamp(0.0, 1.0))
}

/// Half a cosine, from 1 at `part` 0 down to `alpha` at `part` 1.
fn cosine(part: f64, alpha: f64) -> f64 {
    (1.0 - alpha) * 0.5 * (1.0 + (PI * part).cos()) + alpha
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_match_keras_and_pytorch() {
        let near = |schedule: Schedule, values: &[(usize, f64)]| {
            for (step, expected) in values {
                let found = schedule.at(*step);
                assert!((found - expected).abs() < 1e-9, "{schedule:?} at {step}: {found}, not {expected}");
            }
        };
        near(Schedule::exponential_decay(0.1, 10, 0.5), &[(0, 0.1), (5, 0.1 * 0.5f64.sqrt()), (20, 0.025)]);
        near(Schedule::step_decay(0.1, 10, 0.5), &[(9, 0.1), (10, 0.05), (29, 0.025)]);
        near(
            Schedule::piecewise_constant(&[2, 4], &[1.0, 0.5, 0.1]),
            &[(2, 1.0), (3, 0.5), (4, 0.5), (5, 0.1)],
        );
        near(Schedule::cosine_decay(1.0, 4).alpha(0.1), &[(0, 1.0), (2, 0.55), (4, 0.1), (9, 0.1)]);
        near(
            Schedule::cosine_decay_restarts(1.0, 4).restarts(2.0, 0.5),
            &[(2, 0.5), (4, 0.5), (8, 0.25), (12, 0.25)],
        );
        // keras.optimizers.schedules.CosineDecayRestarts, in the same order: `t_mul`, `m_mul`, `alpha`.
        near(
            Schedule::cosine_decay_restarts(1.0, 4).restarts(2.0, 0.5).alpha(0.1),
            &[(0, 1.0), (2, 0.55), (4, 0.55), (8, 0.325)],
        );
        near(
            Schedule::cosine_decay_restarts(1.0, 10).restarts(1.0, 0.5),
            &[(5, 0.5), (10, 0.5), (15, 0.25), (20, 0.25)],
        );
        near(
            Schedule::cosine_decay_restarts(1.0, 1).restarts(3.0, 0.5),
            &[(0, 1.0), (1, 0.5), (4, 0.25), (13, 0.125), (40, 0.0625), (121, 0.03125)],
        );
        // A period has at least one step: lengths of 4, 2, 1, 1, 1, …
        near(
            Schedule::cosine_decay_restarts(1.0, 4).restarts(0.5, 0.5),
            &[(2, 0.5), (4, 0.5), (5, 0.25), (6, 0.25), (7, 0.125), (8, 0.0625)],
        );
        for other in [Schedule::piecewise_constant(&[2], &[1.0, 0.1]), Schedule::one_cycle(1.0, 100)] {
            let error = other.warmup(1.0, 10).check().unwrap_err().to_string();
            assert!(error.contains("warmup") && error.contains("cosine or exponential"), "{error}");
        }
        near(Schedule::one_cycle(1.0, 100), &[(0, 0.04), (29, 1.0), (99, 4e-6)]);
    }

    /// The time does not depend on the step.
    #[test]
    fn late_steps_have_a_rate_at_once() {
        for t_mul in [0.5, 0.999, 1.0, 1.001, 2.0] {
            let schedule = Schedule::cosine_decay_restarts(1e-3, 10).restarts(t_mul, 1.0);
            for step in [1_000_000_000, usize::MAX] {
                assert!((0.0..=1e-3).contains(&schedule.at(step)), "{t_mul}: {}", schedule.at(step));
            }
        }
    }
}
