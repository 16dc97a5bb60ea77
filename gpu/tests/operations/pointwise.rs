//! Activations, sums, gates, padding, normalisation, pooling, dropout.

use headstart_gpu::{Activation, Dropout, MapShape, NormalizationOperands, Output, PoolShape, Statistics};

use super::{assert_close, differences, dot, doubles, gpu, numbers};

const ACTIVATIONS: [Activation; 10] = [
    Activation::Linear,
    Activation::Relu,
    Activation::Relu6,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::HardSigmoid,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::HardSwish,
];

/// The error function by its series, and by its asymptotic expansion for large arguments.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.5 {
        let y = 1.0 / (x * x);
        let rest = 1.0 - y / 2.0 + 3.0 * y.powi(2) / 4.0 - 15.0 * y.powi(3) / 8.0;
        return x.signum() * (1.0 - (-x * x).exp() / (x.abs() * std::f64::consts::PI.sqrt()) * rest);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn activate(x: f64, function: Activation) -> f64 {
    let hard = |x: f64| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    match function {
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::HardSigmoid => hard(x),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::HardSwish => x * hard(x),
    }
}

#[test]
fn activations_match_their_definitions_and_differences() {
    let gpu = gpu();
    // From -8 to 8, beside the kinks.
    let x: Vec<f32> = numbers(600, 1).into_iter().map(|x| x * 8.0 + 1e-3).collect();
    let (bias, dy) = (numbers(3, 2), numbers(600, 3));
    let [gx, gbias, gdy] = [&x, &bias, &dy].map(|values| gpu.upload(values).unwrap());
    for function in ACTIVATIONS {
        let biased: Vec<f64> = x.iter().enumerate().map(|(i, x)| f64::from(x + bias[i / 20 % 3])).collect();
        let y = gpu.array(600).unwrap();
        gpu.bias_activation(&gx, Some(&gbias), &y, [3, 20], function).unwrap();
        let expected: Vec<f64> = biased.iter().map(|x| activate(*x, function)).collect();
        assert_close(&y, &expected, 1e-6);

        gpu.bias_activation(&gx, None, &y, [1, 600], function).unwrap();
        let known = if function.has_slope_of_output() { &y } else { &gx };
        let dx = gpu.array(600).unwrap();
        gpu.activation_backward(&gdy, known, &dx, function, Output::Replace).unwrap();
        let loss =
            |x: &[f64]| dot(&x.iter().map(|x| activate(*x, function)).collect::<Vec<_>>(), &doubles(&dy));
        assert_close(&dx, &differences(&doubles(&x), loss), 2e-6);
    }
    let db = gpu.array(3).unwrap();
    gpu.bias_backward(&gdy, &db, [10, 3, 20], Output::Replace).unwrap();
    let sums = [0, 1, 2]
        .map(|c| dy.chunks(20).skip(c).step_by(3).flatten().map(|value| f64::from(*value)).sum::<f64>());
    assert_close(&db, &sums, 1e-6);
}

#[test]
fn at_its_kinks_an_activation_has_the_slope_zero() {
    let gpu = gpu();
    let (x, ones) = (gpu.upload(&[0.0, 6.0, -1.0, 7.0]).unwrap(), gpu.upload(&[1.0; 4]).unwrap());
    let dx = gpu.array(4).unwrap();
    for (function, expected) in [(Activation::Relu, [0.0, 1.0, 0.0, 1.0]), (Activation::Relu6, [0.0; 4])] {
        let y = gpu.array(4).unwrap();
        gpu.bias_activation(&x, None, &y, [1, 4], function).unwrap();
        gpu.activation_backward(&ones, &y, &dx, function, Output::Replace).unwrap();
        assert_eq!(gpu.download(&dx).unwrap(), expected);
    }
}

