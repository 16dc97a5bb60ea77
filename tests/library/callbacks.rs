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
fn the_initial_learning_rate_is_a_parameter_of_an_mlflow_run() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(Schedule::exponential_decay(0.125, 1, 0.5)), MeanSquaredError, []);
    let fit = Fit::epochs(1).batch_size(2).verbose(false).chart(false).advice(false);
    model.fit((&x, &y), fit.callback(MLflowLogger::new(folder.path())))?;
    let runs = std::fs::read_dir(folder.path().join("0")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.filter(|path| path.is_dir()).last().unwrap();
    assert_eq!(std::fs::read_to_string(run.join("params/learning_rate")).unwrap(), "0.125");
    Ok(())
}

#[test]
fn a_users_parameters_of_an_mlflow_run_stay() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    // As MLflow writes a long name.
    let name = "a long name of an experiment, over the eighty characters that a line of YAML may have here";
    std::fs::create_dir(folder.path().join("7")).unwrap();
    let about = format!("artifact_location: a\nname: {}\n", name.replacen(", ", ",\n  ", 1));
    std::fs::write(folder.path().join("7/meta.yaml"), about).unwrap();
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(0.125), MeanSquaredError, []);
    let logger = MLflowLogger::new(folder.path()).experiment(name).param("größe: a", 1);
    let logger = logger.param("epochs", "one").param("learning_rate", "an eighth");
    model.fit((&x, &y), quiet(1).callback(logger))?;
    let runs = std::fs::read_dir(folder.path().join("7")).unwrap().map(|entry| entry.unwrap().path());
    let run = runs.filter(|path| path.is_dir()).last().expect("a run of the experiment");
    let param = |name: &str| std::fs::read_to_string(run.join("params").join(name)).unwrap();
    assert_eq!(["größe: a", "epochs", "learning_rate"].map(param), ["1", "one", "an eighth"]);
    Ok(())
}

#[test]
fn a_resumed_mlflow_run_keeps_its_start() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let fit = |stops: bool| {
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(1e-2), MeanSquaredError, []);
        let fit = quiet(4).callback(MLflowLogger::new(folder.path().join("mlruns")));
        let fit = fit.callback(BackupAndRestore::new(folder.path().join("training.backup")));
        model.fit(
            (&x, &y),
            fit.on_epoch_end(move |training| match training.epoch() {
                3 if stops => training.value("no such number").map(|_| ()),
                _ => Ok(()),
            }),
        )
    };
    let about = || {
        let runs = std::fs::read_dir(folder.path().join("mlruns/0")).unwrap();
        let runs: Vec<_> =
            runs.map(|entry| entry.unwrap().path().join("meta.yaml")).filter(|path| path.is_file()).collect();
        let text = runs.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<Vec<_>>();
        assert_eq!(text.len(), 1, "one run");
        text[0].lines().map(str::to_owned).collect::<Vec<_>>()
    };
    fn start(about: &[String]) -> Option<&String> {
        about.iter().find(|line| line.starts_with("start_time: "))
    }
    assert!(fit(true).is_err());
    let first = about();
    fit(false)?;
    let second = about();
    assert!(second.contains(&"status: 3".to_owned()), "{second:?}");
    assert_eq!((start(&second), start(&first).is_some()), (start(&first), true));
    Ok(())
}

/// As in Keras, only an improvement on the baseline restarts the patience.
#[test]
fn early_stopping_waits_for_its_baseline() -> Result<()> {
    let (x, y) = (Tensor::ones((8, 1), DType::F32, &device())?, Tensor::ones(8, DType::F32, &device())?);
    let epochs = |stop: EarlyStopping| -> Result<usize> {
        let mut model = sequential![Input::new(1), Dense::new(1).kernel_initializer(Initializer::Zeros)]?;
        // A step multiplies the error by 1 - 4·rate. The losses: 1, 0.64, 0.41, 0.26, 0.51, 0.33, 0.21, 0.13.
        model.compile(SGD::new(0.05), MeanSquaredError, []);
        let rates = LearningRateScheduler::new(|epoch, _| if epoch == 3 { 0.6 } else { 0.05 });
        Ok(model.fit((&x, &y), quiet(8).callback(rates).callback(stop))?.epochs())
    };
    let stop = || EarlyStopping::new("loss").patience(3);
    assert_eq!((epochs(stop())?, epochs(stop().baseline(0.5))?, epochs(stop().baseline(0.1))?), (8, 8, 5));
    assert!(epochs(stop().baseline(f64::NAN)).unwrap_err().to_string().contains("baseline"));
    Ok(())
}

