//! Keras's options and conventions have the same effect here.

use std::fs;
use std::path::Path;

use headstart::data::Dataset;
use headstart::prelude::*;
use headstart::train::BuiltInLoss;
use headstart::train::Predictions;
use headstart::{Error, Result};

/// A model that was trained to separate two classes by one number, with its data.
fn trained_model() -> Result<(Model, Tensor, Tensor)> {
    let mut model = sequential![Input::new(1), Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::new(0.1), BinaryCrossentropy, [Accuracy]);
    let x = Tensor::arange(0f32, 40.0, &device())?.affine(0.1, -2.0)?.reshape((40, 1))?;
    let y = x.gt(0.0)?.flatten_all()?;
    model.fit((&x, &y), Fit::epochs(20).verbose(false))?;
    Ok((model, x, y))
}

/// Creates folders of drawn images for these classes.
fn folders(folder: &Path, classes: &[&str]) {
    let drawn = tempfile::tempdir().unwrap();
    draw_demo_images(drawn.path(), 4, 24, 1).unwrap();
    for (class, source) in classes.iter().zip(["cats", "dogs", "cats"]) {
        fs::create_dir_all(folder).unwrap();
        let to = folder.join(class);
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(drawn.path().join(source)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

fn image_model(outputs: usize) -> Result<Model> {
    let mut model = sequential![
        Input::new((3, 16, 16)),
        Rescaling::new(1.0 / 255.0),
        Flatten,
        Dense::new(outputs).activation(Softmax)
    ]?;
    model.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
    Ok(model)
}

#[test]
fn class_indices_of_two_folders_are_compared_and_can_be_set() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (train, val) = (folder.path().join("train"), folder.path().join("val"));
    folders(&train, &["bird", "cat", "dog"]);
    folders(&val, &["bird", "dog"]);
    let size = (16, 16);
    let (train, val) = (ImageFiles::from_directory(train, size)?, ImageFiles::from_directory(val, size)?);
    let mut model = image_model(3)?;
    let fit = || Fit::epochs(1).verbose(false);
    // `dog` is class 2 in one dataset and class 1 in the other.
    let error = model.fit(&train, fit().validation_data(&val)).unwrap_err().to_string();
    for part in
        ["validation_data", "`bird`, `cat`, `dog`", "`bird`, `dog`", r#".classes(["bird", "cat", "dog"])"#]
    {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let numbered = val.classes(["bird", "cat", "dog"])?;
    assert_eq!((&numbered.labels[..], numbered.len()), (&[0, 0, 0, 0, 2, 2, 2, 2][..], 8));
    let history = model.fit(&train, fit().validation_data(&numbered))?;
    assert_eq!(history["val_accuracy"].len(), 1);
    // Flows and images in memory have class names too.
    let flow = ImageDataGenerator::new().flow_files(&val, 4)?;
    assert_eq!(flow.class_names(), ["bird", "dog"]);
    assert!(matches!(model.fit(&train, fit().validation_data(flow)), Err(Error::Argument { .. })));
    let images = val.load()?;
    assert!(model.evaluate_on(&images, 4).unwrap_err().to_string().contains("another class"));
    assert!(model.confusion_matrix(&images).unwrap_err().to_string().contains("another class"));
    // The same for further training, but not for another task.
    let error = model.fit(&val, fit()).unwrap_err().to_string();
    assert!(error.contains("another class"), "{error}");
    let images = images.classes(["bird", "cat", "dog"])?;
    assert_eq!(images.y.to_vec1::<u32>()?, [0, 0, 0, 0, 2, 2, 2, 2]);
    assert_eq!(model.confusion_matrix(&images)?.counts()[1], [0, 0, 0]);
    // A training on tensors keeps the class names.
    let images = train.load()?;
    model.fit((&images.x, &images.y), fit())?;
    assert!(model.evaluate_on(&val, 4).unwrap_err().to_string().contains("another class"));
    // A subset of the classes: the files of the others are omitted.
    folders(&folder.path().join("other"), &["ants", "bees"]);
    model.fit(&ImageFiles::from_directory(folder.path().join("other"), size)?, fit())?;
    let two = train.classes(["dog", "bird"])?;
    assert_eq!((two.len(), two.labels[0], two.class_names.len()), (8, 1, 2));
    for wrong in [&["fish"][..], &["dog", "dog"]] {
        let error = train.classes(wrong.iter().copied()).unwrap_err().to_string();
        assert!(error.contains("classes: expected"), "{error}");
    }
    Ok(())
}

#[test]
fn tensors_files_and_flows_give_the_same_predictions_and_scores() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    folders(&folder.path().join("all"), &["cat", "dog"]);
    let files = ImageFiles::from_directory(folder.path().join("all"), (16, 16))?;
    let images = files.load()?;
    let mut model = image_model(2)?;
    model.fit(&images, Fit::epochs(2).verbose(false))?;
    let expected = model.predict(&images.x)?;
    let flow = || ImageDataGenerator::new().flow_files(&files, 3);
    let same = |found: Predictions| {
        let far = found.to_tensor()?.sub(&expected.to_tensor()?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(found.len() == expected.len() && far < 1e-5, "{far}");
        Ok::<(), Error>(())
    };
    same(model.predict(&files)?)?;
    same(model.predict(&images)?)?;
    // A flow shuffles in training; predictions are in file order.
    same(model.predict(flow()?)?)?;
    same(model.predict_in_batches(&images.x, 3)?)?;
    same(model.predict_in_batches(&files, 5)?)?;
    assert!(model.predict_in_batches(&files, 0).is_err() && model.predict_in_batches(&images.x, 0).is_err());
    let scores = model.evaluate(&images.x, &images.y)?;
    for found in [
        model.evaluate_on(&files, 3)?,
        model.evaluate_on(&images, 8)?,
        model.evaluate_on(flow()?, 1)?,
        model.evaluate_on((&images.x, &images.y), 2)?,
    ] {
        assert!((found["loss"] - scores["loss"]).abs() < 1e-5 && found["accuracy"] == scores["accuracy"]);
    }
    let matrix = images.confusion_matrix(&expected)?;
    assert_eq!(model.confusion_matrix(&files)?, matrix);
    assert_eq!(model.confusion_matrix(flow()?)?, matrix);
    assert_eq!(model.confusion_matrix((&images.x, &images.y))?, matrix);
    Ok(())
}

/// Names of the files in a folder, sorted.
fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn checkpoint_names_match_keras_and_folders_are_created() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, x, y) = trained_model()?;
    let run = folder.path().join("a/b");
    let fit = |pattern: &str| {
        let checkpoint = ModelCheckpoint::new(run.join(pattern));
        Fit::epochs(2).verbose(false).validation_split(0.5).callback(checkpoint)
    };
    let history = model.fit((&x, &y), fit("w.{epoch:02d}-{val_loss:.2f}.safetensors"))?;
    let expected = |epoch: usize| format!("w.{epoch:02}-{:.2}.safetensors", history["val_loss"][epoch - 1]);
    assert_eq!(listed(&run), [expected(1), expected(2)]);
    // An unknown value in a file name is an error before training.
    let before = model.predict(&x)?;
    for (pattern, problem) in
        [("{val_acc:.2f}", "`val_acc`"), ("{epoch", "each `{`"), ("{loss:02d}", "`loss:02d`")]
    {
        let error = model.fit((&x, &y), fit(pattern)).unwrap_err().to_string();
        assert!(error.contains("filepath") && error.contains(problem), "{error}");
    }
    assert_eq!(model.predict(&x)?, before, "it has been trained");
    // Every callback that writes files creates its folder.
    let fit = Fit::epochs(1).verbose(false).callback(CSVLogger::new(folder.path().join("c/log.csv")));
    let fit = fit.callback(BackupAndRestore::new(folder.path().join("d/e/backup")));
    model.fit((&x, &y), fit.callback(TensorBoard::new(folder.path().join("f/g"))))?;
    assert!(folder.path().join("c/log.csv").is_file() && folder.path().join("f/g/train").is_dir());
    assert!(folder.path().join("d/e").is_dir());
    Ok(())
}

#[test]
fn checkpoint_options_match_keras() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, x, y) = trained_model()?;
    let path = |name: &str| folder.path().join(name);
    let fit = |checkpoint| Fit::epochs(2).batch_size(10).verbose(false).callback(checkpoint);
    // Four batches per epoch: saves after the third and the sixth.
    let checkpoint = ModelCheckpoint::new(path("batches/{epoch}-{batch:02d}.safetensors")).save_freq(3);
    model.fit((&x, &y), fit(checkpoint))?;
    assert_eq!(listed(&path("batches")), ["1-03.safetensors", "2-02.safetensors"]);
    // No loss is below this threshold.
    let best = ModelCheckpoint::new(path("none.safetensors")).monitor("loss").save_best_only(true);
    model.fit((&x, &y), fit(best.initial_value_threshold(-1.0)))?;
    assert!(!path("none.safetensors").exists());
    // The loss decreases, so with `max` the first epoch is the best.
    let best = ModelCheckpoint::new(path("max-{epoch}.safetensors")).save_best_only(true);
    model.fit((&x, &y), fit(best.mode("max").monitor("loss")))?;
    assert!(path("max-1.safetensors").is_file() && !path("max-2.safetensors").exists());
    // A whole model includes its optimizer.
    model.fit((&x, &y), fit(ModelCheckpoint::new(path("whole.safetensors")).save_weights_only(false)))?;
    let mut whole = Model::load(path("whole.safetensors"))?;
    assert_eq!(whole.predict(&x)?, model.predict(&x)?);
    let plain = || Fit::epochs(1).shuffle(false).verbose(false);
    assert_eq!(whole.fit((&x, &y), plain())?["loss"], model.fit((&x, &y), plain())?["loss"]);
    for (checkpoint, problem) in [
        (ModelCheckpoint::new(path("x.safetensors")).mode("maximum"), "mode: expected \"max\""),
        (ModelCheckpoint::new(path("x.safetensors")).save_freq(0), "save_freq: expected at least 1"),
        (
            ModelCheckpoint::new(path("x.safetensors")).save_best_only(true),
            "monitor: expected one of accuracy, loss",
        ),
        (ModelCheckpoint::new(path("x-{batch}.safetensors")), "`batch`"),
    ] {
        let error = model.fit((&x, &y), fit(checkpoint)).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    for (fit, name) in [
        (Fit::epochs(1).callback(EarlyStopping::new("loss").mode("up")), "mode"),
        (Fit::epochs(1).callback(ReduceLROnPlateau::new("loss").mode("up")), "mode"),
    ] {
        let error = model.fit((&x, &y), fit.verbose(false)).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
    Ok(())
}

#[test]
fn a_shared_callback_keeps_the_best_of_two_fits() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, x, y) = trained_model()?;
    let path = folder.path().join("best.safetensors");
    let best = ModelCheckpoint::new(&path).monitor("loss").save_best_only(true);
    let best = SharedCallback::new(best);
    let fit = || Fit::epochs(1).verbose(false).callback(best.clone());
    model.fit((&x, &y), fit())?;
    let first = fs::read(&path).unwrap();
    // With wrong targets, the second training is always worse.
    model.fit((&x, &y.eq(0u8)?), fit())?;
    assert_eq!(fs::read(&path).unwrap(), first, "the worse epoch has replaced the better one");
    let unknown = SharedCallback::new(EarlyStopping::new("val_loss"));
    assert!(model.fit((&x, &y), Fit::epochs(1).verbose(false).callback(unknown)).is_err());
    Ok(())
}

