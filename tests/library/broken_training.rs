//! Failed training ends with an error and keeps finished epochs. It never hangs and never silently gives wrong results.

use std::panic::{AssertUnwindSafe, catch_unwind};

use headstart::data::{Batch, Dataset, IntoDataset};
use headstart::prelude::*;
use headstart::{Error, Result};

use super::datasets::Generator;

fn samples(count: usize) -> Result<(Tensor, Tensor)> {
    Ok((random_uniform((count, 2), 0.0, 1.0)?, random_uniform(count, 0.0, 1.0)?))
}

fn linear(optimizer: SGD) -> Result<Model> {
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(optimizer, MeanSquaredError, []);
    Ok(model)
}

fn quiet(epochs: usize) -> Fit {
    Fit::epochs(epochs).verbose(false).advice(false)
}

#[test]
fn divergence_is_an_error_and_keeps_finished_epochs() -> Result<()> {
    for chart in [true, false] {
        let (x, y) = samples(16)?;
        let mut model = linear(SGD::new(1e3))?;
        let fit = quiet(200).chart(chart).validation_data((&x, &y));
        let error = model.fit((&x, &y), fit).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        let history = model.history()?;
        assert!((1..200).contains(&history.epochs()), "{}", history.epochs());
        assert!(history["val_loss"].iter().all(|loss| loss.is_finite()), "{:?}", &history["val_loss"]);
        history.plot()?;
    }
    Ok(())
}

#[test]
fn non_finite_validation_losses_are_errors_or_end_training() -> Result<()> {
    let (x, y) = samples(16)?;
    let huge = (random_uniform((4, 2), 1.0, 2.0)? * 1e30)?;
    let validation = (&huge, &y.narrow(0, 0, 4)?);
    let mut model = linear(SGD::new(1e-3))?;
    let error = model.fit((&x, &y), quiet(3).validation_data(validation)).unwrap_err();
    assert!(matches!(error, Error::NotFinite { validation: true, epoch: 1, batch: 1, .. }), "{error}");
    assert!(error.to_string().contains("the validation loss is inf at epoch 1"), "{error}");
    let history = model.fit((&x, &y), quiet(3).validation_data(validation).callback(TerminateOnNaN))?;
    assert_eq!(history.epochs(), 0);
    Ok(())
}

/// `fit` stops at the loss of the batch, after the forward pass.
#[test]
fn a_batch_with_nan_leaves_the_moving_statistics() -> Result<()> {
    let mut model = sequential![Input::new(2), BatchNormalization::default(), Dense::new(1)]?;
    model.compile(SGD::new(1e-3), MeanSquaredError, []);
    let (x, y) = samples(8)?;
    let before = model.predict(&x)?;
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut rows = x.to_vec2::<f32>()?;
        rows.iter_mut().for_each(|row| *row = vec![wrong; 2]);
        assert!(model.fit((&Tensor::new(rows, &device())?, &y), quiet(1)).is_err());
        assert_eq!(model.predict(&x)?, before, "{wrong}");
    }
    Ok(())
}

#[test]
fn a_callback_that_stays_locked_is_an_error() -> Result<()> {
    let (x, y) = samples(8)?;
    let mut model = linear(SGD::new(1e-3))?;
    let shared = SharedCallback::new(EarlyStopping::new("loss"));
    let held = shared.lock();
    let error = model.fit((&x, &y), quiet(1).callback(shared.clone())).unwrap_err();
    assert!(error.to_string().contains("drop what `lock()` returned"), "{error}");
    drop(held);
    assert_eq!(model.fit((&x, &y), quiet(1).callback(shared.clone()))?.epochs(), 1);
    Ok(())
}

#[test]
fn augmentation_panics_are_errors_of_fit() -> Result<()> {
    let x = random_uniform((8, 3, 8, 8), 0.0, 255.0)?;
    let y = random_uniform(8, 0.0, 1.0)?;
    let mut model = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1)]?;
    model.compile(SGD::new(1e-9), MeanSquaredError, []);
    let datagen =
        ImageDataGenerator::new().preprocessing_function(|image| assert!(image.len() < 10, "too long"));
    let flow = datagen.flow(&x, &y, 4)?;
    let error = model.fit(flow.clone(), quiet(2)).unwrap_err().to_string();
    for part in ["augmentation of batch 1 panicked: too long", "preprocessing_function"] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let error = model.fit((&x, &y), quiet(2).validation_data(flow)).unwrap_err().to_string();
    assert!(error.contains("panicked: too long"), "{error}");
    Ok(())
}

