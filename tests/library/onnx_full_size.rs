//! Networks of published sizes are imported: `tests/fixtures/onnx_full_size.py` writes them into a folder, which
//! `HEADSTART_ONNX_FOLDER` names.

use std::fs;
use std::path::PathBuf;

use headstart::candle_core::Var;
use headstart::prelude::*;

/// Largest difference, relative to the largest expected value: rounding of f32 in networks of a hundred layers.
const TOLERANCE: f32 = 1e-4;

fn difference(found: &Tensor, expected: &Tensor) -> HeadstartResult<f32> {
    let largest = expected.abs()?.max_all()?.to_scalar::<f32>()?;
    Ok(super::parity::farthest(found, expected)? / largest)
}

/// Differences of the output and of the gradient of the input.
fn compare(path: &std::path::Path) -> HeadstartResult<(f32, Option<f32>)> {
    let known = candle_core::safetensors::load(path.with_extension("safetensors"), &device())?;
    let model = Model::from_onnx(path)?;
    let output = difference(&model.forward(&known["x"], Mode::Inference)?, &known["y"])?;
    let (Some(factors), Some(expected)) = (known.get("w"), known.get("gx")) else {
        return Ok((output, None));
    };
    model
        .params()
        .iter()
        .filter(|param| param.is_statistic())
        .for_each(|param| param.set_inference_mode(true));
    let x = Var::from_tensor(&known["x"])?;
    let (_, gradients) =
        value_and_gradients(|| Ok((model.forward(&x, Mode::Training)? * factors)?.sum_all()?))?;
    Ok((output, Some(difference(gradients.get(&x).expect("a gradient"), expected)?)))
}

#[test]
#[ignore = "needs the files of tests/fixtures/onnx_full_size.py"]
fn full_size_networks_match_onnxruntime_and_pytorch() {
    let folder = PathBuf::from(std::env::var_os("HEADSTART_ONNX_FOLDER").expect("HEADSTART_ONNX_FOLDER"));
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    let mut failed = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let result = compare(path);
        println!("{name:<24} {result:?}");
        let fits = result.is_ok_and(|(output, gradient)| {
            output < TOLERANCE && gradient.is_none_or(|gradient| gradient < TOLERANCE)
        });
        if !fits {
            failed.push(name);
        }
    }
    assert!(!files.is_empty() && failed.is_empty(), "{failed:?} of {} files", files.len());
}
