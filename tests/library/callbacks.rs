//! Callbacks, fine-tuning and the learning-rate finder with unusual settings.

use headstart::Result;
use headstart::prelude::*;

fn quiet(epochs: usize) -> Fit {
    Fit::epochs(epochs).verbose(false).chart(false).advice(false)
}

#[test]
fn a_refused_fit_keeps_the_history() -> Result<()> {
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e-3), MeanSquaredError, []);
    model.fit((&x, &y), quiet(3))?;
    assert!(model.fit((&x, &y), quiet(5).callback(EarlyStopping::new("val_lss"))).is_err());
    assert_eq!(model.history()?.epochs(), 3);
    // The same if a callback refuses to begin.
    let folder = tempfile::tempdir().unwrap();
    assert!(model.fit((&x, &y), quiet(5).callback(CSVLogger::new(folder.path()))).is_err());
    let unwritable = ModelCheckpoint::new("/dev/null/weights.safetensors");
    assert!(model.fit((&x, &y), quiet(5).callback(unwritable)).is_err());
    assert_eq!(model.history()?.epochs(), 3);
    Ok(())
}

#[test]
fn best_weights_are_restored_after_a_diverging_epoch() -> Result<()> {
    let (x, y) = (random_uniform((16, 2), 0.0, 1.0)?, random_uniform(16, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e-2), MeanSquaredError, []);
    let stop = EarlyStopping::new("loss").patience(20).restore_best_weights(true);
    let rates = LearningRateScheduler::new(|epoch, _| if epoch < 3 { 1e-2 } else { 1e30 });
    // With four batches an epoch, the loss is infinite within epoch 4. Whether `fit` returns an error does not matter here.
    let _ = model.fit((&x, &y), quiet(8).batch_size(4).callback(stop).callback(rates));
    let outputs = model.predict(&x)?.to_tensor()?.flatten_all()?.to_vec1::<f32>()?;
    assert!(outputs.iter().all(|value| value.abs() < 10.0), "{outputs:?}");
    Ok(())
}

#[test]
fn backups_go_into_an_existing_folder() -> Result<()> {
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let folder = tempfile::tempdir().unwrap();
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e-2), MeanSquaredError, []);
    let stops = LearningRateScheduler::new(|epoch, rate| if epoch < 2 { rate } else { f64::NAN });
    let backup = || BackupAndRestore::new(folder.path());
    assert!(model.fit((&x, &y), quiet(3).callback(backup()).callback(stops)).is_err());
    let file = folder.path().join("training.backup");
    assert!(file.is_file());
    let history = model.fit((&x, &y), quiet(3).callback(backup()))?;
    assert_eq!(history.epochs(), 3, "two of them come from the backup");
    assert!(!file.exists());
    Ok(())
}

#[test]
fn callbacks_that_cannot_write_fail_before_training() -> Result<()> {
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    std::fs::create_dir(folder.path().join("is_a_folder.safetensors")).unwrap();
    let fits = [
        ("checkpoint", quiet(1).callback(ModelCheckpoint::new(file.join("w.safetensors")))),
        ("folder", quiet(1).callback(ModelCheckpoint::new(folder.path().join("is_a_folder.safetensors")))),
        ("tensorboard", quiet(1).callback(TensorBoard::new(file.join("logs")))),
        ("mlflow", quiet(1).callback(MLflowLogger::new(file.join("mlruns")))),
    ];
    for (name, fit) in fits {
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(1e-2), MeanSquaredError, []);
        let before = model.predict(&x)?;
        assert!(model.fit((&x, &y), fit).is_err(), "{name}");
        assert_eq!(model.predict(&x)?, before, "{name}: an epoch was trained before the error");
    }
    Ok(())
}

#[test]
fn plateaus_with_a_schedule_fail_before_training() -> Result<()> {
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(Schedule::cosine_decay(1e-9, 100)), MeanSquaredError, []);
    assert!(model.fit((&x, &y), quiet(9).callback(ReduceLROnPlateau::new("loss").patience(4))).is_err());
    let finished = model.history().map_or(0, |history| history.epochs());
    assert_eq!(finished, 0, "epochs were trained before the error");
    Ok(())
}

#[test]
fn fine_tuning_from_a_layer_of_the_head_is_refused() -> Result<()> {
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::new(1e-3), BinaryCrossentropy, []);
    let x = random_uniform((4, 3, 64, 64), -2.0, 2.0)?;
    let y = random_uniform(4, 0.0, 1.0)?.gt(0.5)?;
    assert!(model.fine_tune((&x, &y), "dense", quiet(1), quiet(1)).is_err());
    Ok(())
}

/// A loss whose values are negative: the negative cosine similarity, as Keras's `CosineSimilarity`.
struct Cosine;

impl Loss for Cosine {
    fn name(&self) -> &str {
        "cosine_similarity"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        let length = |t: &Tensor| (t.sqr()?.sum_keepdim(D::Minus1)? + 1e-6)?.sqrt();
        let (a, b) = (targets.broadcast_div(&length(targets)?)?, outputs.broadcast_div(&length(outputs)?)?);
        Ok((a * b)?.sum(D::Minus1)?.neg()?)
    }
}

#[test]
fn the_learning_rate_finder_takes_negative_losses() -> Result<()> {
    let mut model = sequential![Input::new(3), Dense::new(3)]?;
    for param in model.params().iter().filter(|param| param.name() == "kernel") {
        param.set(&Tensor::eye(3, DType::F32, &device())?)?;
    }
    model.compile(SGD::new(1e-3), Cosine, []);
    let x = random_uniform((32, 3), 0.5, 1.0)?;
    let curve = model.find_learning_rate((&x, &x), 8)?;
    assert!(curve.losses.len() > 50, "{} steps, try {:e}", curve.losses.len(), curve.suggestion());
    Ok(())
}

#[test]
fn the_learning_rate_finder_refuses_a_frozen_model() -> Result<()> {
    let (x, y) = (random_uniform((32, 2), 0.0, 1.0)?, random_uniform(32, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e-3), MeanSquaredError, []);
    model.freeze();
    assert!(model.find_learning_rate((&x, &y), 8).is_err());
    Ok(())
}

#[test]
fn a_threshold_of_nan_is_refused() -> Result<()> {
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("best.safetensors");
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e-2), MeanSquaredError, []);
    let best =
        ModelCheckpoint::new(&path).monitor("loss").save_best_only(true).initial_value_threshold(f64::NAN);
    let error = model.fit((&x, &y), quiet(2).callback(best)).unwrap_err().to_string();
    assert!(error.contains("initial_value_threshold"), "{error}");
    Ok(())
}

#[test]
fn a_callback_evaluates_and_saves_its_model() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?.gt(0.5)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(0.1), BinaryCrossentropy.from_logits(true), [Accuracy]);
    let (a, b, to) = (x.clone(), y.clone(), path.clone());
    let fit = Fit::epochs(2).verbose(false).chart(false).advice(false).on_epoch_end(move |training| {
        training.save(&to)?;
        assert!(training.evaluate((&a, &b))?["accuracy"] <= 1.0);
        for error in [training.model().evaluate(&a, &b).map(drop), training.model().save(&to)] {
            assert!(error.unwrap_err().to_string().contains("`training."));
        }
        Ok(())
    });
    model.fit((&x, &y), fit)?;
    model.evaluate(&x, &y)?;
    let mut loaded = Model::load(&path)?;
    assert_eq!(loaded.predict(&x)?.classes(), model.predict(&x)?.classes());
    loaded.fit((&x, &y), Fit::epochs(1).verbose(false).chart(false).advice(false)).map(drop)
}
