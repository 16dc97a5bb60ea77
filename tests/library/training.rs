//! Training matches Keras step by step (`tests/fixtures/training.py`); callbacks and saved models work as documented.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use headstart::Result;
use headstart::prelude::*;
use headstart::train::{BuiltInLoss, Callback, MetricSpec, Training};

use crate::parity::draw;
use crate::small::small;

const SAMPLES: usize = 16;
const SIDE: usize = 64;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn keras_output() -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join("training.safetensors"), &device()).unwrap()
}

fn drawn(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(draw(seed, shape), shape, &device()).unwrap()
}

/// The images and targets of the fixture.
fn data() -> Result<(Tensor, Tensor)> {
    let x = drawn(1000, &[SAMPLES, 3, SIDE, SIDE]).affine(2.0, -1.0)?;
    Ok((x, drawn(1001, &[SAMPLES]).gt(0.5)?.to_dtype(DType::F32)?))
}

/// The fixture's model with a frozen network, the network itself, and the first layer to fine-tune.
fn transfer(name: &str) -> Result<(Model, Model, &'static str)> {
    let (network, file, first, scale) = match name {
        "vgg16" => (Vgg16::new as fn(Weights) -> _, "keras_vgg16.h5", "block5_conv1", 10.0),
        _ => (ResNet50::new as fn(Weights) -> _, "keras_resnet50.weights.h5", "conv5_block1_1_conv", 0.01),
    };
    let network: headstart::models::Network = network(Weights::file(fixtures().join(file)));
    let base = network.alpha(1.0 / 32.0).include_top(false).input_shape((3, SIDE, SIDE)).build()?;
    base.freeze();
    let (hidden, last) = (Dense::new(8).activation(Relu), Dense::new(1).activation(Sigmoid));
    let model = sequential![&base, Rescaling::new(scale), GlobalAveragePooling2D, hidden, last]?;
    for (seed, layer) in ["dense", "dense_1"].iter().enumerate() {
        let kernel = &model.layer(layer)?.params()[0];
        let transposed: Vec<usize> = kernel.var().dims().iter().rev().copied().collect();
        kernel.set(&(drawn(2000 + seed as u64, &transposed) - 0.5)?.t()?)?;
    }
    Ok((base, model, first))
}

/// Records the loss of each batch.
struct Losses(Arc<Mutex<Vec<f64>>>, f64);

impl Callback for Losses {
    fn on_train_batch_end(&mut self, training: &mut Training) -> Result<()> {
        // `value` is the mean of the epoch so far.
        let mean = training.value("loss")?;
        let before = if training.batch() == 1 { 0.0 } else { self.1 };
        self.0.lock().unwrap().push(mean * training.batch() as f64 - before);
        self.1 = mean * training.batch() as f64;
        Ok(())
    }
}

fn steps(
    model: &mut Model,
    optimizer: impl headstart::train::Optimizer + 'static,
    epochs: usize,
) -> Result<Vec<f64>> {
    let (x, y) = data()?;
    let losses = Arc::new(Mutex::new(Vec::new()));
    model.compile(optimizer, BinaryCrossentropy, []);
    let fit = Fit::epochs(epochs).batch_size(4).shuffle(false).verbose(false).advice(false);
    model.fit((&x, &y), fit.callback(Losses(losses.clone(), 0.0)))?;
    Ok(Arc::into_inner(losses).unwrap().into_inner().unwrap())
}

