//! ONNX files of PyTorch and Keras become trainable models (`tests/fixtures/onnx_torch.py`, `onnx_keras.py`).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use headstart::candle_core::Var;
use headstart::prelude::*;

/// Largest difference, relative to the largest expected value: rounding of f32 in networks of some ten layers.
const TOLERANCE: f32 = 2e-5;

const TORCH: [&str; 12] = [
    "resnet",
    "resnet_folded",
    "resnet_new",
    "mobilenet",
    "mobilenet_new",
    "efficientnet",
    "efficientnet_new",
    "convnext",
    "densenet",
    "squeezenet",
    "odd",
    "odd_new",
];

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

pub fn known(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder().join(name), &device()).unwrap()
}

pub fn import(name: &str) -> HeadstartResult<Model> {
    Model::from_onnx(folder().join(name).with_extension("onnx"))
}

fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    far.fold(0f32, |most, difference| if difference.is_nan() { f32::NAN } else { most.max(difference) })
        / largest
}

pub fn assert_near(what: &str, found: &Tensor, expected: &Tensor) {
    let found = difference(found, expected);
    println!("{what:<60} {found:.1e}");
    assert!(found < TOLERANCE, "{what}: {found}");
}

/// Compares outputs and gradients with the fixture, with the statistics in inference mode.
pub fn check_torch(fixture: &HashMap<String, Tensor>, name: &str) {
    let known = |part: &str| &fixture[&format!("{name}.{part}")];
    let model = import(&format!("torch_{name}")).unwrap();
    assert_near(name, &model.forward(known("x"), Mode::Inference).unwrap(), known("y"));
    model
        .params()
        .iter()
        .filter(|param| param.is_statistic())
        .for_each(|param| param.set_inference_mode(true));
    let x = Var::from_tensor(known("x")).unwrap();
    let loss = || (model.forward(&x, Mode::Training)? * known("w"))?.sum_all().map_err(Into::into);
    let (_, gradients) = headstart::ops::value_and_gradients(loss).unwrap();
    assert_near(&format!("{name}, gradient of the input"), gradients.get(&x).unwrap(), known("gx"));
    for param in model.trainable_params() {
        assert!(gradients.get(param.var()).is_some(), "{name}: no gradient of {param:?}");
    }
    let start = format!("{name}.g.");
    for (key, expected) in fixture.iter().filter_map(|(key, value)| Some((key.strip_prefix(&start)?, value)))
    {
        let (layer, part) = key.rsplit_once('.').unwrap_or(("", key));
        // ConvNeXt's factors have no layer of their own in PyTorch.
        if part == "layer_scale" {
            continue;
        }
        let layer = model.layer(layer).unwrap_or_else(|error| panic!("{name}: no layer for {key}: {error}"));
        let has_name = |param: &headstart::nn::Param| match part {
            "weight" => ["kernel", "gamma"].contains(&param.name()),
            "bias" => ["bias", "beta"].contains(&param.name()),
            part => param.name() == part,
        };
        let param = layer.params().into_iter().find(has_name).unwrap();
        let found = gradients.get(param.var()).unwrap().reshape(expected.shape()).unwrap();
        assert_near(&format!("{name}, gradient of {key}"), &found, expected);
    }
}

#[test]
fn exports_of_torch_match_onnxruntime_and_torch() {
    let fixture = known("torch.safetensors");
    TORCH.iter().for_each(|name| check_torch(&fixture, name));
}

fn keras_files() -> Vec<(String, HashMap<String, Tensor>)> {
    let known = known("keras_tensorflow.safetensors");
    let names = known.keys().filter_map(|key| key.strip_suffix(".x"));
    names.map(|name| (name.to_owned(), known.clone())).collect()
}

#[test]
fn exports_of_keras_match_onnxruntime() -> HeadstartResult<()> {
    for (name, known) in keras_files() {
        let model = import(&format!("keras_{name}"))?;
        let x = &known[&format!("{name}.x")];
        assert_eq!(model.input_shape(), &x.dims()[1..], "{name}: the images are channels first");
        assert_near(&name, &model.forward(x, Mode::Inference)?, &known[&format!("{name}.y")]);
    }
    Ok(())
}

