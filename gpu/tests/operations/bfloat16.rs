//! Operations and networks with values in bfloat16, whose layout is NHWC.
//!
//! An operation loads bfloat16 values, computes in float32 as the same operation for float32 values, and rounds its result.
//! So its result is the rounded result of the other.

use headstart_gpu::{
    Activation, Array, Dropout, Element, Gpu, MapShape, NormalizationOperands, Output, PoolShape, Precision,
    Statistics,
};

use super::convolution::bfloat16;
use super::network::{BATCH, examples};
use super::{assert_close, assert_within, download_maps, fake, gpu, numbers, upload_maps};

const TYPES: [Element; 2] = [Element::Float32, Element::BFloat16];

/// Few channels, more channels than a tile, and one pixel.
const MAPS: [MapShape; 3] = [
    MapShape { batch: 2, channels: 3, inner: 42 },
    MapShape { batch: 3, channels: 40, inner: 42 },
    MapShape { batch: 2, channels: 5, inner: 1 },
];

/// Numbers that bfloat16 has.
fn values(count: usize, seed: u64) -> Vec<f32> {
    numbers(count, seed).into_iter().map(bfloat16).collect()
}

fn input(maps: MapShape, seed: u64, element: Element) -> Array {
    upload_maps(gpu(), &values(maps.count(), seed), maps, element)
}

/// Compares an operation that writes feature maps in both types. `run` gets arrays with three inputs.
#[track_caller]
fn compare(from: MapShape, to: MapShape, run: impl Fn(&Gpu, [&Array; 3], &Array)) {
    for output_seed in [4, 5] {
        let [expected, found] = TYPES.map(|element| {
            let inputs = [1, 2, 3].map(|seed| input(from, seed, element));
            let y = input(to, output_seed, element);
            run(gpu(), inputs.each_ref(), &y);
            download_maps(gpu(), &y, to)
        });
        let expected: Vec<f32> = expected.into_iter().map(bfloat16).collect();
        match fake::is_real() {
            false => assert_eq!(found, expected),
            // A compiler may contract products and sums differently in both cases.
            true => assert_within(&found, &super::doubles(&expected), 1.0 / 128.0),
        }
    }
}

const OUTPUTS: [Output; 2] = [Output::Replace, Output::Add];

#[test]
fn pointwise_operations_round_the_results_of_float32() {
    let gpu = gpu();
    for maps in MAPS {
        let MapShape { channels, inner, .. } = maps;
        let bias = gpu.upload(&numbers(channels, 7)).unwrap();
        for function in [Activation::Linear, Activation::Relu, Activation::Silu, Activation::Sigmoid] {
            for bias in [Some(&bias), None] {
                compare(maps, maps, |gpu, [x, _, _], y| {
                    gpu.bias_activation(x, bias, y, [channels, inner], function).unwrap();
                });
            }
            compare(maps, maps, |gpu, [a, b, _], y| gpu.add(a, b, y, function).unwrap());
            for output in OUTPUTS {
                compare(maps, maps, |gpu, [dy, known, _], dx| {
                    gpu.activation_backward(dy, known, dx, function, output).unwrap();
                });
            }
        }
        for output in OUTPUTS {
            compare(maps, maps, |gpu, [x, _, _], y| gpu.affine(x, y, 0.3, -0.7, output).unwrap());
            compare(maps, maps, |gpu, [x, factors, _], y| {
                gpu.scale_maps(x, factors, y, [channels * inner, 1], output).unwrap();
            });
            let by_sample = Dropout { rate: 0.4, inner: channels * inner, seed: 3 };
            compare(maps, maps, |gpu, [x, _, _], y| gpu.dropout(x, y, by_sample, output).unwrap());
            // One factor for each feature map, and the mean's gradient.
            let [narrow, wide] = [Element::BFloat16, Element::Float32].map(|element| {
                let one = MapShape { inner: 1, ..maps };
                upload_maps(gpu, &values(one.count(), 8), one, element)
            });
            compare(maps, maps, |gpu, [x, _, _], y| {
                let factors = if x.element() == Element::BFloat16 { &narrow } else { &wide };
                gpu.scale_maps(x, factors, y, [channels, inner], output).unwrap();
            });
            compare(maps, maps, |gpu, _, dx| {
                gpu.global_mean_backward(&wide, dx, [channels, inner], output).unwrap();
            });
        }
    }
}

