//! Losses with their gradients.

use headstart_gpu::{Array, Loss, LossOutput};

use super::{assert_close, differences, doubles, gpu, numbers};

const SMOOTHING: f64 = 0.1;

/// The loss of one sample.
fn of_sample(loss: Loss, x: &[f64], t: &[f64]) -> f64 {
    let smooth = |t: f64, classes: usize| t * (1.0 - SMOOTHING) + SMOOTHING / classes as f64;
    match loss {
        Loss::SoftmaxCrossEntropy { .. } => {
            let log_sum = x.iter().map(|x| x.exp()).sum::<f64>().ln();
            x.iter().zip(t).map(|(value, target)| smooth(*target, t.len()) * (log_sum - value)).sum()
        }
        Loss::SigmoidCrossEntropy { .. } => {
            let losses = x.iter().zip(t).map(|(x, t)| {
                let (p, t) = (1.0 / (1.0 + (-x).exp()), smooth(*t, 2));
                -t * p.ln() - (1.0 - t) * (1.0 - p).ln()
            });
            losses.sum::<f64>() / x.len() as f64
        }
        Loss::SquaredError => x.iter().zip(t).map(|(x, t)| (x - t).powi(2)).sum::<f64>() / x.len() as f64,
    }
}

struct Found {
    losses: Array,
    probabilities: Array,
    gradient: Array,
    mean: Array,
    stopped: Array,
}

fn compute(loss: Loss, x: &[f32], t: &[f32], weights: &[f32], [rows, columns]: [usize; 2]) -> Found {
    let gpu = gpu();
    let [x, t, weights] = [x, t, weights].map(|values| gpu.upload(values).unwrap());
    let [losses, probabilities, gradient, mean] =
        [rows, rows * columns, rows * columns, 1].map(|len| gpu.array(len).unwrap());
    let stopped = gpu.upload(&[0.0]).unwrap();
    let found = Found { losses, probabilities, gradient, mean, stopped };
    let output = LossOutput {
        losses: &found.losses,
        probabilities: &found.probabilities,
        gradient: Some(&found.gradient),
        mean: &found.mean,
        stopped: &found.stopped,
    };
    gpu.loss(loss, &x, &t, Some(&weights), [rows, columns], output).unwrap();
    found
}

#[test]
fn losses_match_the_definition_and_its_differences() {
    let label_smoothing = SMOOTHING as f32;
    for (rows, columns) in [(5, 4), (20, 1), (3, 700)] {
        let x: Vec<f32> = numbers(rows * columns, 1).iter().map(|x| 3.0 * x).collect();
        let weights: Vec<f32> = numbers(rows, 3).iter().map(|x| x + 1.0).collect();
        for loss in [
            Loss::SoftmaxCrossEntropy { label_smoothing },
            Loss::SigmoidCrossEntropy { label_smoothing },
            Loss::SquaredError,
        ] {
            // Probabilities that sum to 1 over a sample.
            let t: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    if i % columns == i / columns % columns {
                        0.75
                    } else {
                        0.25 / (columns.max(2) - 1) as f32
                    }
                })
                .collect();
            let found = compute(loss, &x, &t, &weights, [rows, columns]);
            let (xs, ts, ws) = (doubles(&x), doubles(&t), doubles(&weights));
            let losses = |x: &[f64]| -> Vec<f64> {
                let samples = x.chunks(columns).zip(ts.chunks(columns)).zip(&ws);
                samples.map(|((x, t), weight)| of_sample(loss, x, t) * weight).collect()
            };
            let mean = |x: &[f64]| losses(x).iter().sum::<f64>() / rows as f64;
            assert_close(&found.losses, &losses(&xs), 1e-6);
            assert_close(&found.mean, &[mean(&xs)], 1e-6);
            assert_close(&found.gradient, &differences(&xs, mean), 5e-6);
            let probabilities: Vec<f64> = match loss {
                Loss::SoftmaxCrossEntropy { .. } => xs
                    .chunks(columns)
                    .flat_map(|x| {
                        let sum: f64 = x.iter().map(|x| x.exp()).sum();
                        x.iter().map(move |x| x.exp() / sum)
                    })
                    .collect(),
                Loss::SigmoidCrossEntropy { .. } => xs.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
                Loss::SquaredError => continue,
            };
            assert_close(&found.probabilities, &probabilities, 1e-6);
        }
    }
}

