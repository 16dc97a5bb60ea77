//! Arguments outside their ranges are errors that name the argument, before any work is done.

use headstart::Result;
use headstart::prelude::*;
use headstart::train::LearningRate;

fn samples() -> Result<(Tensor, Tensor)> {
    Ok((random_uniform((16, 4), -1.0, 1.0)?, random_uniform(16, 0.0, 1.0)?.gt(0.5)?))
}

fn compiled(optimizer: impl Optimizer + 'static) -> Result<Model> {
    let mut model = sequential![Input::new(4), Dense::new(1).activation(Sigmoid)]?;
    model.compile(optimizer, BinaryCrossentropy, [Accuracy]);
    Ok(model)
}

fn quiet(epochs: usize) -> Fit {
    Fit::epochs(epochs).verbose(false).chart(false)
}

fn fit(optimizer: impl Optimizer + 'static, fit: Fit) -> Result<History> {
    let (x, y) = samples()?;
    compiled(optimizer)?.fit((&x, &y), fit)
}

/// Each case is an error that contains the text.
fn assert_errors<T>(cases: impl IntoIterator<Item = (&'static str, Result<T>)>) {
    for (number, (expected, result)) in cases.into_iter().enumerate() {
        let Err(error) = result else { panic!("case {number} ({expected}) is accepted") };
        assert!(error.to_string().contains(expected), "case {number}: {error}, not {expected}");
    }
}

#[test]
fn optimizers_check_their_settings() {
    let with = |adam: Adam| fit(adam, quiet(1));
    let sgd = |sgd: SGD| fit(sgd, quiet(1));
    assert_errors([
        ("learning_rate", with(Adam::new(-1.0))),
        ("learning_rate", with(Adam::new(f64::NAN))),
        ("learning_rate", sgd(SGD::new(f64::INFINITY))),
        ("beta_1", with(Adam::new(1e-3).beta_1(1.0))),
        ("beta_2", with(Adam::new(1e-3).beta_2(2.0))),
        ("beta_2", with(Adam::new(1e-3).beta_2(f64::NAN))),
        ("epsilon", with(Adam::new(1e-3).epsilon(-1.0))),
        ("momentum", sgd(SGD::new(1e-3).momentum(1.5))),
        ("momentum", sgd(SGD::new(1e-3).momentum(-0.1))),
        ("rho", fit(RMSprop::new(1e-3).rho(1.0), quiet(1))),
        ("momentum", fit(RMSprop::new(1e-3).momentum(f64::NAN), quiet(1))),
        ("clipnorm", with(Adam::new(1e-3).clipnorm(-1.0))),
        ("clipnorm", with(Adam::new(1e-3).clipnorm(f64::NAN))),
        ("global_clipnorm", with(Adam::new(1e-3).global_clipnorm(0.0))),
        ("several kinds", with(Adam::new(1e-3).clipnorm(1.0).clipvalue(0.5))),
        ("clipvalue", with(Adam::new(1e-3).clipvalue(-1.0))),
        ("weight_decay", with(Adam::new(1e-3).weight_decay(-1.0))),
        ("weight_decay", with(AdamW::new(1e-3).weight_decay(f64::NAN))),
        ("gradient_accumulation_steps", with(Adam::new(1e-3).gradient_accumulation_steps(0))),
    ]);
    assert!(with(Adam::new(0.0).epsilon(0.0).clipnorm(1.0)).is_ok());
    assert!(with(Adam::new(0.0).clipnorm(2.0).clipnorm(1.0)).is_ok());
}

#[test]
fn learning_rate_multipliers_are_checked() -> Result<()> {
    let (x, y) = samples()?;
    let layers = || -> Result<Model> { sequential![Input::new(4), Dense::new(1).activation(Sigmoid)] };
    for factor in [-1.0, f64::NAN, f64::INFINITY] {
        let mut model = layers()?;
        let optimizer = Adam::new(1e-3).learning_rate_multiplier(&model, factor);
        model.compile(optimizer, BinaryCrossentropy, []);
        assert_errors([("learning rate multiplier", model.fit((&x, &y), quiet(1)))]);
    }
    Ok(())
}

/// The steps of SGD show the rates.
#[test]
fn learning_rate_multipliers_of_the_same_weights_are_multiplied() -> Result<()> {
    for decay_first in [true, false] {
        let base = sequential![Input::new(2), Dense::new(2), Dense::new(1)]?;
        let before: Vec<Tensor> = base
            .params()
            .iter()
            .map(|param| Ok(param.value(Mode::Inference).copy()?))
            .collect::<Result<_>>()?;
        let sgd = SGD::new(1.0);
        let sgd = match decay_first {
            true => sgd.layerwise_decay(&base, 0.5).learning_rate_multiplier(&base, 0.1),
            false => sgd.learning_rate_multiplier(&base, 0.1).layerwise_decay(&base, 0.5),
        };
        let mut model = base.clone();
        let (x, y) = (random_uniform((4, 2), 0.0, 1.0)?, random_uniform(4, 0.0, 1.0)?);
        let (_, gradients) = value_and_gradients(|| {
            Ok((base.forward(&x, Mode::Training)?.flatten_all()? - &y)?.sqr()?.mean_all()?)
        })?;
        let expected: Vec<Tensor> = base
            .params()
            .iter()
            .zip([0.05, 0.05, 0.1, 0.1])
            .map(|(param, rate)| Ok((gradients.get(param.var()).unwrap() * rate)?))
            .collect::<Result<_>>()?;
        model.compile(sgd, MeanSquaredError, []);
        model.fit((&x, &y), quiet(1).batch_size(4))?;
        for ((param, before), step) in model.params().iter().zip(before).zip(expected) {
            let moved = (before - &param.value(Mode::Inference))?;
            let far = (moved - step)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(far < 1e-6, "{param:?}, decay first: {decay_first}: {far}");
        }
    }
    Ok(())
}

#[test]
fn the_learning_rate_range_test_checks_the_optimizer() -> Result<()> {
    let (x, y) = samples()?;
    let mut model = sequential![Input::new(4), Dense::new(1)]?;
    for optimizer in [Adam::new(1e-3).clipnorm(-1.0), Adam::new(1e-3).gradient_accumulation_steps(0)] {
        model.compile(optimizer, MeanSquaredError, []);
        assert!(model.find_learning_rate((&x, &y), 4).is_err());
    }
    Ok(())
}

#[test]
fn schedules_check_their_settings() {
    let with = |rate: Schedule| fit(Adam::new(LearningRate::from(rate)), quiet(1));
    assert_errors([
        ("0 values and 0 boundaries", with(Schedule::piecewise_constant(&[], &[]))),
        ("1 values and 2 boundaries", with(Schedule::piecewise_constant(&[1, 2], &[1e-3]))),
        ("rising order", with(Schedule::piecewise_constant(&[5, 2], &[1e-3, 1e-4, 1e-5]))),
        ("values", with(Schedule::piecewise_constant(&[5], &[1e-3, -1.0]))),
        ("learning_rate", with(Schedule::cosine_decay(f64::NAN, 10))),
        ("learning_rate", with(Schedule::one_cycle(-1.0, 10))),
        ("alpha", with(Schedule::cosine_decay(1e-3, 10).alpha(-2.0))),
        ("rate", with(Schedule::exponential_decay(1e-3, 1, -1.0))),
        ("rate", with(Schedule::step_decay(1e-3, 1, 0.0))),
        ("alpha: expected a cosine decay", with(Schedule::exponential_decay(1e-3, 1, 0.9).alpha(0.1))),
        (
            "restarts: expected cosine_decay_restarts",
            with(Schedule::cosine_decay(1e-3, 9).restarts(2.0, 1.0)),
        ),
        ("t_mul", with(Schedule::cosine_decay_restarts(1e-3, 1).restarts(0.0, 1.0))),
        ("m_mul", with(Schedule::cosine_decay_restarts(1e-3, 1).restarts(2.0, f64::NAN))),
        ("warmup", with(Schedule::cosine_decay(0.0, 1).warmup(-1e-3, 3))),
        ("steps", with(Schedule::cosine_decay(1e-3, 0))),
        ("steps", with(Schedule::cosine_decay_restarts(1e-3, 0))),
        ("steps", with(Schedule::exponential_decay(1e-3, 0, 0.9))),
        ("steps", with(Schedule::step_decay(1e-3, 0, 0.9))),
        ("steps", with(Schedule::one_cycle(1e-3, 0))),
        (
            "warmup: expected a cosine or exponential decay",
            with(Schedule::one_cycle(1e-3, 9).warmup(1e-3, 3)),
        ),
    ]);
    assert!(with(Schedule::piecewise_constant(&[1], &[1e-3, 0.0])).is_ok());
}

#[test]
fn options_of_fit_are_checked() {
    let with = |options: Fit| fit(Adam::new(1e-3), options);
    let rate = |schedule: fn(usize, f64) -> f64| quiet(1).callback(LearningRateScheduler::new(schedule));
    let plateau = |factor: f64| quiet(1).callback(ReduceLROnPlateau::new("loss").factor(factor));
    assert_errors([
        ("classes from 0 to 1", with(quiet(1).class_weight([(5, 2.0)]))),
        ("class_weight", with(quiet(1).class_weight([(0, -2.0)]))),
        ("class_weight", with(quiet(1).class_weight([(0, f64::NAN)]))),
        ("class 0 twice", with(quiet(1).class_weight([(0, 1.0), (0, 5.0)]))),
        ("augmented_views", with(quiet(1).augmented_views(0))),
        ("min_delta", with(quiet(1).callback(EarlyStopping::new("loss").min_delta(f64::NAN)))),
        ("factor", with(plateau(1.0))),
        ("factor", with(plateau(-1.0))),
        ("factor", with(plateau(f64::NAN))),
        ("min_lr", with(quiet(1).callback(ReduceLROnPlateau::new("loss").min_lr(-1.0)))),
        ("learning_rate", with(rate(|_, _| f64::NAN))),
        ("learning_rate", with(rate(|_, _| -1.0))),
        ("a file of Keras", with(quiet(1).callback(ModelCheckpoint::new("best.weights.h5")))),
        ("an empty path", with(quiet(1).callback(ModelCheckpoint::new("")))),
    ]);
}

#[test]
fn class_weights_need_one_class_per_sample() -> Result<()> {
    let mut model = sequential![Input::new(4), Dense::new(1)]?;
    model.compile(Adam::new(1e-3), MeanSquaredError, []);
    let (x, y) = samples()?;
    assert_errors([("one class each", model.fit((&x, &y), quiet(1).class_weight([(0, 2.0)])))]);
    Ok(())
}

#[test]
fn sample_weights_and_label_smoothing_are_checked() -> Result<()> {
    let (x, y) = samples()?;
    for weight in [f64::NAN, -1.0] {
        let weights = (Tensor::ones(16, candle_core::DType::F32, &device())? * weight)?;
        assert_errors([("sample weights", compiled(Adam::new(1e-3))?.fit((&x, &y, &weights), quiet(1)))]);
    }
    for amount in [2.0, -1.0, f64::NAN] {
        let mut model = compiled(Adam::new(1e-3))?;
        model.compile(Adam::new(1e-3), BinaryCrossentropy.label_smoothing(amount), []);
        assert_errors([("label_smoothing", model.fit((&x, &y), quiet(1)))]);
    }
    Ok(())
}

#[test]
fn augmentation_checks_its_settings() -> Result<()> {
    let (x, y) = (random_uniform((4, 3, 8, 8), 0.0, 255.0)?, Tensor::new(&[0u32, 1, 0, 1], &device())?);
    let flow = |datagen: ImageDataGenerator| datagen.flow(&x, &y, 2).map(|_| ());
    let new = ImageDataGenerator::new;
    assert_errors([
        ("color_jitter", flow(new().color_jitter(-1.0, 0.0, 0.0))),
        ("color_jitter", flow(new().color_jitter(0.0, f64::NAN, 0.0))),
        ("rescale", flow(new().rescale(f32::NAN))),
        ("rescale", flow(new().rescale(0.0))),
        ("rotation_range", flow(new().rotation_range(f64::INFINITY))),
    ]);
    let none = x.narrow(0, 0, 0)?;
    let centre = || new().featurewise_center(true);
    assert_errors([
        ("at least one image", centre().fit(&none)),
        ("finite pixels", centre().fit(&(&x * f64::NAN)?)),
    ]);
    // Outputs for mixed images belong to no image.
    let mut model = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1).activation(Sigmoid)]?;
    model.compile(SGD::new(1e-3), BinaryCrossentropy, []);
    let mixed = |datagen: ImageDataGenerator| datagen.flow(&x, &y.to_dtype(DType::F32)?, 2);
    for datagen in [new().mixup(0.4), new().cutmix(1.0)] {
        assert_errors([
            ("predict: expected images as they are", model.predict(mixed(datagen.clone())?).map(|_| ())),
            ("evaluate: ", model.evaluate_on(mixed(datagen.clone())?, 2).map(|_| ())),
            ("confusion_matrix: ", model.confusion_matrix(mixed(datagen)?).map(|_| ())),
        ]);
    }
    Ok(())
}

