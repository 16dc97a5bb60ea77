//! The precision of the GPU path: its default, its settings, and its results.

use std::collections::HashMap;

use headstart::Result;
use headstart::prelude::*;

use crate::gpu::{RESULTS_VARIABLE, data, drawn, fake, file, networks, run_on_gpu};

/// Says how a process with these environment variables computes on the fake GPU.
fn said(variables: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "gpu_precision::say_the_precision", "--ignored", "--nocapture"]);
    command.env("HEADSTART_DEVICE", "gpu").env("HEADSTART_CUDA_LIBRARIES", fake::folder());
    command.env_remove("HEADSTART_TEST_DEVICE_PATH").env_remove("HEADSTART_PRECISION");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let said =
        [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
#[ignore = "started by the_precision_is_that_of_the_environment in a process of its own"]
fn say_the_precision() {
    device();
    println!("precision: {:?}", gpu_precision());
}

#[test]
fn the_precision_is_that_of_the_environment() {
    const PRECISION: &str = "HEADSTART_PRECISION";
    const CAPABILITY: &str = "FAKE_CUDA_CAPABILITY";
    for (variables, expected) in [
        (&[][..], "TensorFloat32"),
        (&[(PRECISION, "float32")], "Float32"),
        (&[(PRECISION, "tf32")], "TensorFloat32"),
        (&[(PRECISION, "bfloat16")], "BFloat16"),
        // Before Ampere.
        (&[(CAPABILITY, "75")], "Float32"),
        (&[(CAPABILITY, "75"), (PRECISION, "bfloat16")], "Float32"),
    ] {
        let said = said(variables);
        // `device()` says it.
        let architecture = if variables.iter().any(|(name, _)| *name == CAPABILITY) { 75 } else { 90 };
        let note = format!("models run on Fake GPU (sm_{architecture}, {expected})");
        assert!(said.contains(&note) && said.contains(&format!("precision: Some({expected})")), "{said}");
    }
    let said_of_old = said(&[(CAPABILITY, "75"), (PRECISION, "bfloat16")]);
    assert!(
        said_of_old.contains("compute capability 8.0 or later for BFloat16, found sm_75"),
        "{said_of_old}"
    );
    let said_of_wrong = said(&[(PRECISION, "half")]);
    let note = "HEADSTART_PRECISION=half: expected float32, tf32 or bfloat16; using the CPU";
    assert!(said_of_wrong.contains(note) && said_of_wrong.contains("precision: None"), "{said_of_wrong}");
}

#[test]
fn without_a_gpu_there_is_no_precision_to_set() -> Result<()> {
    if std::env::var_os("HEADSTART_DEVICE").is_none() {
        assert_eq!(gpu_precision(), None);
        set_gpu_precision(GpuPrecision::BFloat16)?;
        assert_eq!(gpu_precision(), None);
    }
    Ok(())
}

#[test]
#[ignore = "started by a_cell_can_change_the_precision in a process of its own"]
fn change_the_precision() -> Result<()> {
    let (x, model) = (drawn(1, &[2, 3, 8, 8]), sequential![Input::new((3, 8, 8)), Conv2D::new(4, 3)]?);
    let mut outputs = Vec::new();
    for precision in
        [GpuPrecision::Float32, GpuPrecision::TensorFloat32, GpuPrecision::BFloat16, GpuPrecision::Float32]
    {
        set_gpu_precision(precision)?;
        assert_eq!(gpu_precision(), Some(precision));
        outputs.push(model.forward(&x, Mode::Inference)?.flatten_all()?.to_vec1::<f32>()?);
    }
    let distance =
        |other: &[f32]| outputs[0].iter().zip(other).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    let [tf32, bfloat16] = [distance(&outputs[1]), distance(&outputs[2])];
    assert!(tf32 > 0.0 && 2.0 * tf32 < bfloat16 && bfloat16 < 0.02, "{tf32} {bfloat16}");
    assert_eq!(outputs[0], outputs[3]);
    Ok(())
}

#[test]
fn a_cell_can_change_the_precision() {
    if !fake::is_real() {
        run_on_gpu(&["--exact", "gpu_precision::change_the_precision", "--ignored"], None, &[]);
    }
}

/// For each network its outputs, and the losses of two steps. The losses of sixty steps of a small network.
fn results() -> Result<HashMap<String, Tensor>> {
    let (x, y) = data()?;
    let fit = |epochs| Fit::epochs(epochs).batch_size(12).shuffle(false).verbose(false).advice(false);
    let losses = |history: &History| -> Result<Tensor> {
        let losses: Vec<f32> = history["loss"].iter().map(|loss| *loss as f32).collect();
        Ok(Tensor::new(losses, &device())?)
    };
    let mut results = HashMap::new();
    for (name, mut model) in networks()? {
        results.insert(format!("{name} outputs"), model.forward(&x, Mode::Inference)?);
        // Small steps, because the rounding errors of a network with batch normalisation grow with each step.
        model.compile(Adam::new(1e-5).epsilon(1e-2), SparseCategoricalCrossentropy, []);
        results.insert(format!("{name} losses"), losses(&model.fit((&x, &y), fit(2))?)?);
    }
    let mut model = sequential![
        Input::new((3, 16, 16)),
        Conv2D::new(8, 3).padding(Padding::Same).activation(Relu),
        MaxPooling2D::new(2),
        Conv2D::new(16, 3).padding(Padding::Same).activation(Relu),
        GlobalAveragePooling2D,
        Dense::new(3).activation(Softmax)
    ]?;
    for (seed, param) in model.params().iter().enumerate().filter(|(index, _)| index % 2 == 0) {
        param.set(&(drawn(seed as u64, param.value(Mode::Inference).dims()) * 0.3)?)?;
    }
    let classes: Vec<u32> = (0..12).map(|sample| sample % 3).collect();
    let (x, y) = (drawn(7, &[12, 3, 16, 16]), Tensor::from_vec(classes, 12, &device())?);
    model.compile(Adam::new(1e-2), SparseCategoricalCrossentropy, []);
    results.insert("small losses".into(), losses(&model.fit((&x, &y), fit(60))?)?);
    Ok(results)
}

#[test]
#[ignore = "started by lower_precisions_stay_near_float32 in a process of its own"]
fn write_results() -> Result<()> {
    candle_core::safetensors::save(&results()?, std::env::var_os(RESULTS_VARIABLE).unwrap())?;
    Ok(())
}

#[test]
fn lower_precisions_stay_near_float32() -> Result<()> {
    let expected = results()?;
    let losses = expected["small losses"].to_vec1::<f32>()?;
    assert!(losses[59] < 0.7 * losses[0], "{losses:?}");
    // The largest distances, relative to the largest value, in rounding errors of a factor. Batch normalisation amplifies
    // the errors of a training step most (35 times, measured).
    const OUTPUT_TOLERANCE: f32 = 4.0;
    const LOSS_TOLERANCE: f32 = 50.0;
    let mut failures = Vec::new();
    for (precision, bits) in [("tf32", 11), ("bfloat16", 8)] {
        let file = file(precision);
        let arguments = ["--exact", "gpu_precision::write_results", "--ignored"];
        run_on_gpu(&arguments, Some(&file), &[("HEADSTART_PRECISION", precision)]);
        let found = candle_core::safetensors::load(&file, &device())?;
        std::fs::remove_file(&file).unwrap();
        let mut total = 0f32;
        for (name, expected) in &expected {
            let most = |values: &Tensor| -> Result<f32> {
                Ok(values.flatten_all()?.abs()?.max(0)?.to_scalar::<f32>()?)
            };
            let distance = most(&(&found[name] - expected)?)? / most(expected)?;
            println!("{precision} {name}: {distance:.1e}");
            let errors = if name.ends_with("losses") { LOSS_TOLERANCE } else { OUTPUT_TOLERANCE };
            let tolerance = errors * 2f32.powi(-bits);
            if distance > tolerance {
                failures.push(format!("{precision} {name}: {distance}"));
            }
            total += distance;
        }
        // Another precision than float32 was used.
        assert!(total > 1e-4 || fake::is_real(), "{precision}: {total}");
    }
    assert!(failures.is_empty(), "{failures:?}");
    Ok(())
}
