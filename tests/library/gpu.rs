//! The GPU path on a fake driver (`gpu/tests/fake`) computes the same results as the CPU path.
//!
//! A process uses one device, so the tests start this program again with `HEADSTART_DEVICE=gpu`.

#[path = "../../gpu/tests/fake/mod.rs"]
pub(crate) mod fake;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use headstart::Result;
use headstart::prelude::*;

use crate::parity::draw;

/// Environment variable with the file that a test in a separate process writes.
pub(crate) const RESULTS_VARIABLE: &str = "HEADSTART_TEST_RESULTS";

/// Runs tests of this program on the fake GPU, with environment variables.
pub(crate) fn run_on_gpu(arguments: &[&str], results: Option<&Path>, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).args(["--nocapture", "--test-threads=2"]);
    // The CPU path computes in float32.
    command
        .env("HEADSTART_DEVICE", "gpu")
        .env("HEADSTART_PRECISION", "float32")
        .envs(variables.iter().copied());
    // Another way that a test can choose, on the CPU.
    command.env_remove("HEADSTART_TEST_DEVICE_PATH");
    if !fake::is_real() {
        command.env("HEADSTART_CUDA_LIBRARIES", fake::folder());
    }
    if let Some(results) = results {
        command.env(RESULTS_VARIABLE, results);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    let gpu = if fake::is_real() { "models run on" } else { "models run on Fake GPU (sm_90, " };
    assert!(said.contains(gpu), "{said}");
    output
}

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.safetensors", std::process::id()))
}

pub(crate) fn drawn(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(draw(seed, shape), shape, &device()).unwrap().affine(2.0, -1.0).unwrap()
}

/// Side of the images. The last feature maps of the networks have 2 x 2 pixels, so that the statistics of a batch are
/// well conditioned.
const SIDE: usize = 64;
const SAMPLES: usize = 6;

/// The networks, each with a head of known weights.
pub(crate) fn networks() -> Result<Vec<(&'static str, Model)>> {
    let shape = |network: headstart::models::Network| {
        network.include_top(false).input_shape((3, SIDE, SIDE)).alpha(0.125).drop_connect_rate(0.0).build()
    };
    let vgg16 = shape(Vgg16::new(Weights::Random(1)))?;
    let resnet50 = shape(ResNet50::new(Weights::Random(2)))?;
    let efficientnet = shape(EfficientNetB0::new(Weights::Random(3)))?;
    let mut networks = Vec::new();
    for (name, base) in [("vgg16", vgg16), ("resnet50", resnet50), ("efficientnet", efficientnet)] {
        let model = sequential![
            &base,
            GlobalAveragePooling2D,
            Dense::new(4).activation(Relu),
            Dense::new(3).activation(Softmax)
        ]?;
        for (seed, layer) in ["dense", "dense_1"].iter().enumerate() {
            let kernel = &model.layer(layer)?.params()[0];
            kernel.set(&drawn(seed as u64, kernel.value(Mode::Inference).dims()))?;
        }
        networks.push((name, model));
    }
    Ok(networks)
}

pub(crate) fn data() -> Result<(Tensor, Tensor)> {
    let classes: Vec<u32> = (0..SAMPLES as u32).map(|sample| sample % 3).collect();
    Ok((drawn(100, &[SAMPLES, 3, SIDE, SIDE]), Tensor::from_vec(classes, SAMPLES, &device())?))
}

/// What each network computes: outputs, the change of each parameter in one step, and the values of a longer training.
fn results() -> Result<HashMap<String, Tensor>> {
    let (x, y) = data()?;
    let mut results = HashMap::new();
    let fit = |epochs| Fit::epochs(epochs).batch_size(SAMPLES).shuffle(false).verbose(false).advice(false);
    for (name, mut model) in networks()? {
        let mut keep = |what: &str, value: Tensor| results.insert(format!("{name}/{what}"), value);
        keep("forward", model.forward(&x, Mode::Inference)?);
        let values = |model: &Model| -> Result<Vec<Tensor>> {
            model.params().iter().map(|param| Ok(param.value(Mode::Inference).copy()?)).collect()
        };
        let before = values(&model)?;
        model.compile(SGD::new(1e-2).clipnorm(1.0), SparseCategoricalCrossentropy, [Accuracy]);
        model.fit((&x, &y), fit(1))?;
        for (index, (after, before)) in values(&model)?.iter().zip(&before).enumerate() {
            let change = format!("change of {index} {}", model.params()[index].name());
            keep(&change, (after - before)?);
            model.params()[index].set(before)?;
        }
        // Small steps, because the rounding errors of a network with batch normalisation grow with each step.
        let adam = Adam::new(1e-5).epsilon(1e-2).weight_decay(1e-2).global_clipnorm(1.0);
        model.compile(adam, SparseCategoricalCrossentropy.label_smoothing(0.1), [Accuracy]);
        // Two calls: the second continues with the optimizer's state.
        for part in 0..2 {
            let history = model.fit((&x, &y), fit(2).validation_data((&x, &y)))?;
            for column in ["loss", "accuracy", "val_loss"] {
                let values: Vec<f32> = history[column].iter().map(|value| *value as f32).collect();
                keep(&format!("training {part} {column}"), Tensor::new(values, &device())?);
            }
        }
        keep("evaluate", Tensor::new(&[model.evaluate(&x, &y)?["loss"] as f32], &device())?);
    }
    Ok(results)
}