#[test]
fn networks_have_the_names_of_keras_too() -> Result<()> {
    for (keras, name) in [("MobileNetV2", "mobilenetv2_100"), ("EfficientNetB1", "efficientnet_b1")] {
        let network = headstart::models::Network::named(keras, Weights::Random(0))?;
        let network = network.include_top(false).input_shape((3, 32, 32)).alpha(0.1);
        assert_eq!(network.build()?.name(), name);
    }
    Ok(())
}

/// As in Keras: TensorBoard has it always, a CSV file if a callback changes it.
#[test]
fn logs_have_the_learning_rate() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("log.csv");
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(0.5), MeanSquaredError, []);
    let logged = || quiet(2).chart(false).callback(CSVLogger::new(&csv)).validation_split(0.25);
    let plain = model.fit((&x, &y), logged().callback(TensorBoard::new(folder.path().join("tb"))))?;
    let text = std::fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with("epoch,loss,val_loss\n"), "{text}");
    assert_eq!(plain["learning_rate"], [0.5, 0.5]);
    assert!(!plain.names().contains(&"learning_rate".to_owned()));
    let events = std::fs::read_dir(folder.path().join("tb/train")).unwrap().next().unwrap().unwrap().path();
    let events = std::fs::read(events).unwrap();
    let tag = b"epoch_learning_rate";
    assert_eq!(events.windows(tag.len()).filter(|window| window == tag).count(), 2);
    let halve = LearningRateScheduler::new(|epoch, _| 0.5 / (epoch + 1) as f64);
    let history = model.fit((&x, &y), logged().callback(halve))?;
    assert_eq!(history["learning_rate"], [0.5, 0.25]);
    let text = std::fs::read_to_string(&csv).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["epoch", "learning_rate", "loss", "val_loss"]);
    assert_eq!((rows[1][1], rows[2][1]), ("0.5", "0.25"));
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

/// Counts batches across a restart: batches 4, 8 and 12 of epochs of 3 batches.
#[test]
fn checkpoints_by_batches_resume_exactly() -> Result<()> {
    let run = |folder: &std::path::Path, is_broken: bool| -> Result<Vec<String>> {
        let (x, y) = (random_uniform((12, 2), 0.0, 1.0)?, random_uniform(12, 0.0, 1.0)?);
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(1e-3), MeanSquaredError, []);
        let checkpoint = ModelCheckpoint::new(folder.join("w/{epoch}-{batch}.safetensors")).save_freq(4);
        let fit = quiet(4).batch_size(4);
        let fit = fit.callback(BackupAndRestore::new(folder.join("backup"))).callback(checkpoint);
        let fit = fit.on_epoch_end(move |training| match is_broken && training.epoch() == 2 {
            true => Err(headstart::Error::Interrupted),
            false => Ok(()),
        });
        model.fit((&x, &y), fit)?;
        let files = std::fs::read_dir(folder.join("w")).unwrap();
        let mut names: Vec<String> =
            files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        Ok(names)
    };
    let [whole, broken] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let expected = ["2-1.safetensors", "3-2.safetensors", "4-3.safetensors"];
    assert_eq!(run(whole.path(), false)?, expected);
    // Epoch 2 is repeated.
    run(broken.path(), true)?;
    assert_eq!(run(broken.path(), false)?, expected);
    Ok(())
}