#[test]
fn missing_batches_are_errors_and_extra_batches_are_ignored() -> Result<()> {
    let of = |announced, given| Generator { announced, given };
    let mut model = linear(SGD::new(1e-3))?;
    for (announced, given) in [(0, 0), (3, 0), (3, 2)] {
        let error = model.fit(of(announced, given), quiet(2)).unwrap_err().to_string();
        assert!(error.contains(&format!("found {given}")) && error.contains("batches"), "{error}");
        let (x, y) = samples(4)?;
        let error =
            model.fit((&x, &y), quiet(2).validation_data(of(announced, given))).unwrap_err().to_string();
        assert!(error.contains(&format!("found {given}")), "{error}");
    }
    // A dataset with endless batches.
    let history = model.fit(of(3, usize::MAX), quiet(2).validation_data(of(2, usize::MAX)))?;
    assert_eq!((history.epochs(), history["val_loss"].len()), (2, 2));
    Ok(())
}

#[test]
fn learning_rate_finder_handles_missing_batches_nan_and_panics() -> Result<()> {
    let mut model = linear(SGD::new(1e-3))?;
    let empty = Generator { announced: 3, given: 0 };
    assert!(model.find_learning_rate(empty, 4).unwrap_err().to_string().contains("found 0"));
    let (x, y) = (Tensor::full(f32::NAN, (8, 2), &device())?, random_uniform(8, 0.0, 1.0)?);
    assert!(matches!(model.find_learning_rate((&x, &y), 4), Err(Error::NotFinite { .. })));
    let before = model.params()[0].var().to_vec2::<f32>()?;
    struct Panicking;
    impl Dataset for Panicking {
        fn batches(&self) -> usize {
            1
        }

        fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
            panic!("the dataset panics")
        }
    }
    impl IntoDataset for Panicking {
        fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
            Ok(Box::new(self))
        }
    }
    assert!(catch_unwind(AssertUnwindSafe(|| model.find_learning_rate(Panicking, 4))).is_err());
    // Weights, learning rate and optimizer are restored, and the model is still compiled.
    assert_eq!(model.params()[0].var().to_vec2::<f32>()?, before);
    let (x, y) = samples(4)?;
    let history = model.fit((&x, &y), quiet(1))?;
    assert_eq!(history.learning_rates, [1e-3]);
    Ok(())
}

#[test]
fn history_survives_errors_and_panics() -> Result<()> {
    let (x, y) = samples(8)?;
    let mut model = linear(SGD::new(1e-3))?;
    assert!(model.history().unwrap_err().to_string().contains("call `fit` first"));
    let failing = |epoch: usize, panics: bool| {
        quiet(5).on_epoch_end(move |training| {
            if training.epoch() < epoch {
                return Ok(());
            }
            assert!(!panics, "the callback panics");
            training.value("no such number").map(|_| ())
        })
    };
    assert!(model.fit((&x, &y), failing(3, false)).is_err());
    assert_eq!(model.history()?.epochs(), 3);
    assert!(catch_unwind(AssertUnwindSafe(|| model.fit((&x, &y), failing(2, true)))).is_err());
    assert_eq!(model.history()?["loss"].len(), 2);
    // The model is still compiled, and a successful fit stores the history that it returns.
    let history = model.fit((&x, &y), quiet(4))?;
    assert_eq!(model.history()?["loss"], history["loss"]);
    Ok(())
}

