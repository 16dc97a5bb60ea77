//! Exponential moving averages of the weights match Keras's `use_ema` (`tests/fixtures/keras_adapters.py`).

use std::collections::HashMap;

use headstart::prelude::*;

pub(crate) fn fixture() -> HashMap<String, Tensor> {
    let bytes = include_bytes!("../fixtures/keras_adapters.safetensors");
    candle_core::safetensors::load_buffer(bytes, &device()).unwrap()
}

/// The model of the fixture, with its initial weights.
pub(crate) fn model(known: &HashMap<String, Tensor>) -> HeadstartResult<Model> {
    let model = sequential![Input::new(3), Dense::new(5).activation(Tanh), Dense::new(1)]?;
    for (at, param) in model.params().iter().enumerate() {
        param.set(&from_keras(&known[&format!("start.{at}")]))?;
    }
    Ok(model)
}

/// A kernel of Keras as `[units, inputs]`.
pub(crate) fn from_keras(weight: &Tensor) -> Tensor {
    if weight.rank() == 2 { weight.t().unwrap().contiguous().unwrap() } else { weight.clone() }
}

pub(crate) fn fit(epochs: usize) -> Fit {
    Fit::epochs(epochs).batch_size(4).shuffle(false).verbose(false).chart(false).advice(false)
}

pub(crate) fn assert_near(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let worst = flat(found).iter().zip(flat(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what:<40} {worst:.1e}");
    assert!(worst < 2e-6, "{what}: {worst}");
}

fn check(name: &str, optimizer: impl Optimizer + 'static, epochs: usize) -> HeadstartResult<()> {
    let known = fixture();
    let mut model = model(&known)?;
    model.compile(optimizer, MeanSquaredError, []);
    model.fit((&known["x"], &known["y"]), fit(epochs))?;
    for (at, param) in model.params().iter().enumerate() {
        let expected = from_keras(&known[&format!("{name}.{at}")]);
        assert_near(&format!("{name}, weight {at}"), &param.value(Mode::Inference), &expected);
    }
    Ok(())
}

#[test]
fn averages_match_keras() -> HeadstartResult<()> {
    check("ema of sgd", SGD::new(0.2).use_ema(true).ema_momentum(0.8), 2)?;
    check("ema of adam", Adam::new(0.05).use_ema(true), 3)?;
    let overwrites = Adam::new(0.05).use_ema(true).ema_momentum(0.9).ema_overwrite_frequency(4);
    check("ema that overwrites", overwrites, 3)
}

#[test]
fn a_saved_model_keeps_its_averages() -> HeadstartResult<()> {
    let known = fixture();
    let data = || (&known["x"], &known["y"]);
    let optimizer = || Adam::new(0.05).use_ema(true).ema_momentum(0.9).ema_overwrite_frequency(100);
    let (mut whole, folder) = (model(&known)?, tempfile::tempdir().unwrap());
    whole.compile(optimizer(), MeanSquaredError, []);
    whole.fit(data(), fit(1))?;
    let path = folder.path().join("model.safetensors");
    whole.save(&path)?;
    let mut loaded = Model::load(&path)?;
    whole.fit(data(), fit(2))?;
    loaded.fit(data(), fit(2))?;
    for (a, b) in whole.params().iter().zip(loaded.params()) {
        assert_near("resumed", &b.value(Mode::Inference), &a.value(Mode::Inference));
    }
    // Without the averages, the weights differ.
    let mut other = model(&known)?;
    other.compile(Adam::new(0.05), MeanSquaredError, []);
    other.fit(data(), fit(3))?;
    assert_ne!(other.predict(&known["x"])?, whole.predict(&known["x"])?);
    Ok(())
}

#[test]
fn settings_out_of_range_are_errors() -> HeadstartResult<()> {
    let known = fixture();
    for (optimizer, expected) in [
        (Adam::default().use_ema(true).ema_momentum(1.5), "ema_momentum"),
        (Adam::default().use_ema(true).ema_momentum(f64::NAN), "ema_momentum"),
        (Adam::default().use_ema(true).ema_overwrite_frequency(0), "ema_overwrite_frequency"),
    ] {
        let mut model = model(&known)?;
        model.compile(optimizer, MeanSquaredError, []);
        let error = model.fit((&known["x"], &known["y"]), fit(1)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}
