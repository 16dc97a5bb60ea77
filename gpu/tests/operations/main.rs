//! The operations on a fake driver, against plain loops in double precision. Gradients are compared with central
//! differences of those loops.

#[path = "../fake/mod.rs"]
mod fake;

mod bfloat16;
mod convolution;
mod fallback;
mod libraries;
mod loss;
mod memory;
mod network;
mod nvrtc;
mod optimizer;
mod pointwise;
mod pytorch;
mod uploads;

use std::sync::OnceLock;

use headstart_gpu::{Array, Element, Gpu, MapShape, Output, Precision};

/// The GPU that the tests share.
fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| fake::open(Precision::Float32))
}

/// Numbers from -1 to 1 that depend on the seed only (a linear congruential generator).
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Uploads feature maps in a type.
fn upload_maps(gpu: &Gpu, values: &[f32], maps: MapShape, element: Element) -> Array {
    let wide = gpu.upload(values).unwrap();
    if element == Element::Float32 {
        return wide;
    }
    let array = gpu.array_of(element, values.len()).unwrap();
    gpu.convert(&wide, &array, maps, Output::Replace).unwrap();
    array
}

/// Downloads feature maps of either type.
fn download_maps(gpu: &Gpu, array: &Array, maps: MapShape) -> Vec<f32> {
    if array.element() == Element::Float32 {
        return gpu.download(array).unwrap();
    }
    let wide = gpu.array(array.len()).unwrap();
    gpu.convert(array, &wide, maps, Output::Replace).unwrap();
    gpu.download(&wide).unwrap()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Compares an array with the expected values, relative to the largest of them.
#[track_caller]
fn assert_close(found: &Array, expected: &[f64], tolerance: f64) {
    // A GPU adds float32 values in another order than the fake driver, which adds in double precision.
    let tolerance = if fake::is_real() { f64::max(tolerance, 1e-5) } else { tolerance };
    assert_within(&gpu().download(found).unwrap(), expected, tolerance);
}

/// Compares values with the expected ones, relative to the largest of them.
#[track_caller]
fn assert_within(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let max = expected.iter().fold(1e-3f64, |max, value| max.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let distance = (f64::from(*found) - expected).abs() / max;
        assert!(distance <= tolerance, "value {index}: expected {expected}, found {found}");
    }
}

/// The gradient of `f` at `x` by central differences.
fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = x.to_vec();
    let mut slope = |index: usize| {
        let value = moved[index];
        moved[index] = value + STEP;
        let above = f(&moved);
        moved[index] = value - STEP;
        let below = f(&moved);
        moved[index] = value;
        (above - below) / (2.0 * STEP)
    };
    (0..x.len()).map(&mut slope).collect()
}

/// The sum of products: a loss whose gradient is `weights`.
fn dot(values: &[f64], weights: &[f64]) -> f64 {
    values.iter().zip(weights).map(|(a, b)| a * b).sum()
}

/// Runs a test again in a process with environment variables, which the fake libraries read. Returns whether this is
/// that process. On a real GPU the test passes without it.
fn is_own_process(test: &str, variables: &[(&str, &str)]) -> bool {
    let is_child =
        variables.iter().all(|(name, value)| std::env::var(name).is_ok_and(|found| found == *value));
    if !is_child && !fake::is_real() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        // A wrong name would run no test.
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    is_child
}