#[test]
#[ignore = "started by networks_agree_with_the_cpu_path in a process of its own"]
fn write_results() -> Result<()> {
    candle_core::safetensors::save(&results()?, std::env::var_os(RESULTS_VARIABLE).unwrap())?;
    Ok(())
}

#[test]
fn networks_agree_with_the_cpu_path() -> Result<()> {
    let file = file("networks");
    run_on_gpu(&["--exact", "gpu::write_results", "--ignored"], Some(&file), &[]);
    let found = candle_core::safetensors::load(&file, &device())?;
    std::fs::remove_file(&file).unwrap();
    let expected = results()?;
    assert_eq!(found.len(), expected.len());
    let (mut failures, mut of_resnet50) = (Vec::new(), Vec::new());
    for (name, expected) in &expected {
        let expected = expected.flatten_all()?;
        let difference = (found[name].flatten_all()? - &expected)?;
        // Some gradients are zero except for rounding errors: those of a shift before a batch normalisation.
        let most = |values: &Tensor| -> Result<f32> { Ok(values.abs()?.max(0)?.to_scalar::<f32>()?) };
        let length =
            |values: &Tensor| -> Result<f32> { Ok(values.sqr()?.mean(0)?.to_scalar::<f32>()?.sqrt()) };
        let (distance, tolerance) = match name.starts_with("resnet50/change") {
            false => (most(&difference)? / most(&expected)?.max(1e-4), 1e-3),
            // A rounding error can move a value across the kink of a ReLU. Behind a batch normalisation of few values,
            // this changes single values of the gradients of all layers before it.
            true => {
                let distance = length(&difference)? / length(&expected)?.max(1e-4);
                of_resnet50.push(distance);
                (distance, 0.1)
            }
        };
        if distance > tolerance {
            failures.push(format!("{name}: a relative distance of {distance} from the CPU's values"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    of_resnet50.sort_by(f32::total_cmp);
    assert!(of_resnet50[of_resnet50.len() / 2] < 0.02, "{of_resnet50:?}");
    Ok(())
}

/// The launches of the fake driver so far in this process.
fn launches() -> u64 {
    of_driver(c"fake_cuda_launches")
}

/// The result of a function of the fake driver.
pub(crate) fn of_driver(function: &CStr) -> u64 {
    of_driver_with(function, c"")
}

/// The result of a function of the fake driver that takes a name, or nothing.
pub(crate) fn of_driver_with(function: &CStr, name: &CStr) -> u64 {
    let path = CString::new(fake::folder().join("libcuda.so.1").to_str().unwrap()).unwrap();
    // SAFETY: the strings end with a zero byte. The function returns an unsigned long. One that takes nothing ignores the
    // argument, which the caller's convention passes in a register.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(library, function.as_ptr());
        assert!(!function.is_null());
        type Function = extern "C" fn(*const libc::c_char) -> libc::c_ulong;
        std::mem::transmute::<*mut libc::c_void, Function>(function)(name.as_ptr())
    }
}

#[test]
#[ignore = "started by a_training_step_of_resnet50_is_few_launches in a process of its own"]
fn count_launches() -> Result<()> {
    let mut model = ResNet50::new(Weights::Random(1)).classes(1000).input_shape((3, 32, 32)).build()?;
    model.compile(SGD::new(1e-3).momentum(0.9), SparseCategoricalCrossentropy, [Accuracy]);
    let mut of = |batches: usize| -> Result<u64> {
        let (x, y) =
            (drawn(1, &[2 * batches, 3, 32, 32]), Tensor::zeros(2 * batches, DType::U32, &device())?);
        let before = launches();
        model.fit((&x, &y), Fit::epochs(1).batch_size(2).verbose(false).advice(false))?;
        Ok(launches() - before)
    };
    // The rest of a training, such as the copies of the weights, does not depend on the number of steps.
    of(1)?;
    let step = of(2)? - of(1)?;
    println!("launches of a step: {step}");
    assert!((300..=600).contains(&step), "{step} launches");
    Ok(())
}

#[test]
fn a_training_step_of_resnet50_is_few_launches() {
    run_on_gpu(&["--exact", "gpu::count_launches", "--ignored"], None, &[]);
}

/// The losses of a training on cached features, and the bytes that are copied to the GPU in an epoch.
fn train_on_features() -> Result<HashMap<String, Tensor>> {
    const SAMPLES: usize = 200;
    let base = sequential![Input::new((3, 64, 64)), Conv2D::new(8, 3).padding(Padding::Same)]?;
    base.freeze();
    // Layers without parameters would be part of the frozen prefix.
    let windows = Conv2D::new(2, 8).strides(8).activation(Tanh);
    let mut model = sequential![&base, windows, Flatten, Dense::new(1)]?;
    for (seed, param) in model.params().iter().enumerate() {
        param.set(&drawn(seed as u64, param.value(Mode::Inference).dims()))?;
    }
    model.compile(Adam::new(1e-2), MeanSquaredError, []);
    let (x, y) = (drawn(1, &[SAMPLES, 3, 64, 64]), drawn(2, &[SAMPLES, 1]));
    let mut results = HashMap::new();
    let fit = |epochs| Fit::epochs(epochs).batch_size(32).shuffle(false).verbose(false).advice(false);
    let mut uploaded = Vec::new();
    // Features are cached for at least two epochs.
    for epochs in [2, 5] {
        let before = of_driver(c"fake_cuda_uploaded");
        let history = model.fit((&x, &y), fit(epochs))?;
        uploaded.push((of_driver(c"fake_cuda_uploaded") - before) as f32);
        let losses: Vec<f32> = history["loss"].iter().map(|loss| *loss as f32).collect();
        results.insert(format!("losses of {epochs}"), Tensor::new(losses, &device())?);
    }
    results.insert("uploaded".into(), Tensor::new((uploaded[1] - uploaded[0]) / 3.0, &device())?);
    Ok(results)
}

#[test]
#[ignore = "started by cached_features_stay_on_the_gpu_if_they_fit in a process of its own"]
fn write_training_on_features() -> Result<()> {
    candle_core::safetensors::save(&train_on_features()?, std::env::var_os(RESULTS_VARIABLE).unwrap())?;
    Ok(())
}

#[test]
fn cached_features_stay_on_the_gpu_if_they_fit() -> Result<()> {
    if fake::is_real() {
        return Ok(());
    }
    let run = |memory: &str, order: &str| -> Result<HashMap<String, Tensor>> {
        let file = file(&format!("features-{memory}{order}"));
        let arguments = ["--exact", "gpu::write_training_on_features", "--ignored"];
        run_on_gpu(&arguments, Some(&file), &[("FAKE_CUDA_MEMORY_MB", memory), ("FAKE_CUDA_ORDER", order)]);
        let results = candle_core::safetensors::load(&file, &device())?;
        std::fs::remove_file(&file).unwrap();
        Ok(results)
    };
    // The features have 26 MB. cuBLAS has 32 MiB, so less than half of 80 MiB is free.
    let (kept, uploaded) = (run("4096", "")?, run("80", "")?);
    let bytes = |results: &HashMap<String, Tensor>| results["uploaded"].to_scalar::<f32>();
    assert!(bytes(&kept)? < 1e5 && bytes(&uploaded)? > 2.6e7, "{} {}", bytes(&kept)?, bytes(&uploaded)?);
    // The results are the same, also if the driver delays its work.
    for other in [&uploaded, &run("4096", "late")?, &run("80", "late")?, &run("80", "early")?] {
        for name in ["losses of 2", "losses of 5"] {
            assert_eq!(kept[name].to_vec1::<f32>()?, other[name].to_vec1::<f32>()?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn training_on_the_gpu_matches_keras() {
    // The fixtures of Keras, on the GPU path.
    run_on_gpu(&["training::", "--skip", "gpu::"], None, &[]);
}

#[test]
#[ignore = "started by unsupported_models_stay_on_the_cpu in a process of its own"]
fn use_unknown_layers() -> Result<()> {
    let mut model = sequential![Input::new(4), Dense::new(3), LayerNormalization::default(), Dense::new(1)]?;
    let x = drawn(1, &[4, 4]);
    assert_eq!(model.predict(&x)?.len(), 4);
    model.predict(&x)?;
    model.compile(SGD::new(0.1), MeanSquaredError, []);
    model.fit((&x, &x.narrow(1, 0, 1)?), Fit::epochs(2).verbose(false).advice(false))?;
    let mut model = sequential![Input::new(4), Dense::new(1)]?;
    model.compile(SGD::new(0.1), Huber, []);
    model.fit((&x, &x.narrow(1, 0, 1)?), Fit::epochs(1).verbose(false).advice(false))?;
    Ok(())
}

#[test]
fn unsupported_models_stay_on_the_cpu() {
    let output = run_on_gpu(&["--exact", "gpu::use_unknown_layers", "--ignored"], None, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    let layer = "stays on the CPU: the GPU path has no layer LayerNormalization (`layer_normalization`)";
    assert_eq!(said.matches(layer).count(), 1, "{said}");
    assert!(said.contains("does not support its loss"), "{said}");
}

#[test]
fn a_gpu_that_cannot_be_used_gives_a_note_and_the_cpu() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "gpu::use_unknown_layers", "--ignored", "--nocapture"]);
    command.env("HEADSTART_DEVICE", "gpu:7").env("HEADSTART_CUDA_LIBRARIES", fake::folder());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("GPU 7: expected a number below 1") && said.contains("using the CPU"), "{said}");
}
