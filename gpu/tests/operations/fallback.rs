//! What happens on GPUs, drivers and versions of the libraries that lack something.

use headstart_gpu::{ConvShape, DenseShape, Gpu, Output, Precision};

use super::convolution::{self, PLAIN, tolerance};
use super::{assert_within, dot, doubles, fake, is_own_process, numbers};

const DRIVER: &str = "libcuda.so.1";

fn last_algorithm() -> i32 {
    fake::call("libcudnn.so.9", "fake_cudnn_last_algorithm")
}

/// Computes all directions of a convolution. Returns the algorithm of each.
fn algorithms(gpu: &Gpu, shape: &ConvShape) -> [i32; 3] {
    let mut found = [-1; 3];
    let tolerance = tolerance(gpu.precision());
    convolution::check(gpu, shape, tolerance, |direction| found[direction] = last_algorithm());
    found
}

#[test]
fn a_gpu_without_memory_pools_allocates_without_them() {
    const TEST: &str = "fallback::a_gpu_without_memory_pools_allocates_without_them";
    if !is_own_process(TEST, &[("FAKE_CUDA_POOLS", "0")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    algorithms(&gpu, &PLAIN);
    let (x, w) = (numbers(6, 1), numbers(12, 2));
    let expected: Vec<f64> = doubles(&x)
        .chunks(3)
        .flat_map(|row| doubles(&w).chunks(3).map(|of| dot(row, of)).collect::<Vec<_>>())
        .collect();
    let [x, w, y] = [gpu.upload(&x).unwrap(), gpu.upload(&w).unwrap(), gpu.array(8).unwrap()];
    gpu.dense(&x, &w, &y, DenseShape { rows: 2, inputs: 3, outputs: 4 }).unwrap();
    assert_within(&gpu.download(&y).unwrap(), &expected, 1e-6);
    assert!(gpu.array(1 << 40).unwrap_err().is_out_of_memory());
    drop((x, w, y, gpu));
    // Nothing is left, and the context is released.
    assert_eq!(fake::call(DRIVER, "fake_cuda_allocations"), 0);
    assert_eq!(fake::call(DRIVER, "fake_cuda_retained"), 0);
}

#[test]
fn a_gpu_that_cannot_be_opened_releases_everything() {
    const TEST: &str = "fallback::a_gpu_that_cannot_be_opened_releases_everything";
    // cuBLAS's workspace does not fit.
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "16")]) {
        return;
    }
    let error = Gpu::open(0, &fake::libraries(), Precision::Float32).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    assert_eq!(fake::call(DRIVER, "fake_cuda_allocations"), 0);
    assert_eq!(fake::call(DRIVER, "fake_cuda_retained"), 0);
}

#[test]
fn handles_are_destroyed_with_the_context_current() {
    const TEST: &str = "fallback::handles_are_destroyed_with_the_context_current";
    // The number of handles is that of the process.
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "512")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    let handles = || ["libcublas.so.13", "libcudnn.so.9"].map(|file| fake::call(file, "fake_handles"));
    assert_eq!(handles(), [1, 1]);
    // The context is current in the thread that opened the GPU only.
    std::thread::spawn(|| drop(gpu)).join().unwrap();
    assert_eq!(handles(), [0, 0]);
}

#[test]
fn a_gpu_that_is_newer_than_the_compiler_gets_ptx() {
    const TEST: &str = "fallback::a_gpu_that_is_newer_than_the_compiler_gets_ptx";
    if !is_own_process(TEST, &[("FAKE_CUDA_CAPABILITY", "103")]) {
        return;
    }
    // The fake driver of this capability loads PTX only.
    let gpu = fake::open(Precision::Float32);
    assert_eq!(gpu.architecture(), "sm_103");
    let array = gpu.upload(&[1.0, 2.0]).unwrap();
    gpu.affine(&array, &array, 3.0, 1.0, Output::Replace).unwrap();
    assert_eq!(gpu.download(&array).unwrap(), [4.0, 7.0]);
}

#[test]
fn a_gpu_that_is_too_old_for_the_compiler_is_refused() {
    const TEST: &str = "fallback::a_gpu_that_is_too_old_for_the_compiler_is_refused";
    if !is_own_process(TEST, &[("FAKE_CUDA_CAPABILITY", "70")]) {
        return;
    }
    let error = Gpu::open(0, &fake::libraries(), Precision::Float32).unwrap_err().to_string();
    assert!(error.contains("do not compile for sm_70"), "{error}");
}