#[test]
fn transpositions_that_cancel_leave_no_layer() -> HeadstartResult<()> {
    for name in ["resnet", "mobilenet", "efficientnet"] {
        let model = import(&format!("keras_{name}"))?;
        let names = model.summary().rows.iter().map(|row| row.kind).collect::<Vec<_>>();
        assert!(!names.contains(&"Permute"), "{name}: {names:?}");
    }
    let model = import("torch_mobilenet_new")?;
    let kinds: Vec<&str> = model.summary().rows.iter().map(|row| row.kind).collect();
    // Hard-swish, squeeze and excitation, and pooling are one layer each, whatever their operators.
    for kind in ["Rescaling", "Permute", "Affine"] {
        assert!(!kinds.contains(&kind), "{kinds:?}");
    }
    Ok(())
}

/// Exports a model, imports it and compares the outputs.
pub fn check_round_trip(name: &str, model: &Model) -> HeadstartResult<Model> {
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("again.onnx");
    model.export_onnx(&path)?;
    let again = Model::from_onnx(&path)?;
    let x = random_uniform([&[2], model.input_shape()].concat(), -1.0, 1.0)?;
    let (expected, found) = (model.forward(&x, Mode::Inference)?, again.forward(&x, Mode::Inference)?);
    assert_near(&format!("{name}, exported and imported"), &found, &expected);
    assert_eq!(again.summary().total, model.summary().total, "{name}");
    Ok(again)
}

#[test]
fn imported_models_are_exported_again() -> HeadstartResult<()> {
    for name in TORCH {
        check_round_trip(name, &import(&format!("torch_{name}"))?)?;
    }
    for (name, _) in keras_files() {
        check_round_trip(&name, &import(&format!("keras_{name}"))?)?;
    }
    Ok(())
}

#[test]
fn own_exports_are_imported_with_their_names() -> HeadstartResult<()> {
    let small =
        |name: &str| Network::named(name, Weights::Random(1))?.alpha(0.25).input_shape((3, 32, 32)).build();
    let resnet = ResNet50::new(Weights::Demo).build()?;
    let again = check_round_trip("resnet50", &resnet)?;
    assert_eq!(
        again.up_to("conv4_block6_out")?.output_shape(),
        resnet.up_to("conv4_block6_out")?.output_shape()
    );
    let names = again.layer_names();
    for name in resnet.layer_names().iter().skip(1) {
        assert!(names.contains(name), "`{name}` is not in {names:?}");
    }
    let vgg = check_round_trip("vgg16", &Vgg16::new(Weights::Demo).build()?)?;
    assert_eq!(vgg.up_to("block5_conv1")?.output_shape(), [128, 4, 4]);
    for name in ["efficientnet_b0", "mobilenetv3_large_100", "convnext_atto", "regnety_002", "densenet121"] {
        check_round_trip(name, &small(name)?)?;
    }
    let pools = sequential![
        Input::new((3, 21, 18)),
        Conv2D::new(4, 3).strides(2).padding(Padding::Same).activation(Activation::Silu),
        AveragePooling2D::new(3).strides(2).padding(Padding::Same),
        GroupNormalization::new(2),
        Affine::default().scale(false),
        MaxPooling2D::new(2).padding(Padding::Same),
        Rescaling::new(0.5).offset(0.1),
        GlobalMaxPooling2D,
        Affine::default().axis(-1),
        Dense::new(5).use_bias(false).activation(Tanh)
    ]?;
    let again = check_round_trip("pools", &pools)?;
    let kinds = |model: &Model| model.summary().rows.iter().map(|row| row.kind).collect::<Vec<_>>();
    assert!(kinds(&again).contains(&"GroupNormalization"), "{:?}", kinds(&again));
    Ok(())
}