#[test]
fn backups_with_an_initial_epoch_are_restored() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.backup");
    let (x, y) = samples(8)?;
    let train = |fails_at: usize| {
        let fit = quiet(6).initial_epoch(2).callback(BackupAndRestore::new(&path));
        let fit = fit.on_epoch_end(move |training| match training.epoch() == fails_at {
            true => training.value("no such number").map(|_| ()),
            false => Ok(()),
        });
        linear(SGD::new(1e-3))?.fit((&x, &y), fit)
    };
    assert!(train(5).is_err());
    assert_eq!(train(0)?.epochs(), 4);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn failed_fine_tuning_keeps_the_epochs_of_the_head() -> Result<()> {
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    model.compile(Adam::new(1e-3), BinaryCrossentropy, []);
    let x = random_uniform((4, 3, 64, 64), -2.0, 2.0)?;
    let y = random_uniform(4, 0.0, 1.0)?.gt(0.5)?;
    let rest = quiet(3).on_epoch_end(|training| training.value("no such number").map(|_| ()));
    assert!(model.fine_tune((&x, &y), "block5_conv1", quiet(2), rest).is_err());
    assert_eq!(model.history()?.epochs(), 3);
    // After a panic too.
    let panicking = quiet(3).on_epoch_end(|training| match training.epoch() {
        2 => panic!("a fault"),
        _ => Ok(()),
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        model.fine_tune((&x, &y), "block5_conv1", quiet(2), panicking).map(drop)
    }));
    assert!(panicked.is_err());
    assert_eq!(model.history()?.epochs(), 4);
    model.compile(Adam::new(1e-3), BinaryCrossentropy, []);
    // A second phase that is refused adds no epoch.
    let refused = quiet(3).callback(EarlyStopping::new("no such number"));
    assert!(model.fine_tune((&x, &y), "block5_conv1", quiet(2), refused).is_err());
    assert_eq!(model.history()?.epochs(), 2);
    Ok(())
}

#[test]
fn fine_tuning_with_a_schedule_fails_before_the_head_is_trained() -> Result<()> {
    let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    let (x, y) = (random_uniform((4, 3, 64, 64), -2.0, 2.0)?, random_uniform(4, 0.0, 1.0)?.gt(0.5)?);
    let uncompiled = model.fine_tune((&x, &y), "block5_conv1", quiet(1), quiet(1));
    assert!(uncompiled.unwrap_err().to_string().contains("compile"));
    model.compile(Adam::new(Schedule::cosine_decay(1e-3, 10)), BinaryCrossentropy, []);
    let error = model.fine_tune((&x, &y), "block5_conv1", quiet(1), quiet(1)).unwrap_err();
    assert!(error.to_string().contains("schedule"), "{error}");
    assert!(model.history().is_err(), "the head was trained");
    Ok(())
}

#[test]
fn a_history_without_epochs_takes_all_of_the_later_one() -> Result<()> {
    let (x, y) = samples(8)?;
    let mut model = linear(SGD::new(1e-3))?;
    let mut first = model.fit((&x, &y), quiet(0))?;
    let later = model.fit((&x, &y), quiet(2).validation_data((&x, &y)))?;
    first.append(later);
    assert_eq!((first.epochs(), first["val_loss"].len()), (2, 2));
    Ok(())
}

/// Validation data are evaluated after the first epoch, which can take an hour.
#[test]
fn validation_data_that_do_not_fit_are_refused_before_training() -> Result<()> {
    let x = samples(8)?.0;
    let classes = |last: u32| Tensor::new(&[0u32, 1, 0, 1, 0, 1, 0, last], &device());
    let (right, wrong, wide) = (classes(1)?, classes(2)?, random_uniform((8, 3), 0.0, 1.0)?);
    for (x_val, y_val) in [(&wide, &right), (&x, &wrong)] {
        let mut model = sequential![Input::new(2), Dense::new(2).activation(Softmax)]?;
        model.compile(SGD::new(0.1), SparseCategoricalCrossentropy, []);
        let before = model.predict(&x)?;
        assert!(model.fit((&x, &right), quiet(1).validation_data((x_val, y_val))).is_err());
        assert_eq!(model.predict(&x)?, before);
        assert!(model.history().is_err(), "an epoch was trained");
    }
    Ok(())
}

/// Writes a backup at epoch 3 and fails, or resumes from it.
fn backed_up(model: &mut Model, path: &std::path::Path, fails: bool) -> Result<History> {
    let (x, _) = samples(8)?;
    let y = random_uniform((8, model.output_shape()[0]), 0.0, 1.0)?;
    let fit = quiet(5).callback(BackupAndRestore::new(path)).on_epoch_end(move |training| {
        if fails && training.epoch() == 4 { training.value("no such value").map(|_| ()) } else { Ok(()) }
    });
    model.fit((&x, &y), fit)
}