#[test]
fn dropout_draws_the_same_mask_for_both_passes() {
    let (gpu, maps) = (gpu(), MAPS[1]);
    let dropout = Dropout { rate: 0.5, inner: 1, seed: 9 };
    let draw = |seed: u64| {
        let (x, y) = (input(maps, seed, Element::BFloat16), input(maps, 1, Element::BFloat16));
        gpu.dropout(&x, &y, dropout, Output::Replace).unwrap();
        download_maps(gpu, &y, maps)
    };
    let (x, dy) = (draw(2), draw(3));
    let dropped = |values: &[f32]| values.iter().map(|value| *value == 0.0).collect::<Vec<bool>>();
    assert_eq!(dropped(&x), dropped(&dy));
    let count = dropped(&x).into_iter().filter(|is| *is).count();
    assert!(count.abs_diff(maps.count() / 2) < maps.count() / 20, "{count} of {}", maps.count());
}

#[test]
fn windows_and_padding_round_the_results_of_float32() {
    for channels in [3, 40] {
        let of = |[rows, columns]: [usize; 2]| MapShape { batch: 2, channels, inner: rows * columns };
        for shape in [
            PoolShape {
                batch: 2,
                channels,
                input: [6, 7],
                output: [3, 3],
                size: 2,
                stride: 2,
                before: [0, 0],
            },
            PoolShape {
                batch: 2,
                channels,
                input: [6, 7],
                output: [3, 4],
                size: 3,
                stride: 2,
                before: [1, 1],
            },
        ] {
            let (x, y) = (of(shape.input), of(shape.output));
            let indices = gpu().indices(y.count()).unwrap();
            compare(x, y, |gpu, [x, _, _], y| gpu.max_pool(x, y, &indices, &shape).unwrap());
            compare(x, y, |gpu, [x, _, _], y| gpu.average_pool(x, y, &shape).unwrap());
            for output in OUTPUTS {
                compare(y, x, |gpu, [dy, _, _], dx| {
                    // The positions in the layout of the gradient.
                    let element = dy.element();
                    let [from, to] = [input(x, 9, element), input(y, 9, element)];
                    gpu.max_pool(&from, &to, &indices, &shape).unwrap();
                    gpu.max_pool_backward(dy, &indices, dx, &shape, output).unwrap();
                });
                compare(y, x, |gpu, [dy, _, _], dx| {
                    gpu.average_pool_backward(dy, dx, &shape, output).unwrap()
                });
            }
        }
        let (small, large) = ([6, 7], [9, 8]);
        for output in OUTPUTS {
            compare(of(small), of(large), |gpu, [x, _, _], y| {
                gpu.pad_maps(x, y, channels, [small, large], [2, 1], output).unwrap();
            });
            compare(of(large), of(small), |gpu, [x, _, _], y| {
                gpu.pad_maps(x, y, channels, [large, small], [-2, -1], output).unwrap();
            });
        }
    }
}

/// Values of one type of each channel, and their moving statistics.
struct Channels {
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
}

impl Channels {
    fn new(channels: usize) -> Channels {
        let of = |seed, shift: f32| {
            let values: Vec<f32> = numbers(channels, seed).into_iter().map(|x| 0.5 * x + shift).collect();
            gpu().upload(&values).unwrap()
        };
        Channels { gamma: of(11, 1.0), beta: of(12, 0.0), mean: of(13, 0.0), variance: of(14, 1.0) }
    }
}