fn assert_as_in_keras<O: headstart::train::Optimizer + 'static>(
    name: &str,
    make: impl Fn(f64) -> O,
) -> Result<()> {
    let expected = keras_output();
    for network in ["vgg16", "resnet50"] {
        let (base, mut model, first) = transfer(network)?;
        let mut found = steps(&mut model, make(1e-2), 10)?;
        base.unfreeze_from(first)?;
        found.extend(steps(&mut model, make(1e-3), 5)?);
        let expected = expected[&format!("{network} {name}")].to_vec1::<f32>()?;
        assert_eq!(found.len(), expected.len());
        let apart = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs() / f64::from(*b);
        let worst = found.iter().zip(&expected).map(apart).fold(0.0, f64::max);
        let last = apart((found.last().unwrap(), expected.last().unwrap()));
        println!(
            "{network}, {name}: the loss of {} steps, worst difference {worst:e}, at the end {last:e}",
            found.len()
        );
        assert!(worst < 1e-4, "{network}, {name}: {worst}\n{found:?}\n{expected:?}");
    }
    Ok(())
}

/// Frozen batch normalisation uses its moving statistics; here it uses batch statistics.
#[test]
fn training_with_batch_statistics_matches_keras() -> Result<()> {
    let (base, mut model, first) = transfer("resnet50")?;
    let mut found = steps(&mut model, Adam::new(1e-2), 10)?;
    base.unfreeze_from(first)?;
    base.unfreeze_statistics();
    found.extend(steps(&mut model, Adam::new(1e-3), 5)?);
    let expected = keras_output()["resnet50 adam, learning its statistics"].to_vec1::<f32>()?;
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - f64::from(*b)).abs() / f64::from(*b));
    let worst = apart.fold(0.0, f64::max);
    println!("resnet50, adam, learning its statistics: worst difference {worst:e}");
    assert!(worst < 1e-4, "{worst}");
    Ok(())
}

#[test]
fn training_with_sgd_matches_keras() -> Result<()> {
    assert_as_in_keras("sgd", |rate| SGD::new(rate * 10.0))?;
    assert_as_in_keras("nesterov", |rate| SGD::new(rate).momentum(0.9).nesterov(true).clipnorm(1.0))
}

#[test]
fn training_with_adam_matches_keras() -> Result<()> {
    assert_as_in_keras("adam", Adam::new)?;
    assert_as_in_keras("adamw", |rate| AdamW::new(rate).weight_decay(0.1))
}

#[test]
fn training_with_rmsprop_matches_keras() -> Result<()> {
    assert_as_in_keras("rmsprop", RMSprop::new)?;
    assert_as_in_keras("centered", |rate| RMSprop::new(rate).momentum(0.5).centered(true))
}

/// Scores of a model that returns its input.
fn evaluated(
    outputs: &Tensor,
    targets: &Tensor,
    loss: BuiltInLoss,
    metrics: &[MetricSpec],
) -> Result<headstart::train::Scores> {
    let mut model = sequential![Input::new(outputs.dim(1)?), Activation::Linear]?;
    model.compile(SGD::default(), loss, metrics.iter().cloned());
    model.evaluate(outputs, targets)
}

