//! Low-rank adaptation matches Keras's `Dense.enable_lora` (`tests/fixtures/keras_adapters.py`).

use headstart::nn::Param;
use headstart::prelude::*;

use super::moving_average::{assert_near, fit, fixture, from_keras, model};

fn named(params: &[Param], name: &str) -> Param {
    params.iter().find(|param| param.name() == name).unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn adapters_match_keras() -> HeadstartResult<()> {
    let known = fixture();
    let (x, y) = (&known["x"], &known["y"]);
    for (name, lora) in [("lora", Lora::new(2)), ("lora with alpha", Lora::new(2).alpha(6.0))] {
        let known = |part: &str| &known[&format!("{name}.{part}")];
        let mut model = model(&fixture())?;
        let before = model.predict(x)?;
        model.enable_lora(lora, |layer| layer == "dense")?;
        assert_eq!(model.predict(x)?, before, "a new adapter changes nothing");
        let params = model.trainable_params();
        assert_eq!(params.len(), 2);
        assert_eq!((model.summary().trainable, model.summary().total), (2 * 3 + 5 * 2, 26 + 16));
        let (a, b) = (named(&params, "lora_kernel_a"), named(&params, "lora_kernel_b"));
        a.set(&from_keras(known("a before")))?;
        b.set(&from_keras(known("b before")))?;
        assert_near(name, &model.forward(x, Mode::Inference)?, known("output"));
        let kernel = named(&model.params(), "kernel").value(Mode::Inference).copy()?;
        model.compile(Adam::new(0.02), MeanSquaredError, []);
        model.fit((x, y), fit(3))?;
        assert_near("A", &a.value(Mode::Inference), &from_keras(known("a")));
        assert_near("B", &b.value(Mode::Inference), &from_keras(known("b")));
        assert_near("the frozen kernel", &named(&model.params(), "kernel").value(Mode::Inference), &kernel);
        assert_near("trained", &model.forward(x, Mode::Inference)?, known("trained output"));
        model.merge_lora()?;
        assert_near("merged", &model.forward(x, Mode::Inference)?, known("trained output"));
        assert_near(
            "kernel",
            &named(&model.params(), "kernel").value(Mode::Inference),
            &from_keras(known("kernel")),
        );
        assert_eq!(model.summary().total, 26);
    }
    Ok(())
}

/// A small vision transformer with adapters in its attention layers, and a head.
fn transformer() -> HeadstartResult<(Model, Model)> {
    let base = VitTiny::new(Weights::Random(1)).alpha(1.0 / 3.0).include_top(false).input_shape((3, 32, 32));
    let base = base.build()?;
    let model = sequential![&base, FirstToken, Dense::new(2).activation(Softmax)]?;
    Ok((base, model))
}

#[test]
fn only_adapters_and_the_head_are_trained() -> HeadstartResult<()> {
    let (base, mut model) = transformer()?;
    let x = random_uniform((6, 3, 32, 32), -1.0, 1.0)?;
    let y = Tensor::new(&[0u32, 1, 0, 1, 0, 1], &device())?;
    // A plan for the frozen network is compiled first, and must not outlive the change.
    base.freeze();
    let before = model.predict(&x)?;
    base.enable_lora(Lora::new(4), |name| name.ends_with("_attention"))?;
    assert_eq!(model.predict(&x)?, before);
    // Each of twelve blocks: adapters of [192, 64] and [64, 64] of rank 4.
    assert_eq!(base.summary().trainable, 12 * 4 * (192 + 64 + 64 + 64));
    let frozen: Vec<(Param, Tensor)> = base
        .params()
        .into_iter()
        .filter(|param| !param.is_trainable())
        .map(|param| Ok((param.clone(), param.value(Mode::Inference).copy()?)))
        .collect::<HeadstartResult<_>>()?;
    model.compile(Adam::new(0.01), SparseCategoricalCrossentropy, [Accuracy]);
    let history = model.fit((&x, &y), fit(8))?;
    assert!(history["loss"][7] < history["loss"][0]);
    for (param, before) in &frozen {
        assert_near("a frozen weight", &param.value(Mode::Inference), before);
    }
    let trained = model.predict(&x)?;
    let folder = tempfile::tempdir().unwrap();
    // The saved weights are merged, so a model without adapters can load them.
    let path = folder.path().join("weights.safetensors");
    model.save_weights(&path)?;
    let (_, plain) = transformer()?;
    plain.load_weights(&path)?;
    assert_near(
        "merged in a file",
        &plain.forward(&x, Mode::Inference)?,
        &model.forward(&x, Mode::Inference)?,
    );
    // A model with adapters can load them too. Its adapters are then zero.
    let (adapted, other) = transformer()?;
    adapted.enable_lora(Lora::new(2), |name| name.ends_with("_mlp_dense1"))?;
    let b = named(&adapted.trainable_params(), "lora_kernel_b");
    b.set(&b.value(Mode::Inference).ones_like()?)?;
    other.load_weights(&path)?;
    assert_near("loaded", &other.forward(&x, Mode::Inference)?, &model.forward(&x, Mode::Inference)?);
    // A whole model is saved with its adapters, and training resumes exactly.
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let mut loaded = Model::load(&path)?;
    assert_eq!(loaded.summary().to_string(), model.summary().to_string());
    assert_eq!(loaded.predict(&x)?, trained);
    model.fit((&x, &y), fit(2))?;
    loaded.fit((&x, &y), fit(2))?;
    assert_eq!(loaded.predict(&x)?, model.predict(&x)?);
    let expected = model.forward(&x, Mode::Inference)?;
    model.merge_lora()?;
    assert_eq!(base.summary().trainable, 0);
    assert_near("merged", &model.forward(&x, Mode::Inference)?, &expected);
    Ok(())
}

#[test]
fn an_exported_model_has_merged_kernels() -> HeadstartResult<()> {
    let model = sequential![Input::new(6), Dense::new(4).activation(Tanh), Dense::new(2)]?;
    model.enable_lora(Lora::new(2).alpha(8.0), |name| name == "dense")?;
    let b = named(&model.params(), "lora_kernel_b");
    b.set(&random_uniform(b.var().shape(), -1.0, 1.0)?)?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    model.export_onnx(&path)?;
    let again = Model::from_onnx(&path)?;
    let x = random_uniform((3, 6), -1.0, 1.0)?;
    assert_eq!(again.summary().total, 6 * 4 + 4 + 4 * 2 + 2);
    assert_near("exported", &again.forward(&x, Mode::Inference)?, &model.forward(&x, Mode::Inference)?);
    Ok(())
}

#[test]
fn unsuitable_adapters_are_errors() -> HeadstartResult<()> {
    let model = sequential![Input::new(6), Dense::new(4), Dense::new(2)]?;
    let summary = model.summary().to_string();
    let error = |lora: Lora, name: &'static str| {
        model.enable_lora(lora, |layer| layer.contains(name)).unwrap_err().to_string()
    };
    assert!(error(Lora::new(2), "attention").contains("dense, dense_1"));
    for (lora, expected) in [
        (Lora::new(0), "rank: expected 1 to 4"),
        (Lora::new(3), "rank: expected 1 to 2"),
        (Lora::new(1).alpha(f64::NAN), "alpha"),
        (Lora::new(1).alpha(-1.0), "alpha"),
    ] {
        let found = error(lora, "dense");
        assert!(found.contains(expected), "{found}");
        assert_eq!(model.summary().to_string(), summary, "a refused adapter changes nothing");
    }
    model.enable_lora(Lora::new(1), |layer| layer == "dense")?;
    assert!(error(Lora::new(1), "dense").contains("merge_lora"));
    model.merge_lora()?;
    model.enable_lora(Lora::new(1), |layer| layer == "dense")
}