#[test]
fn layers_are_frozen_by_their_indices_in_keras() -> Result<()> {
    // `for layer in base.layers[:15]: layer.trainable = False`; for ResNet50 `[:143]`.
    let base =
        Vgg16::new(Weights::Random(0)).alpha(0.1).include_top(false).input_shape((3, 64, 64)).build()?;
    let trainable = |model: &Model| {
        let mut rows = model.summary().rows;
        rows.sort_by_key(|row| row.number);
        rows.into_iter().filter(|row| row.state() == "trainable").map(|row| row.name).collect::<Vec<_>>()
    };
    base.freeze_until(14)?;
    assert_eq!(trainable(&base), ["block5_conv1", "block5_conv2", "block5_conv3"]);
    base.freeze();
    base.unfreeze_from(16)?;
    assert_eq!(trainable(&base), ["block5_conv2", "block5_conv3"]);
    base.freeze();
    base.unfreeze_from(-4)?;
    assert_eq!(trainable(&base).len(), 3);
    base.unfreeze_from(0)?;
    assert_eq!(trainable(&base).len(), 13);
    base.freeze_until(0)?;
    assert_eq!(trainable(&base).len(), 13, "the input has no weights");
    let resnet =
        ResNet50::new(Weights::Random(0)).alpha(0.1).include_top(false).input_shape((3, 64, 64)).build()?;
    resnet.freeze_until(142)?;
    assert_eq!(trainable(&resnet)[0], "conv5_block1_1_conv");
    assert!(resnet.layer(1).is_err() && resnet.layer(2).is_ok() && resnet.layer(0).is_ok());
    // TensorFlow's tutorial of transfer learning trains `layers[100:]` of MobileNetV2; 1,281 weights are in its top.
    let mobile = MobileNetV2::new(Weights::Random(0)).include_top(false).input_shape((3, 64, 64)).build()?;
    mobile.freeze_until(99)?;
    assert_eq!(mobile.summary().trainable, 1_862_721 - 1_281);
    // A Sequential does not count its input, and a nested model is one layer.
    let model = sequential![base, Flatten, Dense::new(2)]?;
    let numbers: Vec<usize> = model.summary().rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
    model.freeze_until(0)?;
    assert_eq!(trainable(&model), ["dense"]);
    let error = model.unfreeze_from(-4).unwrap_err().to_string();
    assert!(error.contains("from -3 to 2") && error.contains("the model `vgg16` counts as one"), "{error}");
    Ok(())
}