#[test]
fn a_backup_of_another_model_or_optimizer_is_refused_and_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.backup");
    let model = |units: usize| -> Result<Model> {
        let mut model = sequential![Input::new(2), Dense::new(4).activation(Relu), Dense::new(units)]?;
        model.compile(Adam::new(0.01), MeanSquaredError, []);
        Ok(model)
    };
    assert!(backed_up(&mut model(1)?, &path, true).is_err());
    let x = samples(4)?.0;
    let mut with_sgd = model(1)?;
    with_sgd.compile(SGD::new(0.01).momentum(0.9), MeanSquaredError, []);
    for (mut other, expected) in [
        (model(2)?, "is missing or of another shape"),
        (with_sgd, "expected a training with SGD, found one with Adam"),
    ] {
        let before = other.predict(&x)?;
        let error = backed_up(&mut other, &path, false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(other.predict(&x)?, before, "{expected}");
    }
    // A `fit` of fewer epochs trains nothing, and keeps the backup.
    let (x, y) = samples(8)?;
    let shorter = quiet(2).callback(BackupAndRestore::new(&path));
    assert_eq!(model(1)?.fit((&x, &y), shorter)?.epochs(), 3);
    assert_eq!(backed_up(&mut model(1)?, &path, false)?.epochs(), 5);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn training_does_not_need_the_folder_of_cached_features() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let base = ResNet18::new(Weights::Random(1)).alpha(0.1).include_top(false).pooling(Pooling::Avg);
    let base = base.input_shape((3, 32, 32)).build()?;
    base.freeze();
    let (x, y) = (random_uniform((8, 3, 32, 32), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let fit = |cache: &std::path::Path| {
        let mut model = sequential![&base, Dense::new(1)]?;
        model.compile(SGD::new(1e-3), MeanSquaredError, []);
        model.fit((&x, &y), quiet(2).cache_folder(cache))
    };
    // A file in place of the folder, and a folder in place of the features: neither can be used or removed.
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(fit(&folder.path().join("file"))?.epochs(), 2);
    let cache = folder.path().join("cache");
    fit(&cache)?;
    let entries = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let mut features = entries.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    let features = features.next().expect("the features are cached");
    std::fs::remove_file(&features).unwrap();
    std::fs::create_dir(&features).unwrap();
    assert_eq!(fit(&cache)?.epochs(), 2);
    Ok(())
}

#[cfg(unix)]
#[test]
#[ignore = "started by computations_of_many_samples_end_when_they_are_interrupted in a process of its own"]
fn compute_while_interrupted() -> Result<()> {
    let base = sequential![Input::new((3, 8, 8)), Conv2D::new(2, 3), GlobalAveragePooling2D]?;
    let (x, y) = (random_uniform((40, 3, 8, 8), 0.0, 1.0)?, Tensor::zeros(40, DType::U32, &device())?);
    headstart::start();
    let id = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    while headstart::check_interrupt().is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let whitening = ImageDataGenerator::new().zca_whitening(true);
    let found = [
        Embedding::new(&x, &y, &["one"]).map(drop),
        whitening.fit(&x).map(drop),
        base.grad_cam(&x, GradCam::new()).map(drop),
        base.outputs_of(&["conv2d"], &x).map(drop),
    ];
    for (at, found) in found.iter().enumerate() {
        assert!(matches!(found, Err(Error::Interrupted)), "{at}: {found:?}");
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn computations_of_many_samples_end_when_they_are_interrupted() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "broken_training::compute_while_interrupted", "--ignored"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn outputs_and_heat_maps_of_many_images_are_those_of_each() -> Result<()> {
    let model = sequential![
        Input::new((3, 8, 8)),
        Conv2D::new(4, 3).activation(Relu),
        GlobalAveragePooling2D,
        Dense::new(3).activation(Softmax)
    ]?;
    let x = random_uniform((70, 3, 8, 8), 0.0, 1.0)?;
    let maps = model.outputs_of(&["conv2d", "dense"], &x)?;
    let heat = model.grad_cam(&x, GradCam::new())?;
    assert_eq!((maps[0].dims(), maps[1].dims()), (&[70, 4, 6, 6][..], &[70, 3][..]));
    assert_eq!((heat.maps.dims(), heat.classes.len()), (&[70, 8, 8][..], 70));
    let far = |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a - b)?.abs()?.max_all()?.to_scalar()?) };
    for at in [0, 31, 32, 69] {
        let one = x.narrow(0, at, 1)?;
        let alone = model.outputs_of(&["conv2d", "dense"], &one)?;
        for (all, alone) in maps.iter().zip(&alone) {
            assert!(far(&all.narrow(0, at, 1)?, alone)? < 1e-5, "{at}");
        }
        let of_one = model.grad_cam(&one, GradCam::new())?;
        assert_eq!(of_one.classes, heat.classes[at..=at]);
        assert!(far(&heat.maps.narrow(0, at, 1)?, &of_one.maps)? < 1e-4, "{at}");
    }
    Ok(())
}