#[test]
fn layers_and_networks_check_their_settings() -> Result<()> {
    let norm = BatchNormalization::default;
    assert_errors([
        ("momentum", sequential![Input::new(4), norm().momentum(2.0)]),
        ("epsilon", sequential![Input::new(4), norm().epsilon(f64::NAN)]),
        ("epsilon", sequential![Input::new(4), norm().epsilon(-1.0)]),
        ("epsilon", sequential![Input::new(4), LayerNormalization::default().epsilon(f64::NAN)]),
        ("epsilon", sequential![Input::new((4, 2, 2)), GroupNormalization::new(2).epsilon(-1.0)]),
        ("init_value", sequential![Input::new(4), LayerScale::new(f64::NAN)]),
        ("scale", sequential![Input::new(4), Rescaling::new(f64::NAN)]),
        ("offset", sequential![Input::new(4), Rescaling::new(1.0).offset(f64::INFINITY)]),
        ("drop_connect_rate", EfficientNetB0::new(Weights::Random(0)).drop_connect_rate(1.5).build()),
        ("drop_connect_rate", EfficientNetB0::new(Weights::Random(0)).drop_connect_rate(f32::NAN).build()),
    ]);
    Ok(())
}

/// An allocation that fails would end the process.
#[test]
fn too_large_shapes_are_errors() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    draw_demo_images(folder.path(), 2, 32, 1)?;
    let images = ImageFiles::from_directory(folder.path(), (1 << 14, 1 << 14))?;
    let many: Vec<_> = (0..1000).map(|_| (images.paths[0].clone(), "cats")).collect();
    // One sample fits, the batch does not.
    let padded = sequential![Input::new((1, 1, 1)), ZeroPadding2D::new(2000)]?;
    let pixels = Tensor::zeros((1_000_000, 1, 1, 1), DType::F32, &device())?;
    let vgg16 = || Vgg16::new(Weights::Random(0)).alpha(0.1);
    assert_errors([
        ("memory", sequential![Input::new(4), Dense::new(usize::MAX)].map(|_| ())),
        ("memory", sequential![Input::new((3, 8, 8)), Conv2D::new(1 << 40, 3)].map(|_| ())),
        ("memory", sequential![Input::new((3, 8, 8)), ZeroPadding2D::new(1_000_000)].map(|_| ())),
        ("of `zero_padding2d`", padded.forward(&pixels, Mode::Inference).map(|_| ())),
        ("memory", vgg16().input_shape((3, 1 << 20, 1 << 20)).build().map(|_| ())),
        ("memory", random_uniform((1 << 30, 1 << 30), 0.0, 1.0).map(|_| ())),
        ("memory", ImageFiles::from_paths(many, (1 << 14, 1 << 14))?.load().map(|_| ())),
        ("16384", ImageFiles::from_directory(folder.path(), (1 << 30, 1 << 30)).map(|_| ())),
    ]);
    Ok(())
}