/// A notebook cell preserves only variables whose type can be named.
#[test]
fn learning_rate_scheduler_has_a_nameable_type() {
    let kept: Vec<LearningRateScheduler> =
        vec![LearningRateScheduler::new(|epoch, rate| if epoch < 5 { rate } else { rate * 0.5 })];
    let factor = 0.5;
    let other: LearningRateScheduler = LearningRateScheduler::new(move |_, rate| rate * factor);
    assert_eq!(kept.into_iter().chain([other]).count(), 2);
}

/// Expected values from Keras 3.15: `losses.MeanAbsoluteError()(t, o)` and so on.
#[test]
fn losses_on_outputs_of_any_rank_match_keras() -> Result<()> {
    let rows = |values: [[f32; 3]; 2]| Tensor::new(&values, &device());
    let (y, p) = (rows([[0., 1., 1.], [1., 0., 0.]])?, rows([[0.1, 0.8, 0.3], [0.9, 0.6, 0.]])?);
    let (t, o) = (rows([[0., 3., -1.], [1., 0.5, 2.]])?, rows([[0.4, 0., -1.], [-2., 0.5, 3.2]])?);
    let score = |loss: BuiltInLoss, targets: &Tensor, outputs: &Tensor| -> Result<(f64, f64)> {
        let mut model = sequential![Input::new(outputs.dims()[1..].to_vec()), Activation::Linear]?;
        model.compile(Adam::default(), loss, [Accuracy]);
        let scores = model.evaluate(outputs, targets)?;
        Ok((scores["loss"], scores["accuracy"]))
    };
    let maps = |t: &Tensor| t.reshape((2, 3, 1, 1));
    for (loss, targets, outputs, expected) in [
        (MeanAbsoluteError, &t, &o, 1.266_666_6),
        (Huber, &t, &o, 0.963_333_4),
        (BinaryFocalCrossentropy, &y, &p, 0.155_140_7),
        (BinaryFocalCrossentropy.from_logits(true), &y, &o, 1.036_837_8),
        (BinaryCrossentropy, &maps(&y)?, &maps(&p)?, 0.425_688),
        (MeanSquaredError, &maps(&y)?, &maps(&p)?, 0.151_666_7),
    ] {
        let found = score(loss, targets, outputs)?.0;
        assert!((found - expected).abs() < 1e-5, "{}: {found}, {expected}", loss.name());
    }
    // Each pixel is counted on its own, as in Keras's `BinaryAccuracy`.
    assert!((score(BinaryCrossentropy, &maps(&y)?, &maps(&p)?)?.1 - 2.0 / 3.0).abs() < 1e-6);
    // An autoencoder and a segmentation mask train.
    let x = random_uniform((16, 1, 6, 6), 0.0, 1.0)?;
    let mask = x.gt(0.5)?.to_dtype(DType::F32)?;
    let pixelwise = || Conv2D::new(1, 1).activation(Sigmoid);
    for (loss, target) in
        [(MeanSquaredError, &x), (MeanAbsoluteError, &x), (Huber, &x), (BinaryFocalCrossentropy, &mask)]
    {
        // With ReLU, all four feature maps of some random weights are 0.
        let hidden = Conv2D::new(4, 3).padding(Padding::Same).activation(Tanh);
        let mut model = sequential![Input::new((1, 6, 6)), hidden, pixelwise()]?;
        model.compile(Adam::new(0.02), loss, []);
        let history = model.fit((&x, target), Fit::epochs(20).verbose(false))?;
        let losses = &history["loss"];
        assert!(losses[19] < 0.9 * losses[0], "{}: {losses:?}", loss.name());
    }
    Ok(())
}

