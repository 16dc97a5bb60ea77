//! Steps of the optimizers, against Keras's formulas in double precision.

use headstart_gpu::{Array, Clip, Rule, Segment, Update};

use super::{assert_close, gpu, numbers};

/// Two parameters with a gap between them, the second of several chunks.
const SEGMENTS: [Segment; 2] = [Segment { start: 0, len: 10 }, Segment { start: 64, len: 40_000 }];
const LEN: usize = 64 + 40_000;
const RATES: [f64; 2] = [0.01, 0.02];
const KEEPS: [f64; 2] = [1.0, 0.999];

fn segment(index: usize) -> Option<usize> {
    SEGMENTS.iter().position(|segment| (segment.start..segment.start + segment.len).contains(&index))
}

/// One step of a rule for one value. `s` is its state.
fn step(rule: Rule, w: f64, g: f64, s: &mut [f64; 3], (rate, keep): (f64, f64)) -> f64 {
    match rule {
        Rule::Sgd { momentum: 0.0, .. } => keep * w - rate * g,
        Rule::Sgd { momentum, nesterov } => {
            s[0] = momentum * s[0] - rate * g;
            keep * w + if nesterov { momentum * s[0] - rate * g } else { s[0] }
        }
        Rule::Adam { beta_1, beta_2, epsilon } => {
            s[0] = beta_1 * s[0] + (1.0 - beta_1) * g;
            s[1] = beta_2 * s[1] + (1.0 - beta_2) * g * g;
            keep * w - rate * s[0] / (s[1].sqrt() + epsilon)
        }
        Rule::RmsProp { rho, momentum, epsilon, centered } => {
            s[0] = rho * s[0] + (1.0 - rho) * g * g;
            s[2] = if centered { rho * s[2] + (1.0 - rho) * g } else { 0.0 };
            let step = rate * g / (s[0] - s[2] * s[2] + epsilon).sqrt();
            s[1] = if momentum == 0.0 { 0.0 } else { momentum * s[1] + step };
            keep * w - if momentum == 0.0 { step } else { s[1] }
        }
    }
}

/// Takes three steps, and compares the weights.
fn check(rule: Rule, clip: Option<Clip>) {
    let gpu = gpu();
    let chunks = gpu.chunks(&SEGMENTS).unwrap();
    let first = numbers(LEN, 1);
    let weights = gpu.upload(&first).unwrap();
    let state: Vec<Array> = (0..rule.states()).map(|_| gpu.upload(&vec![0.0; LEN]).unwrap()).collect();
    let settings: Vec<f32> = RATES.iter().zip(&KEEPS).flat_map(|(r, k)| [*r as f32, *k as f32]).collect();
    let settings = gpu.upload(&settings).unwrap();
    let mut expected: Vec<f64> = first.iter().map(|w| f64::from(*w)).collect();
    let mut states = vec![[0.0; 3]; LEN];
    for round in 0..3 {
        let gradient = numbers(LEN, 10 + round);
        let gradients = gpu.upload(&gradient).unwrap();
        let (state, stopped) = (state.as_slice(), None);
        let update = Update { weights: &weights, gradients: &gradients, state, settings: &settings, stopped };
        gpu.optimizer_step(rule, clip, &chunks, &update).unwrap();
        let squares = |number: Option<usize>| -> f64 {
            let of = gradient.iter().enumerate().filter(|(i, _)| {
                segment(*i).is_some_and(|segment| number.is_none_or(|number| number == segment))
            });
            of.map(|(_, g)| f64::from(*g).powi(2)).sum()
        };
        let lengths = [squares(Some(0)), squares(Some(1)), squares(None)].map(f64::sqrt);
        for (i, w) in expected.iter_mut().enumerate() {
            let Some(segment) = segment(i) else { continue };
            let g = f64::from(gradient[i]);
            let g = match clip {
                None => g,
                Some(Clip::Value(max)) => g.clamp(-f64::from(max), f64::from(max)),
                Some(Clip::Norm(max)) => g * (f64::from(max) / lengths[segment]).min(1.0),
                Some(Clip::GlobalNorm(max)) => g * (f64::from(max) / lengths[2]).min(1.0),
            };
            *w = step(rule, *w, g, &mut states[i], (RATES[segment], KEEPS[segment]));
        }
        assert_close(&weights, &expected, 2e-6);
    }
}

#[test]
fn each_rule_matches_its_formula() {
    for momentum in [0.0, 0.9] {
        for flag in [false, true] {
            check(Rule::Sgd { momentum, nesterov: flag }, None);
            check(Rule::RmsProp { rho: 0.9, momentum, epsilon: 1e-7, centered: flag }, None);
        }
    }
    check(Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }, None);
}

#[test]
fn each_clipping_matches_its_formula() {
    for clip in [Clip::Norm(2.0), Clip::GlobalNorm(50.0), Clip::GlobalNorm(1e6), Clip::Value(0.3)] {
        check(Rule::Sgd { momentum: 0.9, nesterov: false }, Some(clip));
        check(Rule::Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }, Some(clip));
    }
}

#[test]
fn a_variance_that_rounding_makes_negative_is_zero() {
    let gpu = gpu();
    let len = 1000;
    let chunks = gpu.chunks(&[Segment { start: 0, len }]).unwrap();
    // A constant gradient has the variance 0, which is the difference of two large numbers.
    let gradients: Vec<f32> = (0..len).map(|index| 1000.0 + index as f32 * 0.7).collect();
    let gradients = gpu.upload(&gradients).unwrap();
    let weights = gpu.upload(&vec![1.0; len]).unwrap();
    let state: Vec<Array> = (0..3).map(|_| gpu.upload(&vec![0.0; len]).unwrap()).collect();
    let settings = gpu.upload(&[1e-3, 1.0]).unwrap();
    let rule = Rule::RmsProp { rho: 0.9, momentum: 0.0, epsilon: 1e-7, centered: true };
    let (state, stopped) = (state.as_slice(), None);
    let update = Update { weights: &weights, gradients: &gradients, state, settings: &settings, stopped };
    for _ in 0..300 {
        gpu.optimizer_step(rule, None, &chunks, &update).unwrap();
    }
    assert!(gpu.download(&weights).unwrap().iter().all(|weight| weight.is_finite()));
    // Not a number stays one.
    gpu.fill(&gradients, f32::NAN).unwrap();
    gpu.optimizer_step(rule, None, &chunks, &update).unwrap();
    assert!(gpu.download(&weights).unwrap().iter().all(|weight| weight.is_nan()));
}

#[test]
fn a_stopped_training_changes_nothing() {
    let gpu = gpu();
    let chunks = gpu.chunks(&SEGMENTS).unwrap();
    let (weights, gradients) =
        (gpu.upload(&vec![1.0; LEN]).unwrap(), gpu.upload(&vec![f32::NAN; LEN]).unwrap());
    let settings = gpu.upload(&[0.1, 1.0, 0.1, 1.0]).unwrap();
    let stopped = gpu.upload(&[1.0]).unwrap();
    let stopped = Some(&stopped);
    let update =
        Update { weights: &weights, gradients: &gradients, state: &[], settings: &settings, stopped };
    let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
    gpu.optimizer_step(rule, None, &chunks, &update).unwrap();
    assert_eq!(gpu.download(&weights).unwrap(), vec![1.0; LEN]);
    let error =
        gpu.optimizer_step(Rule::Adam { beta_1: 0.9, beta_2: 0.9, epsilon: 0.1 }, None, &chunks, &update);
    assert!(error.unwrap_err().to_string().contains("2 arrays of state"));
}