#[test]
fn an_imported_model_is_fine_tuned_with_a_new_head() -> HeadstartResult<()> {
    let known = known("torch.safetensors");
    let x = &known["resnet.x"];
    let whole = import("torch_resnet")?;
    let features =
        whole.summary().rows.iter().rev().find(|row| row.kind == "GlobalAveragePooling2D").cloned();
    let trunk = whole.up_to(&*features.expect("the network has global pooling").name)?;
    trunk.freeze();
    let mut model = sequential![trunk, Dense::new(2).activation(Softmax)]?;
    assert_eq!(model.summary().trainable, 20 * 2 + 2);
    let y = Tensor::new(&[0u32, 1], &device())?;
    model.compile(Adam::new(0.01), SparseCategoricalCrossentropy, []);
    let fit = || Fit::epochs(15).verbose(false).chart(false).advice(false);
    let history = model.fit((x, &y), fit())?;
    assert!(history["loss"][14] < history["loss"][0]);
    // Fine-tuning of the last stage.
    let kernel = model.layer("layer4.0.conv2")?.params()[0].clone();
    let before = kernel.value(Mode::Inference).copy()?;
    model.unfreeze_from("layer4.0.conv2")?;
    model.fit((x, &y), fit())?;
    assert!(difference(&kernel.value(Mode::Inference), &before) > 1e-4);
    // Both phases in one call.
    model.compile(Adam::new(0.01), SparseCategoricalCrossentropy, []);
    let short = || Fit::epochs(1).verbose(false).chart(false).advice(false);
    assert_eq!(model.fine_tune((x, &y), "layer4.0.conv2", short(), short())?.epochs(), 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuned.safetensors");
    model.save(&path)?;
    assert_eq!(Model::load(&path)?.predict(x)?, model.predict(x)?);
    check_round_trip("tuned", &model)?;
    Ok(())
}

/// A copy of a fixture with changed bytes.
pub fn changed(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.onnx");
    let bytes = fs::read(self::folder().join(name).with_extension("onnx")).unwrap();
    fs::write(&path, change(bytes)).unwrap();
    (folder, path)
}

pub fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&at| &bytes[at..at + from.len()] == from).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| bytes[at..at + to.len()].copy_from_slice(to));
    bytes
}

#[test]
fn errors_name_the_node_and_the_operator() {
    let (_folder, path) = changed("torch_mobilenet", |bytes| replaced(bytes, b"HardSigmoid", b"HardSigmoiX"));
    let error = Model::from_onnx(&path).unwrap_err().to_string();
    for part in ["changed.onnx", "node ", "HardSigmoiX", "supported are Add, "] {
        assert!(error.contains(part), "{error}");
    }
    let missing = Model::from_onnx("no such file.onnx").unwrap_err().to_string();
    assert!(missing.contains("no such file.onnx"), "{missing}");
    let text = tempfile::NamedTempFile::new().unwrap();
    for content in [&b""[..], b"<!DOCTYPE html>", b"\x08\x08", &[0xff; 40]] {
        fs::write(text.path(), content).unwrap();
        let error = Model::from_onnx(text.path()).unwrap_err().to_string();
        assert!(error.contains("no ONNX file, or it is damaged"), "{error}");
    }
}

#[test]
fn external_values_are_read_from_the_same_folder_only() -> HeadstartResult<()> {
    let (known, name) = (known("torch.safetensors"), "torch_external");
    let expected = &known["external.y"];
    assert_near(name, &import(name)?.forward(&known["external.x"], Mode::Inference)?, expected);
    let (folder, path) = changed(name, |bytes| bytes);
    let error = Model::from_onnx(&path).unwrap_err().to_string();
    assert!(error.contains("torch_external.data") && error.contains("no such file"), "{error}");
    let data = fs::read(self::folder().join("torch_external.data")).unwrap();
    fs::write(folder.path().join("torch_external.data"), &data[..data.len() - 1]).unwrap();
    let error = Model::from_onnx(&path).unwrap_err().to_string();
    assert!(error.contains("found a file of"), "{error}");
    for other in [b"../h_external.data", b"/rch_external.data"] {
        let (_folder, path) = changed(name, |bytes| replaced(bytes, &b"torch_external.data"[..18], other));
        let error = Model::from_onnx(&path).unwrap_err().to_string();
        assert!(error.contains("within the folder"), "{error}");
    }
    Ok(())
}

#[test]
fn damaged_files_are_errors() {
    for name in ["torch_mobilenet", "torch_odd", "torch_squeezenet"] {
        let whole = fs::read(folder().join(name).with_extension("onnx")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in (0..whole.len()).step_by(whole.len() / 60 + 1) {
            fs::write(file.path(), &whole[..length]).unwrap();
            assert!(Model::from_onnx(file.path()).is_err(), "{name}, the first {length} bytes");
        }
        // A changed byte of a name, attribute or shape can be an error; one of a value is not.
        let mut refused = 0;
        for place in (0..whole.len()).step_by(whole.len() / 400 + 1) {
            for value in [0u8, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                fs::write(file.path(), &bytes).unwrap();
                refused += usize::from(Model::from_onnx(file.path()).is_err());
            }
        }
        assert!(refused > 0, "{name}: every damaged file was accepted");
    }
}