#[test]
fn normalisation_rounds_the_results_of_float32() {
    for maps in MAPS {
        let Channels { gamma, beta, mean, variance } = &Channels::new(maps.channels);
        let sums = gpu().upload(&numbers(2 * maps.channels, 15)).unwrap();
        for is_moving in [true, false] {
            let statistics = Statistics { mean, spread: variance, is_moving, epsilon: 1e-3 };
            for (function, has_residual) in [(Activation::Relu, true), (Activation::Linear, false)] {
                compare(maps, maps, |gpu, [x, residual, _], y| {
                    let residual = has_residual.then_some(residual);
                    gpu.normalize(x, statistics, [gamma, beta], residual, y, maps, function).unwrap();
                });
                for output in OUTPUTS {
                    for is_residual in [true, false] {
                        compare(maps, maps, |gpu, [dy, x, y], dx| {
                            let y = (function != Activation::Linear).then_some(y);
                            let operands = NormalizationOperands { dy, x, y, function, statistics, maps };
                            let sums = (!is_moving).then_some(&sums);
                            let (written, other) = (Some((dx, output)), None);
                            let [dx, residual] =
                                if is_residual { [other, written] } else { [written, other] };
                            gpu.normalize_backward(&operands, gamma, sums, dx, residual).unwrap();
                        });
                    }
                }
            }
        }
    }
}

/// Sizes for reductions: some run with all threads of a block, others with one; one has parts of more than 64 rows.
const REDUCED: [MapShape; 3] = [
    MapShape { batch: 4, channels: 70, inner: 100 },
    MapShape { batch: 1, channels: 3, inner: 20_000 },
    MapShape { batch: 3, channels: 40, inner: 42 },
];

/// The sum of a value over the samples and pixels of each channel, in double precision.
fn by_channel(maps: MapShape, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; maps.channels];
    for at in 0..maps.count() {
        let channel = at / maps.inner % maps.channels;
        sums[channel] += value(at, channel);
    }
    sums
}

/// The sum of a value over the pixels of each feature map, in double precision.
fn by_map(maps: MapShape, value: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..maps.batch * maps.channels)
        .map(|map| (map * maps.inner..(map + 1) * maps.inner).map(&value).sum())
        .collect()
}

