//! Errors for invalid input name what was expected, what was found, where, and what to do.

use std::fs;
use std::path::Path;

use headstart::prelude::*;
use headstart::{Error, Result};

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn unknown_layer_errors_list_the_known_layers() {
    let base = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build().unwrap();
    let message = message(base.unfreeze_from("block5_conv9"));
    assert_says(
        &message,
        &["`block5_conv9`", "`vgg16`", "block1_conv1, block1_conv2", "did you mean `block5_conv"],
    );
    assert_eq!(base.trainable_params().len(), 26);
    // Keras's count includes the input layer.
    let layers = base.layer_names().len() as i32 + 1;
    for place in [layers, -layers - 1] {
        let problem = self::message(base.unfreeze_from(place));
        let expected = format!("an index from {} to {}", -layers, layers - 1);
        assert_says(&problem, &[&expected, &format!("found {place}")]);
    }
}

#[test]
fn layers_can_be_given_by_index() {
    let base = Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build().unwrap();
    base.freeze();
    // Keras's `layers[-4:]`: three convolutions with two parameters each, and the pooling.
    base.unfreeze_from(-4).unwrap();
    assert_eq!(base.trainable_params().len(), 6);
    base.freeze_until(17).unwrap();
    assert!(base.trainable_params().is_empty());
}

#[test]
fn weight_errors_name_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device()).unwrap();
    let tensors = [("features.0.weight", tensor(&[64, 3, 7, 7])), ("features.0.bias", tensor(&[64]))];
    candle_core::safetensors::save(&tensors.into_iter().collect(), &path).unwrap();
    let build = |weights| Vgg16::new(weights).include_top(false).input_shape((3, 32, 32)).build();
    let text = message(build(Weights::file(&path)));
    assert_says(&text, &["other.safetensors", "vgg16", "expected shape [64, 3, 3, 3], found [64, 3, 7, 7]"]);
    assert_says(
        &text,
        &["`features.2.weight` (block1_conv2) is missing", "and 19 more", "there are 2 tensors"],
    );
    fs::write(&path, b"not a tensor file").unwrap();
    assert_says(
        &message(build(Weights::file(&path))),
        &["other.safetensors", "expected a .safetensors, .pth, .h5 or .keras file", "not a ten"],
    );
    let nowhere = folder.path().join("nowhere.safetensors");
    assert!(matches!(build(Weights::file(&nowhere)), Err(Error::Io { path, .. }) if path == nowhere));
}

#[test]
fn damaged_images_and_empty_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| Images::from_directory(path, (16, 16));
    assert_says(&message(load(folder.path())), &["expected one folder per class", "cats/1.jpg"]);
    draw_demo_images(folder.path(), 3, 24, 0).unwrap();
    assert_eq!(load(folder.path()).unwrap().x.dims(), [6, 3, 16, 16]);
    let image = folder.path().join("cats/001.png");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    assert_says(&message(load(folder.path())), &["001.png", "cannot be read"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_says(&message(load(folder.path())), &["`empty`", "no .jpg"]);
}

#[test]
fn out_of_range_labels_are_rejected_and_the_model_stays_usable() {
    let mut model = sequential![Input::new(4), Dense::new(3).activation(Softmax)].unwrap();
    let x = Tensor::zeros((2, 4), DType::F32, &device()).unwrap();
    let good = Tensor::new(&[0u32, 2], &device()).unwrap();
    let bad = Tensor::new(&[0u32, 3], &device()).unwrap();
    let fit = || Fit::epochs(1).verbose(false);
    assert_says(&message(model.fit((&x, &good), fit())), &["not compiled", "model.compile("]);
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    assert_says(
        &message(model.fit((&x, &bad), fit())),
        &["class numbers from 0 to 2", "the value 3", "3 outputs"],
    );
    model.fit((&x, &good), fit()).unwrap();
}

#[test]
fn one_hot_targets_get_the_hint_that_fits_the_model() -> Result<()> {
    let x = random_uniform((4, 2), 0.0, 1.0)?;
    let y = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &device())?;
    let mut model = sequential![Input::new(2), Dense::new(2).activation(Softmax)]?;
    model.compile(SGD::new(1e-3), SparseCategoricalCrossentropy, []);
    assert_says(&message(model.evaluate(&x, &y)), &["take CategoricalCrossentropy"]);
    let mut model = sequential![Input::new(2), Dense::new(1).activation(Sigmoid)]?;
    model.compile(SGD::new(1e-3), BinaryCrossentropy, []);
    assert_says(&message(model.evaluate(&x, &y)), &["one output", "argmax(1)"]);
    Ok(())
}

#[test]
fn preprocessing_errors_explain_the_fix() -> Result<()> {
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    for (shape, hint) in [([2usize, 64, 64, 3], "permute"), ([2, 1, 64, 64], "repeat")] {
        let images = Tensor::zeros(&shape, DType::F32, &device())?;
        assert_says(&message(base.preprocess(&images)), &[hint]);
    }
    let image = Tensor::zeros((3, 64, 64), DType::F32, &device())?;
    assert_says(&message(base.preprocess(&image)), &["unsqueeze(0)"]);
    Ok(())
}

#[test]
fn shape_errors_explain_the_fix() {
    let model = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1)].unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &device()).unwrap();
    assert_says(&message(model.predict(&zeros(&[1, 8, 8, 3]))), &["[batch, 3, 8, 8]", "channels first"]);
    assert_says(&message(model.predict(&zeros(&[3, 8, 8]))), &["unsqueeze(0)"]);
    assert_says(&message(sequential![Input::new((3, 8, 8)), Dense::new(1)]), &["dense", "Flatten"]);
    let hwc = Vgg16::new(Weights::Random(0)).input_shape((224, 224, 3)).build();
    assert_says(&message(hwc), &["input_shape", "channels first"]);
}

#[test]
fn a_nan_loss_ends_training() {
    let mut model = sequential![Input::new(1), Dense::new(1).activation(Sigmoid)].unwrap();
    model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
    let x = Tensor::new(&[[f32::NAN], [1.0]], &device()).unwrap();
    let y = Tensor::new(&[0f32, 1.0], &device()).unwrap();
    let message = message(model.fit((&x, &y), Fit::epochs(2).verbose(false)));
    assert_says(&message, &["epoch 1, batch 1", "NaN in the data"]);
    let finite = Tensor::new(&[[0f32], [1.0]], &device()).unwrap();
    assert!(model.predict(&finite).unwrap()[0][0].is_finite());
}
