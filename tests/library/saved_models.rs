//! Models and weights come back from their files as they were.

use std::path::{Path, PathBuf};

use headstart::Result;
use headstart::prelude::*;

use super::datasets::folder_of;
use super::parity::farthest;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn quiet(epochs: usize) -> Fit {
    Fit::epochs(epochs).verbose(false).chart(false).advice(false)
}

/// Both models are called `sequential`.
#[test]
fn nested_sequentials_are_saved_and_loaded() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nested.safetensors");
    let make = || -> Result<Model> {
        let inner = sequential![Input::new(3), Dense::new(4).activation(Relu)]?;
        sequential![&inner, Dense::new(4)]
    };
    let x = random_uniform((5, 3), -1.0, 1.0)?;
    let model = make()?;
    model.save_weights(&path)?;
    let again = make()?;
    again.load_weights(&path)?;
    assert_eq!(again.predict(&x)?, model.predict(&x)?, "weights");
    model.save(&path)?;
    assert_eq!(Model::load(&path)?.predict(&x)?, model.predict(&x)?, "whole");
    Ok(())
}

/// Keras's `get_weights` and `set_weights`. The values of `Param::value` are trained with the model.
#[test]
fn copied_weights_can_be_put_back_after_a_training() -> Result<()> {
    let (x, y) = (random_uniform((16, 4), -1.0, 1.0)?, random_uniform(16, 0.0, 1.0)?);
    let mut model = sequential![Input::new(4), BatchNormalization::default(), Dense::new(1)]?;
    let (before, kept) = (model.predict(&x)?, model.weights()?);
    let shared = model.layer("dense")?.params()[0].value(Mode::Inference);
    model.compile(SGD::new(0.1), MeanSquaredError, []);
    model.fit((&x, &y), quiet(3))?;
    assert_ne!(model.predict(&x)?, before);
    let problem = model.layer("dense")?.params()[0].set(&shared).unwrap_err().to_string();
    assert!(problem.contains("model.weights()?") && problem.contains("`kernel`"), "{problem}");
    model.set_weights(&kept)?;
    assert_eq!(model.predict(&x)?, before);
    // After an error no value is changed.
    let mut wrong = kept.iter().map(|value| Ok((value + 1.0)?)).collect::<Result<Vec<_>>>()?;
    wrong[5] = Tensor::zeros(3, DType::F32, &device())?;
    let problem = model.set_weights(&wrong).unwrap_err().to_string();
    assert!(
        problem.contains("tensor 5") && problem.contains("`bias`") && problem.contains("[3]"),
        "{problem}"
    );
    let problem = model.set_weights(&kept[1..]).unwrap_err().to_string();
    assert!(problem.contains("expected 6 tensors") && problem.contains("found 5"), "{problem}");
    assert_eq!(model.predict(&x)?, before);
    Ok(())
}

#[test]
fn skip_mismatch_does_not_exchange_nested_layers() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nested.safetensors");
    let make = || -> Result<Model> {
        let inner = sequential![Input::new(4), Dense::new(4)]?;
        sequential![&inner, Dense::new(4)]
    };
    let (x, model) = (random_uniform((5, 4), -1.0, 1.0)?, make()?);
    model.save_weights(&path)?;
    let again = make()?;
    again.load_weights_skip_mismatch(&path)?;
    assert_eq!(again.predict(&x)?, model.predict(&x)?);
    Ok(())
}

#[test]
fn networks_of_keras_keep_their_form_in_our_files() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    let network =
        |weights| EfficientNetB0::new(weights).alpha(1.0 / 16.0).input_shape((3, 64, 64)).include_top(false);
    let first = network(Weights::file(fixture("keras_efficientnetb0.h5"))).build()?;
    first.save_weights(&path)?;
    let x = random_uniform((2, 3, 64, 64), 0.0, 255.0)?;
    let second = network(Weights::file(&path)).build()?;
    let prepared = first.preprocess(&x)?;
    assert_eq!(second.predict(&prepared)?, first.predict(&prepared)?, "the network");
    assert!(farthest(&second.preprocess(&x)?, &prepared)? < 1e-4, "the preprocessing");
    Ok(())
}

#[test]
fn networks_of_keras_keep_their_preprocessing_in_our_files() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.safetensors");
    let network = |weights| Vgg16::new(weights).alpha(1.0 / 32.0).input_shape((3, 64, 64)).include_top(false);
    let first = network(Weights::file(fixture("keras_vgg16.h5"))).build()?;
    first.save_weights(&path)?;
    let x = random_uniform((2, 3, 64, 64), 0.0, 255.0)?;
    let second = network(Weights::file(&path)).build()?;
    assert!(farthest(&second.preprocess(&x)?, &first.preprocess(&x)?)? < 1e-4);
    Ok(())
}

#[test]
fn shared_layers_are_shared_after_load() -> Result<()> {
    let base = sequential![Input::new(3), Dense::new(2)]?;
    let mut builder = ModelBuilder::new("twice", &[3])?;
    let left = builder.add("left", &base, &[builder.input()])?;
    let right = builder.add("right", &base, &[builder.input()])?;
    let sum = builder.add("sum", Add, &[left, right])?;
    let model = builder.finish(sum)?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.safetensors");
    model.save(&path)?;
    let loaded = Model::load(&path)?;
    assert_eq!(loaded.summary().total, model.summary().total);
    assert_eq!(loaded.params().len(), model.params().len());
    Ok(())
}

#[test]
fn class_names_are_compared_after_load_and_compile() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    folder_of(&folder.path().join("train"), &["bird", "cat", "dog"]);
    folder_of(&folder.path().join("test"), &["bird", "dog"]);
    let train = ImageFiles::from_directory(folder.path().join("train"), (2, 2))?;
    let test = ImageFiles::from_directory(folder.path().join("test"), (2, 2))?;
    let mut model = sequential![Input::new((3, 2, 2)), Flatten, Dense::new(3).activation(Softmax)]?;
    model.compile(SGD::new(1e-6), SparseCategoricalCrossentropy, [Accuracy]);
    model.fit(&train, quiet(1))?;
    assert!(model.evaluate_on(&test, 2).is_err(), "before saving");
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let loaded = Model::load(&path)?;
    assert!(loaded.evaluate_on(&test, 2).is_err(), "after load");
    assert!(loaded.confusion_matrix(&test).is_err(), "after load");
    model.compile(SGD::new(1e-7), SparseCategoricalCrossentropy, [Accuracy]);
    assert!(model.evaluate_on(&test, 2).is_err(), "after a second compile");
    Ok(())
}

#[test]
fn load_names_files_of_keras_pytorch_and_onnx() {
    for (name, kind) in [
        ("keras_saved/transfer.keras", "Keras"),
        ("keras_saved/transfer.h5", "Keras"),
        ("torch_files/plain.pth", "PyTorch"),
        ("onnx/torch_squeezenet.onnx", "from_onnx"),
    ] {
        let error = Model::load(fixture(name)).unwrap_err().to_string();
        assert!(!error.contains("damaged") && error.contains(kind), "{name}: {error}");
    }
}