#[test]
fn reductions_match_their_definitions() {
    let (gpu, element) = (gpu(), Element::BFloat16);
    for maps in REDUCED.into_iter().chain(MAPS) {
        let MapShape { batch, channels, inner } = maps;
        let count = (batch * inner) as f64;
        let of = Channels::new(channels);
        // Values far from 0, so that a variance from the mean of the squares would be wrong.
        let shifted: Vec<f32> = values(maps.count(), 1).iter().map(|x| bfloat16(x + 8.0)).collect();
        let x = upload_maps(gpu, &shifted, maps, element);
        let [dy, y] = [2, 3].map(|seed| input(maps, seed, element));
        let [xs, dys, ys] =
            [shifted, values(maps.count(), 2), values(maps.count(), 3)].map(|values| super::doubles(&values));
        let array = |rows: usize| gpu.array(rows * channels).unwrap();
        let [mean, spread, gamma, beta, bias] = [0; 5].map(|_| array(1));
        let (sums, means) = (array(2), array(batch));
        let moving = [&of.mean, &of.variance];
        let before = moving.map(|array| super::doubles(&gpu.download(array).unwrap()));
        gpu.batch_statistics(&x, [&mean, &spread], moving, maps, 1e-3, 0.9).unwrap();
        let of_mean: Vec<f64> = by_channel(maps, |at, _| xs[at]).iter().map(|sum| sum / count).collect();
        let of_variance = by_channel(maps, |at, channel| (xs[at] - of_mean[channel]).powi(2));
        let of_variance: Vec<f64> = of_variance.iter().map(|sum| sum / count).collect();
        let inverse: Vec<f64> = of_variance.iter().map(|variance| 1.0 / (variance + 1e-3).sqrt()).collect();
        let moved = |before: &[f64], new: &[f64]| -> Vec<f64> {
            before.iter().zip(new).map(|(before, new)| 0.9 * before + 0.1 * new).collect()
        };
        for (found, expected) in [
            (&mean, &of_mean),
            (&spread, &inverse),
            (&of.mean, &moved(&before[0], &of_mean)),
            (&of.variance, &moved(&before[1], &of_variance)),
        ] {
            assert_close(found, expected, 2e-6);
        }
        // With a ReLU, then without: the second sums are added to those of gamma.
        let statistics = Statistics { mean: &mean, spread: &spread, is_moving: false, epsilon: 1e-3 };
        let function = Activation::Relu;
        let operands = NormalizationOperands { dy: &dy, x: &x, y: Some(&y), function, statistics, maps };
        gpu.normalize_backward_sums(&operands, &sums, [Some(&gamma), Some(&beta)], Output::Replace).unwrap();
        let normalized = |at: usize, channel: usize| (xs[at] - of_mean[channel]) * inverse[channel];
        let rectified = |at: usize| if ys[at] > 0.0 { dys[at] } else { 0.0 };
        let first = by_channel(maps, |at, _| rectified(at));
        let second = by_channel(maps, |at, channel| rectified(at) * normalized(at, channel));
        assert_close(&beta, &first, 5e-6);
        assert_close(&gamma, &second, 5e-6);
        assert_close(&sums, &[first, second.clone()].concat(), 5e-6);
        let operands = NormalizationOperands { function: Activation::Linear, y: None, ..operands };
        gpu.normalize_backward_sums(&operands, &sums, [Some(&gamma), None], Output::Add).unwrap();
        let all = by_channel(maps, |at, channel| dys[at] * normalized(at, channel));
        let total: Vec<f64> = second.iter().zip(&all).map(|(a, b)| a + b).collect();
        assert_close(&gamma, &total, 5e-6);
        for (output, factor) in [(Output::Replace, 1.0), (Output::Add, 2.0)] {
            gpu.bias_backward(&dy, &bias, [batch, channels, inner], output).unwrap();
            assert_close(&bias, &by_channel(maps, |at, _| factor * dys[at]), 2e-6);
        }
        gpu.global_mean(&x, &means, [channels, inner]).unwrap();
        assert_close(&means, &by_map(maps, |at| xs[at] / inner as f64), 2e-6);
        // Their result is bfloat16.
        let factors = gpu.array_of(element, batch * channels).unwrap();
        let one = MapShape { inner: 1, ..maps };
        for (output, factor) in [(Output::Replace, 1.0), (Output::Add, 2.0)] {
            gpu.scale_maps_backward(&dy, &x, &factors, [channels, inner], output).unwrap();
            let expected = by_map(maps, |at| factor * dys[at] * xs[at]);
            assert_within(&download_maps(gpu, &factors, one), &expected, 1.0 / 256.0);
        }
    }
    // A batch without samples is nothing to do.
    let (empty, db) = (gpu.array_of(element, 0).unwrap(), gpu.array(3).unwrap());
    gpu.bias_backward(&empty, &db, [0, 3, 4], Output::Replace).unwrap();
    assert_eq!(gpu.download(&db).unwrap(), [0.0; 3]);
}

#[test]
fn conversions_add_and_change_the_layout() {
    for maps in MAPS {
        let gpu = gpu();
        let x = values(maps.count(), 1);
        let narrow = upload_maps(gpu, &x, maps, Element::BFloat16);
        assert_eq!(download_maps(gpu, &narrow, maps), x);
        let wide = gpu.upload(&x).unwrap();
        gpu.convert(&wide, &narrow, maps, Output::Add).unwrap();
        let twice: Vec<f32> = x.iter().map(|value| 2.0 * value).collect();
        assert_eq!(download_maps(gpu, &narrow, maps), twice);
        gpu.convert(&narrow, &wide, maps, Output::Add).unwrap();
        let sum: Vec<f32> = x.iter().map(|value| 3.0 * value).collect();
        assert_eq!(gpu.download(&wide).unwrap(), sum);
    }
}

#[test]
fn other_types_are_refused() {
    let gpu = gpu();
    let (wide, narrow) = (gpu.array(8).unwrap(), gpu.array_of(Element::BFloat16, 8).unwrap());
    let maps = MapShape { batch: 1, channels: 2, inner: 4 };
    for error in [
        gpu.write(&narrow, &[0.0; 8]).unwrap_err(),
        gpu.download(&narrow).unwrap_err(),
        gpu.read_back(&narrow).err().expect("a refusal"),
        gpu.fill(&narrow, 0.0).unwrap_err(),
        gpu.copy(&wide, &narrow).unwrap_err(),
        gpu.convert(&wide, &wide, maps, Output::Replace).unwrap_err(),
        gpu.convert(&narrow, &narrow, maps, Output::Replace).unwrap_err(),
        gpu.add(&wide, &narrow, &wide, Activation::Linear).unwrap_err(),
        gpu.bias_activation(&narrow, Some(&narrow), &narrow, [2, 4], Activation::Linear).unwrap_err(),
        gpu.softmax(&narrow, &wide, 4).unwrap_err(),
        gpu.global_mean(&narrow, &narrow, [2, 1]).unwrap_err(),
        gpu.dense(&narrow, &wide, &wide, headstart_gpu::DenseShape { rows: 1, inputs: 1, outputs: 1 })
            .unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains("values, found Array of 8"), "{error}");
    }
}

