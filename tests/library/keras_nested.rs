//! A model that holds several models loads from Keras's file, whole and one by one. `tests/fixtures/keras_nested.py`
//! wrote the file and the outputs of Keras's models.

use std::path::PathBuf;

use headstart::Result;
use headstart::prelude::*;

fn fixture(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

fn sequential(inputs: usize, outputs: usize) -> Result<Model> {
    sequential![Input::new(inputs), Dense::new(outputs).activation(Activation::Tanh)]
}

fn functional(name: &str, inputs: usize, outputs: usize) -> Result<Model> {
    let mut builder = ModelBuilder::new(name, &[inputs])?;
    let input = builder.input();
    let output = builder.add("dense", Dense::new(outputs).activation(Activation::Tanh), &[input])?;
    builder.finish(output)
}

fn assert_keras(model: &Model, x: &Tensor, expected: &Tensor, name: &str) -> Result<()> {
    let found = model.predict(x)?.to_tensor()?.to_vec2::<f32>()?.concat();
    let expected = expected.to_vec2::<f32>()?.concat();
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && worst < 1e-5, "{name}: {worst} from Keras's {expected:?}");
    Ok(())
}

#[test]
fn nested_models_load_whole_and_one_by_one() -> Result<()> {
    let known = candle_core::safetensors::load(fixture("keras_nested.safetensors"), &device())?;
    let file = fixture("keras_nested.weights.h5");
    let parts = || -> Result<[(&str, Model); 4]> {
        Ok([
            ("first", sequential(3, 4)?),
            ("second", functional("second", 4, 5)?),
            ("third", sequential(5, 6)?),
            ("fourth", functional("fourth", 6, 7)?),
        ])
    };
    let [(_, first), (_, second), (_, third), (_, fourth)] = parts()?;
    let whole = sequential![first, second, third, fourth, Dense::new(2)]?;
    whole.load_weights(&file)?;
    assert_keras(&whole, &known["x"], &known["whole"], "whole")?;
    let mut x = known["x"].clone();
    for (name, part) in parts()? {
        part.load_weights(&file)?;
        assert_keras(&part, &x, &known[name], name)?;
        x = known[name].clone();
    }
    Ok(())
}