#[test]
fn paths_that_cannot_be_right_are_errors() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let model = compiled(Adam::new(1e-3))?;
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_errors([
        ("a file of Keras", model.save(folder.path().join("m.keras"))),
        ("a file of Keras", model.save_weights(folder.path().join("w.H5"))),
        ("a file of PyTorch", model.save_weights(folder.path().join("w.pth"))),
        ("export_onnx", model.save(folder.path().join("m.onnx"))),
        ("an empty path", model.save("")),
        ("ends in `.svg`", Chart::steps(&[("a", "b")]).save(folder.path().join("steps.png"))),
        ("this is a file", ImageFiles::from_directory(&file, (8, 8)).map(|_| ())),
        ("per_class", draw_demo_images(folder.path(), 0, 32, 1)),
        ("side", draw_demo_images(folder.path(), 1, 0, 1)),
        ("side", draw_demo_images(folder.path(), 1, u32::MAX, 1)),
    ]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was written");
    Ok(())
}

#[test]
fn metrics_and_tables_check_their_settings() -> Result<()> {
    let (x, y) = samples()?;
    let mut model = sequential![Input::new(4), Dense::new(2).activation(Softmax)]?;
    model.compile(Adam::new(1e-3), SparseCategoricalCrossentropy, [TopKCategoricalAccuracy(0)]);
    assert_errors([
        ("k of TopKCategoricalAccuracy", model.fit((&x, &y), quiet(1)).map(|_| ())),
        ("k of TopKCategoricalAccuracy", model.evaluate(&x, &y).map(|_| ())),
        ("from 0 to 1", ResultsTable::new(100).row("in percent", &[95.0], &[1.0]).map(|_| ())),
        ("seconds", ResultsTable::new(100).row("before its start", &[0.95], &[-1.0]).map(|_| ())),
    ]);
    Ok(())
}

#[test]
fn images_to_explain_or_to_show_are_checked() -> Result<()> {
    let pixels = random_uniform((2, 3, 8, 8), 0.0, 255.0)?;
    let damaged = (&pixels * f64::NAN)?;
    let classifier =
        sequential![Input::new((3, 8, 8)), Conv2D::new(2, 3), Flatten, Dense::new(2).activation(Softmax)]?;
    let of_features = sequential![Input::new(4), Dense::new(2)]?;
    assert_errors([
        ("[N, channels, height, width]", of_features.grad_cam(&samples()?.0, GradCam::new()).map(|_| ())),
        ("finite outputs", classifier.grad_cam(&damaged, GradCam::new()).map(|_| ())),
        ("NaN in image 0", ImageGrid::new(&damaged, &["a", "b"]).map(|_| ())),
    ]);
    Ok(())
}
