//! All randomness comes from one seed. These tests have a process of their own and run one after another, because the
//! seed is global to the process.

#[path = "../../gpu/tests/fake/mod.rs"]
mod fake;
mod small;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use headstart::Result;
use headstart::prelude::*;
use headstart::train::{Callback, Training};
use small::{of_raw_pixels, small};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A process uses one device, so the tests start again with `HEADSTART_DEVICE=gpu`, on the fake driver.
#[test]
fn all_of_this_holds_on_the_gpu_path() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--skip", "all_of_this_holds_on_the_gpu_path", "--nocapture"])
        .env("HEADSTART_DEVICE", "gpu");
    // Another way that a test can choose, on the CPU.
    command.env_remove("HEADSTART_TEST_DEVICE_PATH");
    if !fake::is_real() {
        command.env("HEADSTART_CUDA_LIBRARIES", fake::folder());
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", String::from_utf8_lossy(&output.stdout));
    assert!(stderr.contains("models run on"), "{stderr}");
}

#[test]
fn the_tutorial_program_is_reproducible() -> Result<()> {
    let _alone = alone();
    let run = || {
        set_random_seed(7);
        let x = Tensor::from_vec(
            (0..4 * 3 * 1024).map(|i| (i * 31 % 255) as f32 / 255.0).collect(),
            (4, 3, 32, 32),
            &device(),
        )?;
        let y = Tensor::new(&[0f32, 1.0, 0.0, 1.0], &device())?;
        let base_model =
            Vgg16::new(Weights::Random(0)).include_top(false).input_shape((3, 32, 32)).build()?;
        base_model.freeze();
        let mut model = sequential![
            base_model,
            Flatten,
            Dense::new(128).activation(Relu),
            Dropout::new(0.5),
            Dense::new(1).activation(Sigmoid)
        ]?;
        model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
        let datagen = ImageDataGenerator::new()
            .rotation_range(20.0)
            .width_shift_range(0.2)
            .height_shift_range(0.2)
            .horizontal_flip(true);
        datagen.fit(&x)?;
        let history = model.fit(datagen.flow(&x, &y, 4)?, Fit::epochs(10).verbose(false))?;
        let pred = model.predict(&x.i(..1)?)?;
        Ok::<_, headstart::Error>((history, pred[0][0]))
    };
    let (history, pred) = run()?;
    assert_eq!(history.epochs(), 10);
    assert!((0.0..=1.0).contains(&pred));
    let chart = history.plot()?;
    assert!(chart.svg().starts_with("<svg") && chart.text().contains("loss"));
    let (again, same) = run()?;
    assert_eq!((&history["loss"], pred), (&again["loss"], same));
    Ok(())
}

fn columns(history: &History) -> Vec<Vec<f64>> {
    history.names().iter().map(|name| history[name.as_str()].to_vec()).collect()
}

#[test]
fn cached_features_do_not_change_results() -> Result<()> {
    let _alone = alone();
    for unfrozen_from in [None, Some("block5_conv2")] {
        let run = |fit: Fit| -> Result<Vec<Vec<f64>>> {
            let (mut model, x, y) = small(unfrozen_from)?;
            let fit = fit.batch_size(5).verbose(false).advice(false);
            Ok(columns(&model.fit((&x, &y), fit.validation_split(0.2))?))
        };
        let without = run(Fit::epochs(4).cache_features(false))?;
        assert_eq!(run(Fit::epochs(4))?, without, "in memory, unfrozen from {unfrozen_from:?}");
        let in_a_file = run(Fit::epochs(4).cache_memory(0))?;
        assert_eq!(in_a_file, without, "in a file, unfrozen from {unfrozen_from:?}");
    }
    Ok(())
}

#[test]
fn saved_models_resume_training_exactly() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let run = |through_a_file: bool| -> Result<Vec<Vec<f64>>> {
        let (mut model, x, y) = small(Some("block5_conv2"))?;
        let rate = Schedule::exponential_decay(1e-3, 5, 0.5);
        let optimizer = AdamW::new(rate).clipnorm(1.0).layerwise_decay(&model, 0.8);
        model.compile(optimizer, BinaryCrossentropy.label_smoothing(0.1), [Accuracy, AUC]);
        let fit = || Fit::epochs(2).batch_size(5).shuffle(false).verbose(false).advice(false);
        model.fit((&x, &y), fit())?;
        if through_a_file {
            model.save(&path)?;
            model = Model::load(&path)?;
        }
        // The random stream of dropout is not part of the model.
        set_random_seed(5);
        Ok(columns(&model.fit((&x, &y), fit())?))
    };
    assert_eq!(run(true)?, run(false)?);
    // A file with weights and optimizer state can be loaded as weights.
    small(Some("block5_conv2"))?.0.load_weights(&path)
}