#[test]
fn an_algorithm_that_fails_when_it_is_run_is_replaced() {
    const TEST: &str = "fallback::an_algorithm_that_fails_when_it_is_run_is_replaced";
    // The last algorithm is that of the process.
    if !is_own_process(TEST, &[("FAKE_CUDNN_CHOICES", "default")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    assert_eq!(algorithms(&gpu, &PLAIN), [1, 1, 1]);
    let gpu = fake::open(Precision::TensorFloat32);
    assert_eq!(algorithms(&gpu, &PLAIN), [5, 5, 5]);
}

#[test]
fn without_a_deterministic_choice_a_known_algorithm_runs() {
    const TEST: &str = "fallback::without_a_deterministic_choice_a_known_algorithm_runs";
    if !is_own_process(TEST, &[("FAKE_CUDNN_CHOICES", "none")]) {
        return;
    }
    for precision in [Precision::Float32, Precision::TensorFloat32, Precision::BFloat16] {
        assert_eq!(algorithms(&fake::open(precision), &PLAIN), [0, 1, 1], "{precision:?}");
    }
}

/// The number of convolutions with float values, and with bfloat16 values.
fn convolutions() -> [i32; 2] {
    ["fake_cudnn_float", "fake_cudnn_bfloat16"].map(|function| fake::call("libcudnn.so.9", function))
}

#[test]
fn without_an_algorithm_for_bfloat16_tensor_float_32_is_used() {
    const TEST: &str = "fallback::without_an_algorithm_for_bfloat16_tensor_float_32_is_used";
    if !is_own_process(TEST, &[("FAKE_CUDNN_CHOICES", "float")]) {
        return;
    }
    let gpu = fake::open(Precision::BFloat16);
    // The operands are rounded to bfloat16 in each case.
    convolution::check(&gpu, &PLAIN, tolerance(Precision::BFloat16), |_| ());
    assert_eq!(convolutions(), [5, 0]);
    assert_unsupported_is_known(&gpu);
}

/// cuDNN is not asked again, and is not tried in vain.
fn assert_unsupported_is_known(gpu: &Gpu) {
    let counts = || {
        ["fake_cudnn_queries", "fake_cudnn_attempts", "fake_cudnn_float"]
            .map(|function| fake::call("libcudnn.so.9", function))
    };
    let before = counts();
    convolution::check(gpu, &PLAIN, tolerance(Precision::BFloat16), |_| ());
    let [queries, attempts, convolutions] = [0, 1, 2].map(|at| counts()[at] - before[at]);
    assert_eq!((queries, attempts, convolutions), (0, 5, 5));
}

#[test]
fn an_algorithm_for_bfloat16_that_fails_when_it_is_run_is_replaced() {
    const TEST: &str = "fallback::an_algorithm_for_bfloat16_that_fails_when_it_is_run_is_replaced";
    if !is_own_process(TEST, &[("FAKE_CUDNN_CHOICES", "late")]) {
        return;
    }
    let gpu = fake::open(Precision::BFloat16);
    convolution::check(&gpu, &PLAIN, tolerance(Precision::BFloat16), |_| ());
    assert_eq!(convolutions(), [5, 0]);
    assert_unsupported_is_known(&gpu);
}

#[test]
fn a_gpu_before_ampere_computes_in_float32() {
    const TEST: &str = "fallback::a_gpu_before_ampere_computes_in_float32";
    if !is_own_process(TEST, &[("FAKE_CUDA_CAPABILITY", "75")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    assert_eq!(gpu.default_precision(), Precision::Float32);
    for precision in [Precision::TensorFloat32, Precision::BFloat16] {
        let error = gpu.set_precision(precision).unwrap_err().to_string();
        assert!(error.contains("compute capability 8.0 or later") && error.contains("sm_75"), "{error}");
        assert!(Gpu::open(0, &fake::libraries(), precision).is_err());
    }
    assert_eq!(gpu.precision(), Precision::Float32);
}

#[test]
fn a_gpu_from_ampere_on_computes_in_tensor_float_32() {
    const TEST: &str = "fallback::a_gpu_from_ampere_on_computes_in_tensor_float_32";
    if !is_own_process(TEST, &[("FAKE_CUDA_CAPABILITY", "80")]) {
        return;
    }
    assert_eq!(fake::open(Precision::Float32).default_precision(), Precision::TensorFloat32);
}

#[test]
fn a_workspace_is_at_most_one_gibibyte() {
    const TEST: &str = "fallback::a_workspace_is_at_most_one_gibibyte";
    // One eighth of the memory would be 8 GiB.
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "65536")]) {
        return;
    }
    assert_eq!(algorithms(&fake::open(Precision::Float32), &PLAIN), [1, 1, 1]);
}

#[test]
fn a_full_memory_takes_an_algorithm_with_a_smaller_workspace() {
    const TEST: &str = "fallback::a_full_memory_takes_an_algorithm_with_a_smaller_workspace";
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "128"), ("FAKE_CUDNN_CHOICES", "large")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    assert_eq!(algorithms(&gpu, &PLAIN), [4, 4, 4]);
    drop(gpu);
    // cuBLAS has 32 MiB, so that less than 12 MiB are left.
    let gpu = fake::open(Precision::Float32);
    let array = gpu.array(22 << 20).unwrap();
    assert_eq!(algorithms(&gpu, &PLAIN), [1, 1, 1]);
    drop(array);
    assert_eq!(algorithms(&gpu, &PLAIN), [1, 1, 1]);
}

#[test]
fn a_full_pool_of_page_locked_memory_keeps_its_largest_buffers() {
    const TEST: &str = "fallback::a_full_pool_of_page_locked_memory_keeps_its_largest_buffers";
    // The number of allocations is that of the process.
    if !is_own_process(TEST, &[("FAKE_CUDA_MEMORY_MB", "1024")]) {
        return;
    }
    let gpu = fake::open(Precision::Float32);
    let small = gpu.upload(&[1.0; 10]).unwrap();
    let copies: Vec<_> = (0..20).map(|_| gpu.read_back(&small).unwrap()).collect();
    drop(copies);
    let large = vec![0.5; 1 << 20];
    let array = gpu.upload(&large).unwrap();
    let before = fake::call(DRIVER, "fake_cuda_host_allocations");
    for _ in 0..3 {
        gpu.write(&array, &large).unwrap();
    }
    assert_eq!(fake::call(DRIVER, "fake_cuda_host_allocations"), before);
    assert_eq!(gpu.download(&array).unwrap(), large);
}
