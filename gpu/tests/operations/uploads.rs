//! Uploads beside the operations, and copies whose work the driver delays.

use headstart_gpu::{Activation, Gpu, Output, Precision};

use super::{fake, is_own_process, numbers};

const SIZE: usize = 1000;

/// The sums of batches with different sizes, each computed by operations that are launched before the next upload. Nothing
/// waits until the end.
fn sums(gpu: &Gpu) -> Vec<Vec<f32>> {
    let mut uploads = gpu.uploads().unwrap();
    let mut results = Vec::new();
    for number in 0..6 {
        let batch = gpu_batch(number);
        let x = uploads.upload(&batch).unwrap();
        assert_eq!(x.len(), batch.len());
        let y = gpu.array(batch.len()).unwrap();
        gpu.add(&x, &x, &y, Activation::Linear).unwrap();
        gpu.affine(&x, &y, 1.0, 0.0, Output::Add).unwrap();
        results.push(gpu.read_back(&y).unwrap());
    }
    results.iter().map(|result| result.values().unwrap()).collect()
}

/// The second batch and the fourth are larger than those before.
fn gpu_batch(number: usize) -> Vec<f32> {
    numbers([SIZE, 2 * SIZE, SIZE, 3 * SIZE, 0, SIZE / 2][number], number as u64)
}

fn check(gpu: &Gpu) {
    for (number, found) in sums(gpu).into_iter().enumerate() {
        let expected: Vec<f32> = gpu_batch(number).iter().map(|x| x + x + x).collect();
        assert_eq!(found, expected, "batch {number}");
    }
}

#[test]
fn uploads_keep_their_values_until_they_are_read() {
    let gpu = fake::open(Precision::Float32);
    for _ in 0..3 {
        check(&gpu);
    }
}

#[test]
fn operations_wait_for_uploads() {
    const TEST: &str = "uploads::operations_wait_for_uploads";
    // A copy runs only when something waits for it.
    if is_own_process(TEST, &[("FAKE_CUDA_ORDER", "late")]) {
        check(&fake::open(Precision::Float32));
    }
}

#[test]
fn uploads_wait_for_the_operations_that_read_their_array() {
    const TEST: &str = "uploads::uploads_wait_for_the_operations_that_read_their_array";
    // A copy runs at once, and operations only when something waits for them.
    if is_own_process(TEST, &[("FAKE_CUDA_ORDER", "early")]) {
        check(&fake::open(Precision::Float32));
    }
}

#[test]
fn page_locked_memory_is_reused_only_after_its_copy() {
    const TEST: &str = "uploads::page_locked_memory_is_reused_only_after_its_copy";
    if !is_own_process(TEST, &[("FAKE_CUDA_ORDER", "late"), ("FAKE_CUDA_MEMORY_MB", "512")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    let arrays: Vec<_> = (0..40).map(|value| gpu.upload(&vec![value as f32; SIZE]).unwrap()).collect();
    let copies: Vec<_> = arrays.iter().map(|array| gpu.read_back(array).unwrap()).collect();
    // Freed before its copy has run.
    drop(arrays);
    for (value, copy) in copies.iter().enumerate() {
        assert_eq!(copy.values().unwrap(), vec![value as f32; SIZE]);
    }
}

#[test]
fn rows_of_samples_on_the_gpu_are_a_batch() {
    let gpu = fake::open(Precision::Float32);
    let x = numbers(7 * 5, 1);
    let on_gpu = gpu.upload(&x).unwrap();
    let y = gpu.array(4 * 5).unwrap();
    let rows = [6, 0, 3, 3];
    gpu.gather_rows(&on_gpu, &rows, 5, &y).unwrap();
    let expected: Vec<f32> = rows.iter().flat_map(|row| x[*row as usize * 5..][..5].to_vec()).collect();
    assert_eq!(gpu.download(&y).unwrap(), expected);
    let error = gpu.gather_rows(&on_gpu, &[7], 5, &y).unwrap_err().to_string();
    assert!(error.contains("gather_rows: expected rows below 7, found 7"), "{error}");
    assert!(gpu.gather_rows(&on_gpu, &[0; 5], 5, &y).is_err());
}

#[test]
fn a_network_computes_the_same_when_the_driver_delays_its_work() {
    const TEST: &str = "uploads::a_network_computes_the_same_when_the_driver_delays_its_work";
    if is_own_process(TEST, &[("FAKE_CUDA_ORDER", "late"), ("FAKE_CUDNN_CHOICES", "default")]) {
        super::network::check_all_gradients();
    }
}