#[test]
fn one_view_per_epoch_matches_the_generator() -> Result<()> {
    let _alone = alone();
    let run = |views: Option<usize>, memory: usize| -> Result<Vec<Vec<f64>>> {
        let (mut model, x, y) = small(None)?;
        let data = ImageDataGenerator::new().rotation_range(20.0).horizontal_flip(true).flow(&x, &y, 5)?;
        let fit = Fit::epochs(5).verbose(false).advice(false).cache_memory(memory);
        let fit = if let Some(views) = views { fit.augmented_views(views) } else { fit };
        Ok(columns(&model.fit(data, fit)?))
    };
    let plenty = 1 << 30;
    assert_eq!(run(Some(5), plenty)?, run(None, plenty)?);
    // Repeated views are equal from memory, from a file, and from both.
    let again = run(Some(2), plenty)?;
    assert_eq!(run(Some(2), 0)?, again, "in a file");
    assert_eq!(run(Some(2), 20_000)?, again, "partly in a file");
    Ok(())
}

#[test]
fn sample_weights_match_class_weights() -> Result<()> {
    let _alone = alone();
    let run = |by_class: bool| -> Result<Vec<Vec<f64>>> {
        let (mut model, x, y) = small(None)?;
        let fit = Fit::epochs(2).verbose(false);
        let weights = y.to_dtype(DType::F32)?.affine(2.0, 1.0)?;
        let history = match by_class {
            true => model.fit((&x, &y), fit.class_weight([(0, 1.0), (1, 3.0)]))?,
            false => model.fit((&x, &y, &weights), fit)?,
        };
        Ok(columns(&history))
    };
    assert_eq!(run(true)?, run(false)?);
    Ok(())
}

#[test]
fn training_does_not_depend_on_the_number_of_threads() -> Result<()> {
    let _alone = alone();
    let run = |threads: usize| -> Result<Vec<Vec<f64>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut model, x, y) = small(Some("block4_conv2"))?;
            let data =
                ImageDataGenerator::new().rotation_range(20.0).horizontal_flip(true).flow(&x, &y, 5)?;
            Ok(columns(&model.fit(data, Fit::epochs(2).verbose(false).advice(false))?))
        })
    };
    let one = run(1)?;
    assert_eq!(run(2)?, one);
    assert_eq!(run(5)?, one);
    Ok(())
}

#[test]
fn interrupted_training_resumes_exactly() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.backup");
    let data = |x: &Tensor, y: &Tensor| ImageDataGenerator::new().rotation_range(20.0).flow(x, y, 5);
    let fit = || Fit::epochs(5).verbose(false).advice(false);
    let (mut model, x, y) = small(Some("block5_conv1"))?;
    let whole = model.fit(data(&x, &y)?, fit().callback(BackupAndRestore::new(&path)))?;
    assert!(!path.exists());
    // The same program, interrupted in its third epoch, and started again.
    let (mut model, x, y) = small(Some("block5_conv1"))?;
    let cut = fit().callback(BackupAndRestore::new(&path)).on_epoch_end(|training| match training.epoch() {
        3 => Err(headstart::Error::Interrupted),
        _ => Ok(()),
    });
    model.fit(data(&x, &y)?, cut)?;
    assert!(path.exists());
    let (mut model, x, y) = small(Some("block5_conv1"))?;
    let rest = model.fit(data(&x, &y)?, fit().callback(BackupAndRestore::new(&path)))?;
    assert_eq!((rest.epochs(), columns(&rest)), (5, columns(&whole)));
    Ok(())
}

/// Trains a small model with all callbacks that have state. `breaks` fails after the callbacks of that epoch, before
/// its backup.
fn trained_with_callbacks(
    folder: &std::path::Path,
    schedule: bool,
    breaks: Option<usize>,
) -> Result<(History, Vec<f32>, String)> {
    set_random_seed(11);
    let (x, y) = (random_uniform((24, 4), -1.0, 1.0)?, random_uniform(24, 0.0, 1.0)?);
    let mut model =
        sequential![Input::new(4), Dense::new(8).activation(Tanh), Dropout::new(0.3), Dense::new(1)]?;
    model.compile(Adam::new(0.3), MeanSquaredError, []);
    let path = |name: &str| folder.join(name);
    let mut fit = Fit::epochs(14)
        .batch_size(8)
        .validation_split(0.25)
        .verbose(false)
        .advice(false)
        .callback(BackupAndRestore::new(path("training.backup")))
        .callback(EarlyStopping::new("val_loss").patience(6).restore_best_weights(true))
        .callback(EarlyStopping::new("loss").patience(9))
        .callback(ModelCheckpoint::new(path("best.safetensors")).monitor("val_loss").save_best_only(true))
        .callback(CSVLogger::new(path("log.csv")));
    fit = match schedule {
        true => fit.callback(LearningRateScheduler::new(|_, rate| rate * 0.8)),
        false => fit.callback(ReduceLROnPlateau::new("val_loss").factor(0.5).patience(2).cooldown(1)),
    };
    let fit = fit.on_epoch_end(move |training| match breaks {
        Some(epoch) if training.epoch() == epoch => training.value("no such number").map(|_| ()),
        _ => Ok(()),
    });
    let history = model.fit((&x, &y), fit)?;
    let params = model.params();
    let weights = params.iter().map(|param| Ok(param.var().flatten_all()?.to_vec1::<f32>()?));
    let log = std::fs::read_to_string(path("log.csv")).unwrap();
    Ok((history, weights.collect::<Result<Vec<_>>>()?.concat(), log))
}