/// The L2 norm of a difference, relative to the expected values.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        found.iter().zip(expected).map(|(a, b)| of(f64::from(*a), f64::from(*b)).powi(2)).sum()
    };
    (sum(&|a, b| a - b) / sum(&|_, b| b).max(1e-12)).sqrt()
}

#[test]
fn networks_are_near_those_of_float32() {
    // Rounding to 8 bits has an error of at most 2⁻⁹ of a value. Each layer rounds its weights and its output, and
    // normalisation of few values amplifies errors: at most 8 errors measured. A wrong layout would be off by 512.
    // The test in `pytorch` has a bound from PyTorch.
    const ERROR: f64 = 1.0 / 512.0;
    let gpu = fake::open(Precision::Float32);
    for (name, builder) in examples() {
        let mut run = |precision| {
            gpu.set_precision(precision).unwrap();
            // A new one, because training changes the moving statistics.
            let network = builder.build_on(&gpu);
            builder.center_weights(&network);
            let x = gpu.upload(&numbers(builder.inputs(), 77)).unwrap();
            let inference = network.predict(std::slice::from_ref(&x), BATCH).unwrap();
            let pass = network.forward(&[x], BATCH, 1).unwrap();
            let output = gpu.download(pass.output()).unwrap();
            let dy = gpu.upload(&numbers(output.len(), 78)).unwrap();
            network.backward(pass, dy).unwrap();
            let gradients = builder.params().filter_map(|index| network.gradient(index));
            let gradients = gradients.flat_map(|gradient| gpu.download(gradient).unwrap()).collect();
            [gpu.download(&inference).unwrap(), output, gradients]
        };
        let [expected, found] = [Precision::Float32, Precision::BFloat16].map(&mut run);
        let distances = [0, 1, 2].map(|at| distance(&found[at], &expected[at]) / ERROR);
        println!("{name}: {distances:.2?}");
        assert!(
            distances[0] > 0.1 && distances.iter().all(|distance| *distance < 16.0),
            "{name}: {distances:?}"
        );
        // The same bits again, and those of float32 afterwards.
        assert_eq!(run(Precision::BFloat16), found);
        assert_eq!(run(Precision::Float32), expected);
    }
}

#[test]
fn only_inputs_weights_and_the_head_are_converted() {
    const TEST: &str = "bfloat16::only_inputs_weights_and_the_head_are_converted";
    // The launches of each kernel are those of the process.
    if !super::is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "3072")]) {
        return;
    }
    let gpu = fake::open(Precision::BFloat16);
    let launches = || ["float32_to_bfloat16", "bfloat16_to_float32"].map(fake::launches_of);
    let (_, builder) = examples().remove(1);
    let network = builder.build_on(&gpu);
    let x = gpu.upload(&numbers(builder.inputs(), 77)).unwrap();
    let pass = network.forward(&[x], BATCH, 1).unwrap();
    // The input, and the weights of four convolutions.
    assert_eq!(launches(), [1 + 4, 0]);
    let dy = gpu.upload(&numbers(pass.output().len(), 78)).unwrap();
    network.backward(pass, dy).unwrap();
    // The weights of three convolutions whose input has a gradient; the gradients of the weights of four.
    assert_eq!(launches(), [5 + 3, 4]);
    assert_eq!(fake::call("libcudnn.so.9", "fake_cudnn_float"), 0);
    assert_eq!(fake::call("libcudnn.so.9", "fake_cudnn_bfloat16"), 4 + 3 + 4);
}