#[test]
fn losses_and_metrics_match_keras() -> Result<()> {
    let expected = keras_output();
    let outputs = drawn(3000, &[40, 5]);
    let classes: Vec<u32> = draw(3001, &[40]).iter().map(|value| (value * 5.0) as u32).collect();
    let mut rows = vec![0f32; 200];
    classes.iter().enumerate().for_each(|(row, class)| rows[row * 5 + *class as usize] = 1.0);
    let (wanted, classes) = (Tensor::from_vec(rows, (40, 5), &device())?, Tensor::new(classes, &device())?);
    let (one, target) = (drawn(3002, &[40, 1]), drawn(3004, &[40, 1]).gt(0.4)?.to_dtype(DType::F32)?);
    let (logits, logit) = (outputs.affine(8.0, -4.0)?, one.affine(8.0, -4.0)?);
    let shares = outputs.broadcast_div(&outputs.sum_keepdim(1)?)?;
    let assert_near = |name: String, found: f64| {
        let expected = f64::from(expected[&name].to_vec1::<f32>().unwrap()[0]);
        assert!((found - expected).abs() < 2e-6 * expected.abs().max(1.0), "{name}: {found}, not {expected}");
    };
    for (name, loss, outputs, targets) in [
        ("binary", BinaryCrossentropy, &one, &target),
        ("binary smooth logits", BinaryCrossentropy.from_logits(true).label_smoothing(0.1), &logit, &target),
        ("categorical", CategoricalCrossentropy, &shares, &wanted),
        (
            "categorical smooth logits",
            CategoricalCrossentropy.from_logits(true).label_smoothing(0.1),
            &logits,
            &wanted,
        ),
        ("sparse logits", SparseCategoricalCrossentropy.from_logits(true), &logits, &classes),
        ("squares", MeanSquaredError, &outputs, &wanted),
    ] {
        assert_near(format!("loss {name}"), evaluated(outputs, targets, loss, &[])?.get("loss").unwrap());
    }
    for (name, metric, outputs, targets) in [
        ("accuracy", Accuracy, &one, &target),
        ("precision", Precision, &one, &target),
        ("recall", Recall, &one, &target),
        ("f1", F1Score, &one, &target),
        ("auc", AUC, &one, &target),
        ("accuracy of classes", Accuracy, &shares, &wanted),
        ("top 2", TopKCategoricalAccuracy(2), &shares, &wanted),
        ("precision of classes", Precision, &(&shares * 2.0)?, &wanted),
        ("f1 of classes", F1Score, &shares, &wanted),
        ("auc of classes", AUC, &shares, &wanted),
    ] {
        let scores = evaluated(outputs, targets, MeanSquaredError, std::slice::from_ref(&metric))?;
        assert_near(format!("metric {name}"), scores.get(metric.name()).unwrap());
    }
    Ok(())
}

/// As in TensorFlow's `in_top_k`.
#[test]
fn outputs_that_are_nan_are_not_among_the_top() -> Result<()> {
    let mut model = sequential![Input::new(3), Activation::Linear]?;
    let loss = SparseCategoricalCrossentropy.from_logits(true);
    model.compile(SGD::new(0.0), loss, [TopKCategoricalAccuracy(1)]);
    let x = Tensor::new(&[[f32::NAN; 3], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]], &device())?;
    let scores = model.evaluate(&x, &Tensor::new(&[1u32, 0, 0], &device())?)?;
    assert!((scores["top_k_categorical_accuracy"] - 1.0 / 3.0).abs() < 1e-6, "{scores:?}");
    Ok(())
}

#[test]
fn early_stopping_restores_the_best_weights() -> Result<()> {
    let (mut model, x, y) = small(None)?;
    let stop = EarlyStopping::new("val_loss").patience(2).restore_best_weights(true);
    let fit = Fit::epochs(60).batch_size(8).verbose(false).validation_data((&x.i(16..)?, &y.i(16..)?));
    let history = model.fit((&x.i(..16)?, &y.i(..16)?), fit.callback(stop))?;
    let losses = &history["val_loss"];
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(history.epochs() < 60 && losses[history.epochs() - 3] == best, "{losses:?}");
    let after = model.evaluate(&x.i(16..)?, &y.i(16..)?)?.get("loss").unwrap();
    assert!((after - best).abs() < 1e-6, "{after} after {losses:?}");
    Ok(())
}

#[test]
fn callbacks_write_their_files() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, x, y) = small(None)?;
    let fit = Fit::epochs(3)
        .verbose(false)
        .callback(CSVLogger::new(folder.path().join("log.csv")))
        .callback(ModelCheckpoint::new(folder.path().join("epoch-{epoch:02d}.safetensors")))
        .callback(TensorBoard::new(folder.path().join("board")))
        .callback(LearningRateScheduler::new(|epoch, rate| if epoch == 0 { rate } else { rate / 2.0 }));
    let history = model.fit((&x, &y), fit)?;
    assert_eq!(history.learning_rates, [1e-2, 5e-3, 2.5e-3]);
    let log = std::fs::read_to_string(folder.path().join("log.csv")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (4, "epoch,accuracy,auc,learning_rate,loss"));
    assert_eq!(lines[3].split(',').next_back().unwrap(), history["loss"][2].to_string());
    assert!(folder.path().join("epoch-03.safetensors").is_file());
    assert_eq!(std::fs::read_dir(folder.path().join("board/train")).unwrap().count(), 1);
    Ok(())
}