/// A metric that records the size of each batch.
#[derive(Clone, Default)]
struct Sizes(std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

impl Metric for Sizes {
    fn name(&self) -> &str {
        "sizes"
    }

    fn update_state(&mut self, targets: &Tensor, _: &Tensor) -> Result<()> {
        self.0.lock().unwrap().push(targets.dim(0)?);
        Ok(())
    }

    fn result(&self) -> f64 {
        0.0
    }
}

#[test]
fn validation_has_its_own_batch_size() -> Result<()> {
    let (x, y) = (random_uniform((10, 2), 0.0, 1.0)?, random_uniform(10, 0.0, 1.0)?);
    let (few, of_few) = (x.i(..7)?, y.i(..7)?);
    let sizes = |fit: Fit| -> Result<Vec<usize>> {
        let seen = Sizes::default();
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(0.1), MeanSquaredError, [seen.clone().into()]);
        model.fit((&x, &y), fit.verbose(false).chart(false))?;
        let sizes = seen.0.lock().unwrap().clone();
        Ok(sizes)
    };
    let fit = || Fit::epochs(1).batch_size(5);
    // As in Keras, the default is the batch size of training, independent of the order of the options.
    assert_eq!(sizes(Fit::epochs(1).validation_data((&few, &of_few)).batch_size(5))?, [5, 5, 5, 2]);
    assert_eq!(sizes(fit().validation_data((&few, &of_few)).validation_batch_size(4))?, [5, 5, 4, 3]);
    assert_eq!(sizes(fit().validation_batch_size(2).validation_split(0.4))?, [5, 1, 2, 2]);
    // Data sets with their own batches keep them.
    let samples = headstart::data::Samples::new(&few, &of_few, 3, false)?;
    assert_eq!(sizes(fit().validation_data(samples).validation_batch_size(2))?, [5, 5, 3, 3, 1]);
    let flow = ImageDataGenerator::new().flow(&random_uniform((4, 3, 2, 2), 0.0, 1.0)?, &y.i(..4)?, 3)?;
    assert!(headstart::data::IntoDataset::has_batches(&flow));
    let problem =
        sizes(fit().validation_data((&few, &of_few)).validation_batch_size(0)).unwrap_err().to_string();
    assert!(problem.contains("validation_batch_size: expected at least 1, found 0"), "{problem}");
    Ok(())
}