#[test]
fn sums_gates_and_padding_match() {
    let gpu = gpu();
    let (a, b) = (numbers(24, 1), numbers(24, 2));
    let [ga, gb, y] = [&a, &b, &a].map(|values| gpu.upload(values).unwrap());
    gpu.add(&ga, &gb, &y, Activation::Relu).unwrap();
    let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| f64::from((a + b).max(0.0))).collect();
    assert_close(&y, &sum, 1e-6);
    gpu.affine(&ga, &y, 2.0, 0.5, Output::Add).unwrap();
    let sum: Vec<f64> = sum.iter().zip(&a).map(|(s, a)| s + 2.0 * f64::from(*a) + 0.5).collect();
    assert_close(&y, &sum, 1e-6);

    let gates = gpu.upload(&b[..4]).unwrap();
    gpu.scale_maps(&ga, &gates, &y, [2, 6], Output::Replace).unwrap();
    let gated = |x: &[f64], s: &[f64]| x.iter().enumerate().map(|(i, x)| x * s[i / 6]).collect::<Vec<f64>>();
    let (xs, ss) = (doubles(&a), doubles(&b[..4]));
    assert_close(&y, &gated(&xs, &ss), 1e-6);
    let ds = gpu.array(4).unwrap();
    gpu.scale_maps_backward(&gb, &ga, &ds, [2, 6], Output::Replace).unwrap();
    assert_close(&ds, &differences(&ss, |s| dot(&gated(&xs, s), &doubles(&b))), 1e-6);

    // One map of 2 x 3, padded to 4 x 4, and back.
    let (map, padded) = (gpu.upload(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap(), gpu.array(16).unwrap());
    gpu.pad_maps(&map, &padded, 1, [[2, 3], [4, 4]], [1, 1], Output::Replace).unwrap();
    let expected = [0., 0., 0., 0., 0., 1., 2., 3., 0., 4., 5., 6., 0., 0., 0., 0.];
    assert_eq!(gpu.download(&padded).unwrap(), expected);
    let back = gpu.array(6).unwrap();
    gpu.pad_maps(&padded, &back, 1, [[4, 4], [2, 3]], [-1, -1], Output::Replace).unwrap();
    assert_eq!(gpu.download(&back).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// A normalisation with batch statistics, residual and ReLU.
fn normalize(x: &[f64], gamma: &[f64], beta: &[f64], residual: &[f64], maps: MapShape) -> Vec<f64> {
    let MapShape { batch, channels, inner } = maps;
    let of = |channel: usize| move |i: &usize| i / inner % channels == channel;
    let count = (batch * inner) as f64;
    let mut y = vec![0.0; x.len()];
    for c in 0..channels {
        let places: Vec<usize> = (0..x.len()).filter(of(c)).collect();
        let mean = places.iter().map(|i| x[*i]).sum::<f64>() / count;
        let variance = places.iter().map(|i| (x[*i] - mean).powi(2)).sum::<f64>() / count;
        for i in places {
            let value = (x[i] - mean) / (variance + 1e-3).sqrt() * gamma[c] + beta[c] + residual[i];
            y[i] = value.max(0.0);
        }
    }
    y
}

#[test]
fn batch_normalisation_matches_the_definition_and_its_differences() {
    let gpu = gpu();
    // Few channels run with all threads of a block, many with one: see the fake driver.
    for channels in [3, 20] {
        let maps = MapShape { batch: 4, channels, inner: 9 };
        let count = maps.count();
        let (x, residual, dy) = (numbers(count, 1), numbers(count, 2), numbers(count, 3));
        let (gamma, beta) = (numbers(channels, 4), numbers(channels, 5));
        let [gx, gr, gdy, gg, gb] =
            [&x, &residual, &dy, &gamma, &beta].map(|values| gpu.upload(values).unwrap());
        let [mean, spread, moving_mean, moving_variance] = [0; 4].map(|_| gpu.array(channels).unwrap());
        gpu.fill(&moving_mean, 1.0).unwrap();
        gpu.fill(&moving_variance, 2.0).unwrap();
        let moving = [&moving_mean, &moving_variance];
        gpu.batch_statistics(&gx, [&mean, &spread], moving, maps, 1e-3, 0.9).unwrap();
        let statistics = Statistics { mean: &mean, spread: &spread, is_moving: false, epsilon: 1e-3 };
        let y = gpu.array(count).unwrap();
        gpu.normalize(&gx, statistics, [&gg, &gb], Some(&gr), &y, maps, Activation::Relu).unwrap();
        let [xs, rs, dys, gs, bs] = [&x, &residual, &dy, &gamma, &beta].map(|values| doubles(values));
        assert_close(&y, &normalize(&xs, &gs, &bs, &rs, maps), 2e-6);

        let of_channel = |c: usize| xs.iter().enumerate().filter(move |(i, _)| i / 9 % channels == c);
        let means: Vec<f64> =
            (0..channels).map(|c| of_channel(c).map(|(_, x)| x).sum::<f64>() / 36.0).collect();
        let kept: Vec<f64> = means.iter().map(|mean| 0.9 + 0.1 * mean).collect();
        assert_close(&moving_mean, &kept, 1e-6);
        let variance = |c: usize| of_channel(c).map(|(_, x)| (x - means[c]).powi(2)).sum::<f64>() / 36.0;
        let kept: Vec<f64> = (0..channels).map(|c| 1.8 + 0.1 * variance(c)).collect();
        assert_close(&moving_variance, &kept, 1e-6);

        let [sums, dg, db] = [2 * channels, channels, channels].map(|len| gpu.array(len).unwrap());
        let [dx, dr] = [0; 2].map(|_| gpu.array(count).unwrap());
        let function = Activation::Relu;
        let operands = NormalizationOperands { dy: &gdy, x: &gx, y: Some(&y), function, statistics, maps };
        let params = [Some(&dg), Some(&db)];
        gpu.normalize_backward_sums(&operands, &sums, params, Output::Replace).unwrap();
        let outputs = [&dx, &dr].map(|array| Some((array, Output::Replace)));
        gpu.normalize_backward(&operands, &gg, Some(&sums), outputs[0], outputs[1]).unwrap();
        let of_gamma = differences(&gs, |g| dot(&normalize(&xs, g, &bs, &rs, maps), &dys));
        let of_beta = differences(&bs, |b| dot(&normalize(&xs, &gs, b, &rs, maps), &dys));
        let of_x = differences(&xs, |x| dot(&normalize(x, &gs, &bs, &rs, maps), &dys));
        let of_residual = differences(&rs, |r| dot(&normalize(&xs, &gs, &bs, r, maps), &dys));
        for (found, expected) in [(&dg, of_gamma), (&db, of_beta), (&dx, of_x), (&dr, of_residual)] {
            assert_close(found, &expected, 5e-6);
        }
    }
}

#[test]
fn normalisation_by_moving_statistics_is_a_scale_and_a_shift() {
    let gpu = gpu();
    let maps = MapShape { batch: 2, channels: 2, inner: 3 };
    let (x, dy) = (numbers(12, 1), numbers(12, 2));
    let [gx, gdy] = [&x, &dy].map(|values| gpu.upload(values).unwrap());
    let [mean, variance, gamma, beta] = [[0.5, -1.0], [4.0, 0.25], [2.0, 3.0], [1.0, 0.0]]
        .map(|values: [f32; 2]| gpu.upload(&values).unwrap());
    let statistics = Statistics { mean: &mean, spread: &variance, is_moving: true, epsilon: 0.0 };
    let (y, dx) = (gpu.array(12).unwrap(), gpu.array(12).unwrap());
    gpu.normalize(&gx, statistics, [&gamma, &beta], None, &y, maps, Activation::Linear).unwrap();
    let scale = |i: usize| if (i / 3).is_multiple_of(2) { 1.0 } else { 6.0 };
    let shift = |i: usize| if (i / 3).is_multiple_of(2) { 0.5 } else { 6.0 };
    let expected: Vec<f64> = x.iter().enumerate().map(|(i, x)| f64::from(*x) * scale(i) + shift(i)).collect();
    assert_close(&y, &expected, 1e-6);
    let (y, function) = (None, Activation::Linear);
    let operands = NormalizationOperands { dy: &gdy, x: &gx, y, function, statistics, maps };
    let dx_output = Some((&dx, Output::Replace));
    gpu.normalize_backward(&operands, &gamma, None, dx_output, None).unwrap();
    let expected: Vec<f64> = dy.iter().enumerate().map(|(i, dy)| f64::from(*dy) * scale(i)).collect();
    assert_close(&dx, &expected, 1e-6);
}

/// The pixels of each window, as indices into one map.
fn windows(s: &PoolShape) -> Vec<Vec<usize>> {
    let range = |axis: usize, at: usize| {
        let start = (at * s.stride) as isize - s.before[axis] as isize;
        start.max(0) as usize..((start + s.size as isize) as usize).min(s.input[axis])
    };
    let places = (0..s.output[0]).flat_map(|r| (0..s.output[1]).map(move |c| (r, c)));
    let window = |(r, c)| {
        range(0, r).flat_map(|row| range(1, c).map(move |column| row * s.input[1] + column)).collect()
    };
    places.map(window).collect()
}

#[test]
fn pooling_matches_the_definition_and_its_differences() {
    let gpu = gpu();
    let shapes = [
        PoolShape {
            batch: 2,
            channels: 3,
            input: [6, 6],
            output: [3, 3],
            size: 2,
            stride: 2,
            before: [0, 0],
        },
        // ResNet50's: overlapping windows with padding.
        PoolShape {
            batch: 2,
            channels: 3,
            input: [7, 8],
            output: [4, 4],
            size: 3,
            stride: 2,
            before: [1, 1],
        },
        PoolShape {
            batch: 2,
            channels: 3,
            input: [5, 5],
            output: [2, 2],
            size: 2,
            stride: 2,
            before: [0, 0],
        },
    ];
    for s in shapes {
        let (area, out) = (s.input[0] * s.input[1], s.output[0] * s.output[1]);
        let (x, dy) = (numbers(6 * area, 1), numbers(6 * out, 2));
        let (xs, dys) = (doubles(&x), doubles(&dy));
        let [gx, gdy] = [&x, &dy].map(|values| gpu.upload(values).unwrap());
        let (y, dx, indices) =
            (gpu.array(6 * out).unwrap(), gpu.array(6 * area).unwrap(), gpu.indices(6 * out).unwrap());
        let pool = |x: &[f64], of: &dyn Fn(Vec<f64>) -> f64| -> Vec<f64> {
            let map = |map: &[f64]| {
                windows(&s).into_iter().map(|w| of(w.iter().map(|i| map[*i]).collect())).collect()
            };
            x.chunks(area).flat_map::<Vec<f64>, _>(map).collect()
        };
        let max = |x: &[f64]| pool(x, &|window| window.into_iter().fold(f64::NEG_INFINITY, f64::max));
        let mean = |x: &[f64]| pool(x, &|window| window.iter().sum::<f64>() / window.len() as f64);
        gpu.max_pool(&gx, &y, &indices, &s).unwrap();
        assert_close(&y, &max(&xs), 1e-7);
        gpu.max_pool_backward(&gdy, &indices, &dx, &s, Output::Replace).unwrap();
        assert_close(&dx, &differences(&xs, |x| dot(&max(x), &dys)), 1e-6);
        gpu.average_pool(&gx, &y, &s).unwrap();
        assert_close(&y, &mean(&xs), 1e-6);
        gpu.average_pool_backward(&gdy, &dx, &s, Output::Replace).unwrap();
        assert_close(&dx, &differences(&xs, |x| dot(&mean(x), &dys)), 1e-6);

        let (means, dx) = (gpu.array(6).unwrap(), gpu.array(6 * area).unwrap());
        gpu.global_mean(&gx, &means, [3, area]).unwrap();
        let expected: Vec<f64> = xs.chunks(area).map(|map| map.iter().sum::<f64>() / area as f64).collect();
        assert_close(&means, &expected, 1e-6);
        gpu.global_mean_backward(&gdy.part(0, 6).unwrap(), &dx, [3, area], Output::Replace).unwrap();
        let expected: Vec<f64> = (0..6 * area).map(|i| dys[i / area] / area as f64).collect();
        assert_close(&dx, &expected, 1e-6);
    }
    let outside = PoolShape {
        batch: 1,
        channels: 1,
        input: [2, 2],
        output: [4, 4],
        size: 2,
        stride: 2,
        before: [0, 0],
    };
    let array = gpu.array(16).unwrap();
    let error = gpu.average_pool(&array, &array, &outside).unwrap_err().to_string();
    assert!(error.contains("windows with a pixel"), "{error}");
}

#[test]
fn equal_maxima_and_nan_are_as_in_pytorch() {
    let gpu = gpu();
    let shape = PoolShape {
        batch: 1,
        channels: 1,
        input: [2, 4],
        output: [1, 2],
        size: 2,
        stride: 2,
        before: [0, 0],
    };
    let x = gpu.upload(&[2.0, 2.0, f32::NAN, 1.0, 2.0, 2.0, 3.0, 1.0]).unwrap();
    let (y, indices) = (gpu.array(2).unwrap(), gpu.indices(2).unwrap());
    gpu.max_pool(&x, &y, &indices, &shape).unwrap();
    let values = gpu.download(&y).unwrap();
    assert!(values[0] == 2.0 && values[1].is_nan());
    let (dy, dx) = (gpu.upload(&[1.0, 5.0]).unwrap(), gpu.array(8).unwrap());
    gpu.max_pool_backward(&dy, &indices, &dx, &shape, Output::Replace).unwrap();
    assert_eq!(gpu.download(&dx).unwrap(), [1.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn dropout_drops_its_rate_and_repeats_its_mask() {
    let gpu = gpu();
    let ones = gpu.upload(&vec![1.0; 40_000]).unwrap();
    let draw = |dropout: Dropout| {
        let y = gpu.array(40_000).unwrap();
        gpu.dropout(&ones, &y, dropout, Output::Replace).unwrap();
        gpu.download(&y).unwrap()
    };
    let dropout = Dropout { rate: 0.25, inner: 1, seed: 7 };
    let mask = draw(dropout);
    let share = mask.iter().filter(|value| **value == 0.0).count() as f32 / 40_000.0;
    assert!((share - 0.25).abs() < 0.01, "{share}");
    assert!(mask.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
    assert_eq!(mask, draw(dropout));
    let other = draw(Dropout { seed: 8, ..dropout });
    let equal = mask.iter().zip(&other).filter(|(a, b)| a == b).count() as f32 / 40_000.0;
    // Two independent masks agree at 0.25² + 0.75² of the places.
    assert!((equal - 0.625).abs() < 0.02, "{equal}");
    let samples = draw(Dropout { inner: 100, ..dropout });
    assert!(samples.chunks(100).all(|sample| sample.iter().all(|value| *value == sample[0])));
    let error = gpu.dropout(&ones, &ones, Dropout { rate: 1.0, ..dropout }, Output::Replace);
    assert!(error.unwrap_err().to_string().contains("rate"));
}