#[test]
fn plateaus_reduce_the_learning_rate() -> Result<()> {
    let (mut model, x, y) = small(None)?;
    let plateau = ReduceLROnPlateau::new("loss").min_delta(10.0).patience(2).factor(0.5).min_lr(4e-3);
    let history = model.fit((&x, &y), Fit::epochs(7).verbose(false).callback(plateau))?;
    // The first loss is the best; no later one is smaller by `min_delta`.
    assert_eq!(history.learning_rates, [1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 4e-3, 4e-3]);
    Ok(())
}

#[test]
fn unknown_monitor_errors_list_the_known_values() -> Result<()> {
    let (mut model, x, y) = small(None)?;
    let fit = Fit::epochs(1).callback(EarlyStopping::new("val_loss"));
    let problem = model.fit((&x, &y), fit).unwrap_err().to_string();
    assert!(problem.contains("one of accuracy, auc, loss") && problem.contains("val_loss"), "{problem}");
    Ok(())
}

#[test]
fn terminate_on_nan_ends_training() -> Result<()> {
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(1e30), MeanSquaredError, []);
    let (x, y) = (random_uniform((16, 2), 1.0, 2.0)?, random_uniform(16, 0.0, 1.0)?);
    let history =
        model.fit((&x, &y), Fit::epochs(9).batch_size(4).verbose(false).callback(TerminateOnNaN))?;
    assert!(history.epochs() < 9);
    Ok(())
}

#[test]
fn learning_rate_multipliers_apply_per_layer() -> Result<()> {
    let first = sequential![Input::new(3), Dense::new(3)]?;
    let mut model = sequential![&first, Dense::new(1)]?;
    let before: Vec<Tensor> =
        model.params().iter().map(|param| Ok(param.var().copy()?)).collect::<Result<_>>()?;
    model.compile(SGD::new(0.1).learning_rate_multiplier(&first, 0.0), MeanSquaredError, []);
    let (x, y) = (random_uniform((4, 3), 0.0, 1.0)?, random_uniform(4, 5.0, 6.0)?);
    model.fit((&x, &y), Fit::epochs(1).verbose(false))?;
    let moved = model.params().into_iter().zip(&before).map(|(param, before)| {
        Ok((param.var().as_tensor() - before)?.abs()?.sum_all()?.to_scalar::<f32>()? > 0.0)
    });
    assert_eq!(moved.collect::<Result<Vec<bool>>>()?, [false, false, true, true]);
    Ok(())
}

#[test]
fn saved_models_are_restored_exactly() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let base = EfficientNetB0::new(Weights::Random(1)).include_top(false).input_shape((3, 32, 32)).build()?;
    base.freeze();
    base.unfreeze_from("block7a_expand_conv")?;
    let model = sequential![base, AveragePooling2D::new(1), Flatten, Dense::new(3).activation(Softmax)]?;
    model.save(&path)?;
    let same = Model::load(&path)?;
    let x = random_uniform((2, 3, 32, 32), -1.0, 1.0)?;
    assert_eq!(same.predict(&x)?, model.predict(&x)?);
    assert_eq!(same.summary().to_string(), model.summary().to_string());
    assert_eq!(same.trainable_params().len(), model.trainable_params().len());
    let states = |model: &Model| {
        model.params().iter().map(|p| (p.is_trainable(), p.is_in_inference_mode())).collect::<Vec<_>>()
    };
    assert_eq!(states(&same), states(&model));
    // Errors distinguish plain weights from damaged files.
    model.save_weights(&path)?;
    let problem = Model::load(&path).unwrap_err().to_string();
    assert!(problem.contains("load_weights"), "{problem}");
    std::fs::write(&path, b"\xff\xff\xff\xff\xff\xff\xff\x7f{}").unwrap();
    assert!(Model::load(&path).unwrap_err().to_string().contains("damaged"));
    Ok(())
}

