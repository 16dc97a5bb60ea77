//! One seed drives everything random. Alone in their process, and one after the other, for the seed
//! is the process's own.

mod small;

use std::sync::{Mutex, MutexGuard};

use headstart::Result;
use headstart::prelude::*;
use small::small;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[test]
fn the_program_trains_on_its_dummy_data_and_repeats_itself() -> Result<()> {
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
fn features_that_are_cached_change_no_number() -> Result<()> {
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
fn a_saved_model_goes_on_where_it_was() -> Result<()> {
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
        // What dropout draws next is not the model's to keep.
        set_random_seed(5);
        Ok(columns(&model.fit((&x, &y), fit())?))
    };
    assert_eq!(run(true)?, run(false)?);
    // A file of weights with an optimizer's state is one of weights too.
    small(Some("block5_conv2"))?.0.load_weights(&path)
}

#[test]
fn as_many_views_as_epochs_are_the_generators_own() -> Result<()> {
    let _alone = alone();
    let run = |views: Option<usize>| -> Result<Vec<Vec<f64>>> {
        let (mut model, x, y) = small(None)?;
        let data = ImageDataGenerator::new().rotation_range(20.0).horizontal_flip(true).flow(&x, &y, 5)?;
        let fit = Fit::epochs(3).verbose(false).advice(false);
        let fit = if let Some(views) = views { fit.augmented_views(views) } else { fit };
        Ok(columns(&model.fit(data, fit)?))
    };
    assert_eq!(run(Some(3))?, run(None)?);
    Ok(())
}

#[test]
fn weights_of_samples_and_of_classes_are_one() -> Result<()> {
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
fn the_number_of_threads_changes_no_number() -> Result<()> {
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
fn a_training_that_was_cut_off_goes_on_as_if_it_had_not_been() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.backup");
    let data = |x: &Tensor, y: &Tensor| ImageDataGenerator::new().rotation_range(20.0).flow(x, y, 5);
    let fit = || Fit::epochs(5).verbose(false).advice(false);
    let (mut model, x, y) = small(Some("block5_conv1"))?;
    let whole = model.fit(data(&x, &y)?, fit().callback(BackupAndRestore::new(&path)))?;
    assert!(!path.exists());
    // The same program, ended in its third epoch, and run again.
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