#[test]
fn large_logits_have_finite_losses_and_nan_sets_the_flag() {
    let gpu = gpu();
    let sigmoid = Loss::SigmoidCrossEntropy { label_smoothing: 0.0 };
    let softmax = Loss::SoftmaxCrossEntropy { label_smoothing: 0.0 };
    let found = compute(sigmoid, &[-200.0, 0.0, 200.0], &[1.0, 0.0, 1.0], &[1.0; 3], [3, 1]);
    assert_close(&found.mean, &[(200.0 + 2f64.ln()) / 3.0], 1e-6);
    assert_close(&found.gradient, &[-1.0 / 3.0, 0.5 / 3.0, 0.0], 1e-6);
    let found = compute(softmax, &[1e4, 0.0, -1e4], &[0.0, 1.0, 0.0], &[1.0], [1, 3]);
    assert_close(&found.mean, &[1e4], 1e-6);
    assert_eq!(gpu.download(&found.stopped).unwrap(), [0.0]);
    for loss in [sigmoid, softmax, Loss::SquaredError] {
        for bad in [f32::NAN, f32::INFINITY] {
            let found = compute(loss, &[0.0, bad, 1.0, 0.0], &[0.0, 0.0, 1.0, 0.0], &[1.0; 2], [2, 2]);
            assert!(!gpu.download(&found.mean).unwrap()[0].is_finite(), "{loss:?} of {bad}");
            assert_eq!(gpu.download(&found.stopped).unwrap(), [1.0], "{loss:?} of {bad}");
        }
    }
}

#[test]
fn softmax_matches_the_definition() {
    let gpu = gpu();
    let x: Vec<f32> = numbers(3 * 600, 1).iter().map(|x| 50.0 * x).collect();
    let (gx, y) = (gpu.upload(&x).unwrap(), gpu.array(1800).unwrap());
    gpu.softmax(&gx, &y, 600).unwrap();
    let rows = x.chunks(600).flat_map(|row| {
        let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
        row.iter().map(move |x| f64::from(*x).exp() / sum)
    });
    assert_close(&y, &rows.collect::<Vec<_>>(), 1e-5);
}

#[test]
fn correct_rows_are_counted_as_on_the_cpu() {
    let gpu = gpu();
    let count = |outputs: &[f32], targets: &[f32], columns: usize| {
        let [x, t] = [outputs, targets].map(|values| gpu.upload(values).unwrap());
        let correct = gpu.array(1).unwrap();
        gpu.count_correct(&x, &t, [outputs.len() / columns, columns], 0.5, &correct).unwrap();
        gpu.download(&correct).unwrap()[0]
    };
    // One output: exactly the threshold is class 0, and so is NaN.
    assert_eq!(count(&[0.5, 0.6, 0.4, f32::NAN], &[0.0, 1.0, 1.0, 0.0], 1), 3.0);
    // Of equal outputs the first one counts. NaN is never the largest; a row without a number has class 0.
    let outputs = [0.4, 0.4, 0.2, f32::NAN, 0.1, 0.3, f32::NAN, f32::NAN, f32::NAN];
    assert_eq!(count(&outputs, &[1., 0., 0., 0., 0., 1., 1., 0., 0.], 3), 3.0);
    assert_eq!(count(&outputs, &[0., 1., 0., 0., 1., 0., 0., 0., 1.], 3), 0.0);
    // More columns than a block has threads, in blocks that run with all threads and in blocks with one.
    for rows in [5, 40] {
        let columns = 1300;
        let outputs = numbers(rows * columns, 9);
        let largest = |row: &[f32]| (0..columns).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        let mut targets = vec![0.0; rows * columns];
        for (row, values) in outputs.chunks(columns).enumerate() {
            // Every third row has another class.
            targets[row * columns + (largest(values) + usize::from(row % 3 == 0)) % columns] = 1.0;
        }
        assert_eq!(count(&outputs, &targets, columns), (rows - rows.div_ceil(3)) as f32);
    }
    let error = gpu.count_correct(
        &gpu.array(1).unwrap(),
        &gpu.array(1).unwrap(),
        [(1 << 24) + 1, 1],
        0.5,
        &gpu.array(1).unwrap(),
    );
    assert!(error.unwrap_err().to_string().contains("at most 16777216 rows"));
}