#[test]
fn learning_rate_finder_restores_the_model_and_suggests_a_working_rate() -> Result<()> {
    let (x, y) = (random_uniform((64, 4), -1.0, 1.0)?, random_uniform((1, 4), -1.0, 1.0)?);
    let y = x.broadcast_mul(&y)?.sum(1)?;
    let mut model = sequential![Input::new(4), Dense::new(16).activation(Relu), Dense::new(1)]?;
    model.compile(SGD::new(0.0), MeanSquaredError, []);
    let before = model.predict(&x)?;
    let curve = model.find_learning_rate((&x, &y), 16)?;
    assert_eq!(model.predict(&x)?, before);
    let rate = curve.suggestion();
    assert!((1e-3..1.0).contains(&rate) && curve.to_string().contains("try"), "{curve}");
    assert!(curve.plot()?.svg().contains("learning rate"));
    model.compile(SGD::new(rate), MeanSquaredError, []);
    let history = model.fit((&x, &y), Fit::epochs(30).batch_size(16).verbose(false))?;
    assert!(history["loss"][29] < 0.3 * history["loss"][0], "{rate}: {:?}", &history["loss"]);
    Ok(())
}

/// `tests/fixtures/late_parameters.py`: one optimizer, while layers are frozen and unfrozen without `compile`.
fn assert_late_parameters_step_as_in_pytorch(
    name: &str,
    optimizer: impl headstart::train::Optimizer + 'static,
) -> Result<()> {
    let known = candle_core::safetensors::load(fixtures().join("late_parameters.safetensors"), &device())?;
    let kernel = |model: &Model, layer: &str| model.layer(layer).map(|layer| layer.params()[0].clone());
    let mut model = sequential![Input::new(1), Dense::new(1), Dense::new(1)]?;
    model.params().iter().for_each(|param| param.set_trainable(false));
    kernel(&model, "dense")?.set(&Tensor::new(&[[0.5f32]], &device())?)?;
    kernel(&model, "dense_1")?.set(&Tensor::new(&[[0.25f32]], &device())?)?;
    model.compile(optimizer, MeanSquaredError, []);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (step, expected) in known[name].to_vec2::<f32>()?.into_iter().enumerate() {
        kernel(&model, "dense")?.set_trainable(!(150..160).contains(&step));
        kernel(&model, "dense_1")?.set_trainable(step >= 100);
        if step == 110 || step == 155 {
            // The optimizer's state of each parameter is restored from a file.
            model.save(&path)?;
            model = Model::load(&path)?;
        }
        model.fit((&known["x"], &known["y"]), Fit::epochs(1).verbose(false).advice(false))?;
        for (layer, expected) in ["dense", "dense_1"].iter().zip(expected) {
            let found = kernel(&model, layer)?.var().flatten_all()?.to_vec1::<f32>()?[0];
            let apart = (found - expected).abs();
            assert!(apart < 1e-4, "{name}, step {step}, {layer}: {found}, in PyTorch {expected}");
        }
    }
    Ok(())
}

#[test]
fn optimizer_steps_of_late_parameters_match_pytorch() -> Result<()> {
    assert_late_parameters_step_as_in_pytorch("adam", Adam::new(0.02).epsilon(0.0))?;
    assert_late_parameters_step_as_in_pytorch("adamw", AdamW::new(0.02).epsilon(0.0))?;
    assert_late_parameters_step_as_in_pytorch("sgd", SGD::new(0.001).momentum(0.9))
}
