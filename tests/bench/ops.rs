//! Benchmark of single operations, with the share of the machine's peak that each convolution reaches:
//! `cargo bench -p headstart-bench [-- FILTER]`, on an idle machine.
//!
//! The peak is the speed of a product of two large matrices in the same run. A convolution counts as many
//! operations as direct convolution needs; a multiplication and an addition count as two. Winograd's
//! algorithm needs fewer, so its share can exceed 1. A training step counts three times as many: the
//! output, and the gradients of input and kernel.

use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use headstart::candle_core::Var;
use headstart::nn::LayerSpec;
use headstart::prelude::*;
use serde_json::Value;

const BATCH: usize = 4;
/// Side of the matrices whose product gives the peak.
const PEAK: usize = 2048;
const PEAK_NAME: &str = "peak/product of matrices";

/// Input channels, side of the feature maps, output channels, kernel size, stride.
type Convolution = (usize, usize, usize, usize, usize);
const CONVOLUTIONS: [(&str, &[Convolution]); 2] = [
    (
        "VGG16",
        &[
            (3, 224, 64, 3, 1),
            (64, 224, 64, 3, 1),
            (64, 112, 128, 3, 1),
            (128, 112, 128, 3, 1),
            (128, 56, 256, 3, 1),
            (256, 56, 256, 3, 1),
            (256, 28, 512, 3, 1),
            (512, 28, 512, 3, 1),
            (512, 14, 512, 3, 1),
        ],
    ),
    (
        "ResNet50",
        &[
            (3, 224, 64, 7, 2),
            (64, 56, 64, 1, 1),
            (64, 56, 64, 3, 1),
            (64, 56, 256, 1, 1),
            (128, 56, 128, 3, 2),
            (128, 28, 128, 3, 1),
            (512, 28, 128, 1, 1),
            (256, 14, 256, 3, 1),
            (1024, 14, 256, 1, 1),
            (512, 7, 512, 3, 1),
            (2048, 7, 512, 1, 1),
            (1024, 14, 2048, 1, 2),
        ],
    ),
];

fn main() -> headstart::Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let mut measured = vec![(PEAK_NAME.to_owned(), 2 * PEAK.pow(3))];
    peak(&mut criterion)?;
    for (network, convolutions) in CONVOLUTIONS {
        for convolution in convolutions {
            measured.extend(measure(&mut criterion, network, *convolution)?);
        }
    }
    others(&mut criterion)?;
    criterion.final_summary();
    print_shares(&measured);
    Ok(())
}

fn peak(criterion: &mut Criterion) -> headstart::Result<()> {
    let matrix = random_uniform((PEAK, PEAK), -1.0, 1.0)?;
    let mut group = criterion.benchmark_group("peak");
    group.throughput(Throughput::Elements(2 * PEAK.pow(3) as u64));
    group.bench_function("product of matrices", |b| b.iter(|| matrix.matmul(&matrix)));
    Ok(())
}

/// Measures a convolution in inference and training. Returns the benchmarks' names, with the operations of
/// each.
fn measure(
    criterion: &mut Criterion,
    network: &str,
    (inputs, side, outputs, kernel, stride): Convolution,
) -> headstart::Result<Vec<(String, usize)>> {
    let conv =
        Conv2D::new(outputs, kernel).strides(stride).padding(Padding::Explicit(kernel / 2)).use_bias(false);
    let model = sequential![Input::new((inputs, side, side)), conv]?;
    let maps: usize = model.output_shape().iter().product();
    let once = 2 * BATCH * maps * inputs * kernel * kernel;
    let name = format!("{kernel}x{kernel}, {inputs} to {outputs}, {side} by {side}, stride {stride}");
    learning(
        criterion,
        &format!("{network}, learning"),
        &name,
        &model,
        Throughput::Elements(3 * once as u64),
    )?;
    model.freeze();
    let x = images(&model)?;
    let mut group = criterion.benchmark_group(format!("{network}, inference"));
    group.throughput(Throughput::Elements(once as u64));
    group.bench_function(&name, |b| b.iter(|| model.forward(&x, Mode::Inference)));
    Ok(vec![
        (format!("{network}, inference/{name}"), once),
        (format!("{network}, training/{name}"), 3 * once),
    ])
}

/// Measures the optimizer, and layers whose time is mostly memory traffic.
fn others(criterion: &mut Criterion) -> headstart::Result<()> {
    let layers: [(&str, LayerSpec); 6] = [
        ("ReLU", Relu.into()),
        ("max pooling", MaxPooling2D::new(2).into()),
        ("average pooling", AveragePooling2D::new(2).into()),
        ("global average pooling", GlobalAveragePooling2D.into()),
        ("batch normalisation", BatchNormalization::default().into()),
        ("dropout", Dropout::new(0.5).into()),
    ];
    for (name, layer) in layers {
        let model = sequential![Input::new((64, 112, 112)), layer]?;
        let bytes = Throughput::Bytes((BATCH * 64 * 112 * 112 * size_of::<f32>()) as u64);
        learning(criterion, "others, learning", name, &model, bytes)?;
    }
    let dense = sequential![Input::new(25_088), Dense::new(128).activation(Relu)]?;
    let once = 2 * BATCH * 25_088 * 128;
    learning(
        criterion,
        "others, learning",
        "the tutorial's dense layer",
        &dense,
        Throughput::Elements(3 * once as u64),
    )?;
    let gradients = dense.forward(&images(&dense)?, Mode::Training)?.sum_all()?.backward()?;
    let (params, mut adam) = (dense.trainable_params(), Adam::new(1e-3));
    let mut group = criterion.benchmark_group("others");
    group.throughput(Throughput::Elements((25_088 * 128 + 128) as u64));
    group.bench_function("a step of Adam", |b| b.iter(|| adam.step(&params, &gradients)));
    Ok(())
}

/// Measures a forward and backward pass, with the gradient of the input.
fn learning(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    model: &Model,
    throughput: Throughput,
) -> headstart::Result<()> {
    let x = Var::from_tensor(&images(model)?)?;
    let step = || value_and_gradients(|| Ok(model.forward(&x, Mode::Training)?.sum_all()?));
    step()?;
    let mut group = criterion.benchmark_group(group);
    group.throughput(throughput);
    group.bench_function(name, |b| b.iter(step));
    Ok(())
}

fn images(model: &Model) -> headstart::Result<Tensor> {
    random_uniform([&[BATCH], model.input_shape()].concat(), -1.0, 1.0)
}

/// Prints the measured speeds, and their shares of the peak.
fn print_shares(measured: &[(String, usize)]) {
    let speeds: Vec<(&str, f64)> = measured
        .iter()
        .filter_map(|(name, operations)| Some((name.as_str(), *operations as f64 / nanoseconds(name)?)))
        .collect();
    let Some((_, peak)) = speeds.iter().find(|(name, _)| *name == PEAK_NAME) else { return };
    println!("{:64}{:>10}{:>8}", "", "GFLOP/s", "share");
    for (name, speed) in &speeds {
        println!("{name:64}{speed:10.0}{:8.2}", speed / peak);
    }
}

/// The median that Criterion has recorded for a benchmark, in nanoseconds.
fn nanoseconds(name: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let file = Path::new(&target).join("criterion").join(name).join("new/estimates.json");
    let estimates: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