#[test]
fn callbacks_resume_exactly_after_an_error() -> Result<()> {
    let _alone = alone();
    for schedule in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, weights, log) = trained_with_callbacks(folder.path(), schedule, None)?;
        let best = std::fs::read(folder.path().join("best.safetensors")).unwrap();
        assert!(whole.learning_rates.last() < whole.learning_rates.first(), "{:?}", whole.learning_rates);
        for epoch in [2, 4, 7, whole.epochs()] {
            let folder = tempfile::tempdir().unwrap();
            assert!(trained_with_callbacks(folder.path(), schedule, Some(epoch)).is_err());
            let (broken, same_weights, same_log) = trained_with_callbacks(folder.path(), schedule, None)?;
            assert_eq!(broken.learning_rates, whole.learning_rates, "broken at {epoch}");
            assert_eq!(columns(&broken), columns(&whole), "broken at {epoch}");
            assert!(same_weights == weights, "broken at {epoch}: other weights");
            assert_eq!(same_log, log, "broken at {epoch}");
            let same = std::fs::read(folder.path().join("best.safetensors")).unwrap();
            assert!(same == best, "broken at {epoch}: another checkpoint");
        }
    }
    Ok(())
}

/// A custom callback with state, including NaN.
struct Counting {
    seen: f64,
    fails_at: Option<usize>,
}

impl Callback for Counting {
    fn on_epoch_end(&mut self, training: &mut Training) -> Result<()> {
        if self.fails_at == Some(training.epoch()) {
            return training.value("no such number").map(|_| ());
        }
        self.seen += 1.0;
        if training.epoch() == 4 {
            assert_eq!(self.seen, 4.0, "epochs seen, those before the break too");
        }
        Ok(())
    }

    fn state(&self) -> Result<HashMap<String, Tensor>> {
        Ok([("seen".to_owned(), Tensor::new(&[self.seen, f64::NAN, f64::INFINITY], &Device::Cpu)?)].into())
    }

    fn set_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let values = state["seen"].to_vec1::<f64>()?;
        assert!(values[1].is_nan() && values[2] == f64::INFINITY, "{values:?}");
        self.seen = values[0];
        Ok(())
    }
}

#[test]
fn backups_include_the_state_of_custom_callbacks() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.backup");
    let (x, y) = (random_uniform((8, 2), 0.0, 1.0)?, random_uniform(8, 0.0, 1.0)?);
    let train = |fails_at| {
        let mut model = sequential![Input::new(2), Dense::new(1)]?;
        model.compile(SGD::new(1e-3), MeanSquaredError, []);
        let fit = Fit::epochs(4).verbose(false).advice(false).callback(BackupAndRestore::new(&path));
        model.fit((&x, &y), fit.callback(Counting { seen: 0.0, fails_at }))
    };
    assert!(train(Some(3)).is_err());
    assert_eq!(train(None)?.epochs(), 4);
    Ok(())
}

#[test]
fn all_dtypes_and_layouts_train_the_same_weights() -> Result<()> {
    let _alone = alone();
    set_random_seed(5);
    let mut model = of_raw_pixels()?;
    let bytes = random_uniform((40, 3, 8, 8), 0.0, 255.0)?.to_dtype(DType::U8)?;
    let (x, y) = (bytes.to_dtype(DType::F32)?, bytes.i((.., 0, 0, 0))?.ge(128u8)?.to_dtype(DType::U32)?);
    let permuted = x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?;
    assert!(!permuted.is_contiguous());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("before.safetensors");
    model.save_weights(&path)?;
    let mut losses = Vec::new();
    for data in [&x, &bytes, &permuted] {
        model.load_weights(&path)?;
        model.compile(SGD::new(0.1), SparseCategoricalCrossentropy, [Accuracy]);
        set_random_seed(9);
        losses.push(model.fit((data, &y), Fit::epochs(2).verbose(false))?["loss"].to_vec());
    }
    assert!(losses[0] == losses[1] && losses[0] == losses[2], "{losses:?}");
    Ok(())
}
