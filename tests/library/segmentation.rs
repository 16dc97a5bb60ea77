//! Losses, metrics and predictions of outputs with a class for each pixel or token. `tests/fixtures/segmentation.py` wrote
//! the expected values.

use headstart::prelude::*;
use headstart::train::BuiltInLoss;
use headstart::{Error, Result};

use super::parity::{draw, farthest};

const SAMPLES: usize = 4;
const CHANNELS: usize = 3;
const CLASSES: usize = 5;
/// Largest difference: rounding of f32 in sums over some hundred pixels.
const TOLERANCE: f64 = 2e-6;

fn fixture(name: &str) -> Tensor {
    let all = candle_core::safetensors::load_buffer(
        include_bytes!("../fixtures/segmentation.safetensors"),
        &device(),
    );
    all.unwrap().remove(name).unwrap()
}

/// Inputs and class numbers, with the channels first for images.
fn data(shape: &[usize]) -> Result<(Tensor, Tensor)> {
    let all = [&[SAMPLES], shape].concat();
    let x =
        draw(9303, &[&all[..], &[CHANNELS]].concat()).into_iter().map(|value| value * 2.0 - 1.0).collect();
    let x = Tensor::from_vec::<_, f32>(x, [&all[..], &[CHANNELS]].concat(), &device())?;
    let y = draw(9304, &all).into_iter().map(|value| (value * CLASSES as f32) as u32).collect();
    let x = if shape.len() == 2 { x.permute((0, 3, 1, 2))?.contiguous()? } else { x };
    Ok((x, Tensor::from_vec::<_, u32>(y, all, &device())?))
}

/// One-hot targets in the order of the outputs.
fn one_hot(y: &Tensor) -> Result<Tensor> {
    let classes = (0..CLASSES as u32).map(|class| Ok(y.eq(class)?.to_dtype(DType::F32)?));
    Ok(Tensor::stack(&classes.collect::<Result<Vec<_>>>()?, if y.rank() == 3 { 1 } else { 2 })?)
}

/// A convolution of 1x1, or a dense layer, with the weights of the fixture.
fn model(shape: &[usize], activation: Activation) -> Result<Model> {
    let model = match shape {
        [height, width] => sequential![
            Input::new((CHANNELS, *height, *width)),
            Conv2D::new(CLASSES, 1).activation(activation)
        ]?,
        _ => sequential![Input::new((shape[0], CHANNELS)), Dense::new(CLASSES).activation(activation)]?,
    };
    let kernel = draw(9301, &[CLASSES, CHANNELS]).into_iter().map(|value| value * 4.0 - 2.0).collect();
    let bias = draw(9302, &[CLASSES]).into_iter().map(|value| value - 0.5).collect();
    let [weight, offset] = &model.params()[..] else { panic!("two parameters") };
    weight.set(&Tensor::from_vec::<_, f32>(kernel, weight.value(Mode::Inference).dims(), &device())?)?;
    offset.set(&Tensor::from_vec::<_, f32>(bias, CLASSES, &device())?)?;
    Ok(model)
}

fn quiet() -> Fit {
    Fit::epochs(1).batch_size(SAMPLES).verbose(false).chart(false).advice(false)
}

#[test]
fn losses_accuracies_and_steps_match_keras_and_pytorch() -> Result<()> {
    let (sparse, categorical) = (SparseCategoricalCrossentropy, CategoricalCrossentropy);
    let smooth = categorical.label_smoothing(0.1);
    let cases: [(&str, BuiltInLoss, Activation); 6] = [
        ("sparse_logits", sparse.from_logits(true), Linear),
        ("sparse", sparse, Softmax),
        ("smooth_logits", smooth.from_logits(true), Linear),
        ("smooth", smooth, Softmax),
        ("weighted", sparse.from_logits(true), Linear),
        ("tokens", sparse, Softmax),
    ];
    for (name, loss, activation) in cases {
        let shape: &[usize] = if name == "tokens" { &[8] } else { &[6, 7] };
        let (x, y) = data(shape)?;
        let target = if name.starts_with("smooth") { one_hot(&y)? } else { y.clone() };
        let mut model = model(shape, activation)?;
        model.compile(SGD::new(0.5), loss, [Accuracy]);
        let scores = model.evaluate(&x, &target)?;
        let expected = fixture(&format!("{name}_measured")).to_vec1::<f32>()?;
        for (found, expected) in [scores["loss"], scores["accuracy"]].into_iter().zip(expected) {
            assert!((found - f64::from(expected)).abs() < TOLERANCE, "{name}: {found}, {expected}");
        }
        // Predictions count as `evaluate` does.
        let classes = model.predict(&x)?.classes();
        let right =
            classes.iter().zip(y.flatten_all()?.to_vec1::<u32>()?).filter(|(a, b)| **a == *b as usize);
        assert!((right.count() as f64 / classes.len() as f64 - scores["accuracy"]).abs() < 1e-12, "{name}");
        let matrix = model.confusion_matrix((&x, &target))?;
        assert!((matrix.accuracy() - scores["accuracy"]).abs() < 1e-12, "{name}");
        assert_eq!(matrix.counts().iter().flatten().sum::<usize>(), y.elem_count());
        // One step has the gradient of every weight.
        let fit = if name == "weighted" { quiet().class_weight([(0, 2.0), (3, 0.25)]) } else { quiet() };
        model.fit((&x, &target), fit)?;
        for (param, part) in model.params().iter().zip(["kernel", "bias"]) {
            let expected = fixture(&format!("{name}_{part}")).reshape(param.value(Mode::Inference).dims())?;
            let difference = farthest(&param.value(Mode::Inference), &expected)?;
            assert!(f64::from(difference) < TOLERANCE, "{name}, {part}: {difference}");
        }
    }
    Ok(())
}

/// The loss called directly has one value per sample, and the same mean.
#[test]
fn losses_of_samples_have_the_mean_of_their_pixels() -> Result<()> {
    let (x, y) = data(&[6, 7])?;
    let model = model(&[6, 7], Linear)?;
    let output = model.forward(&x, Mode::Inference)?;
    let losses = SparseCategoricalCrossentropy.from_logits(true).call(&y, &output)?;
    assert_eq!(losses.dims(), [SAMPLES]);
    let expected = fixture("sparse_logits_measured").to_vec1::<f32>()?[0];
    assert!((losses.mean_all()?.to_scalar::<f32>()? - expected).abs() < TOLERANCE as f32);
    Ok(())
}

#[test]
fn targets_that_do_not_fit_the_pixels_are_errors() -> Result<()> {
    let (x, y) = data(&[6, 7])?;
    let one_hot = one_hot(&y)?;
    let mut model = model(&[6, 7], Softmax)?;
    let mut refused = |loss: BuiltInLoss, target: &Tensor| {
        model.compile(SGD::new(0.5), loss, [Accuracy]);
        model.evaluate(&x, target).unwrap_err().to_string()
    };
    let (sparse, categorical) = (SparseCategoricalCrossentropy, CategoricalCrossentropy);
    for (loss, target, part) in [
        (sparse, y.transpose(1, 2)?, "[4, 6, 7]"),
        (sparse, y.i((.., 0, 0))?, "GlobalAveragePooling2D"),
        (sparse, one_hot.clone(), "CategoricalCrossentropy"),
        (sparse, (&y + 1.0)?, "class numbers from 0 to 4"),
        (categorical, y.clone(), "SparseCategoricalCrossentropy"),
        (categorical, one_hot.permute((0, 2, 3, 1))?, "permute((0, 3, 1, 2))"),
        (MeanSquaredError, one_hot.permute((0, 2, 3, 1))?, "permute((0, 3, 1, 2))"),
    ] {
        let error = refused(loss, &target);
        assert!(error.contains(part), "{part}: {error}");
    }
    for equal in [y.unsqueeze(1)?, y.unsqueeze(3)?, y.flatten_from(1)?] {
        model.compile(SGD::new(0.5), sparse, []);
        model.evaluate(&x, &equal)?;
    }
    Ok(())
}

/// The overlap of each class, as a user writes it.
struct Dice;

impl Loss for Dice {
    fn name(&self) -> &str {
        "dice"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        let sum = |x: &Tensor| x.sum((2, 3));
        let (overlap, size) = (sum(&(targets * outputs)?)?, (sum(targets)? + sum(outputs)?)?);
        Ok(((overlap * 2.0)? / (size + 1e-6)?)?.mean(1)?.affine(-1.0, 1.0)?)
    }
}

/// Images with a bright and a dark rectangle, and the class of each pixel: 0 for the background.
fn rectangles(count: usize) -> Result<(Tensor, Tensor)> {
    const SIDE: usize = 16;
    let numbers = random_uniform((count, 4), 0.0, 1.0)?.to_vec2::<f32>()?;
    let mut images = random_uniform((count, SIDE * SIDE), -0.1, 0.1)?.to_vec2::<f32>()?;
    let mut classes = vec![vec![0u32; SIDE * SIDE]; count];
    for (at, numbers) in numbers.iter().enumerate() {
        for (class, value) in [(1, 1.0), (2, -1.0)] {
            let start = |number: f32| (number * (SIDE - 6) as f32) as usize;
            let (top, left) = (start(numbers[class - 1]), start(numbers[class + 1]));
            for pixel in
                (top..top + 6).flat_map(|row| (left..left + 6).map(move |column| row * SIDE + column))
            {
                images[at][pixel] = value;
                classes[at][pixel] = class as u32;
            }
        }
    }
    let shape = (count, 1, SIDE, SIDE);
    let x = Tensor::from_vec(images.concat(), shape, &device())?;
    Ok((x, Tensor::from_vec(classes.concat(), (count, SIDE, SIDE), &device())?))
}

fn u_net() -> Result<Model> {
    let conv = |filters| Conv2D::new(filters, 3).padding(Padding::Same).activation(Relu);
    let mut net = ModelBuilder::new("u_net", &[1, 16, 16])?;
    let fine = net.add("fine", conv(8), &[net.input()])?;
    let pooled = net.add("pooled", MaxPooling2D::new(2), &[fine])?;
    let coarse = net.add("coarse", conv(16), &[pooled])?;
    let enlarged = net.add("enlarged", UpSampling2D::new(2), &[coarse])?;
    let joined = net.add("joined", Concatenate::default(), &[fine, enlarged])?;
    let decoded = net.add("decoded", conv(8), &[joined])?;
    let classes = net.add("classes", Conv2D::new(3, 1).activation(Softmax), &[decoded])?;
    net.finish(classes)
}

#[test]
fn a_u_net_learns_the_class_of_each_pixel() -> Result<()> {
    let (x, y) = rectangles(64)?;
    let mut model = u_net()?;
    model.compile(Adam::new(1e-2), SparseCategoricalCrossentropy, [Accuracy, F1Score]);
    let fit = Fit::epochs(12).batch_size(8).verbose(false).validation_split(0.25);
    let history = model.fit((&x, &y), fit)?;
    assert!(history["val_accuracy"][11] > 0.97, "{:?}", &history["val_accuracy"]);
    assert!(history["val_f1_score"][11] > 0.9, "{:?}", &history["val_f1_score"]);
    let matrix = model.confusion_matrix((&x, &y))?;
    assert!(matrix.report().classes.iter().all(|class| class.recall > 0.9), "{matrix}");
    let predictions = model.predict(&x)?;
    let accuracy = model.evaluate(&x, &y)?["accuracy"];
    assert_eq!(ConfusionMatrix::new(&y, &predictions, &["none", "bright", "dark"])?.accuracy(), accuracy);
    assert_eq!(predictions.confidences().len(), y.elem_count());
    assert!(Calibration::new(&y, &predictions, 10)?.error() < 0.1);
    assert_eq!(predictions.with_temperature(2.0)?.classes(), predictions.classes());
    // It is saved with its loss.
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path().join("u_net.safetensors"))?;
    let again = Model::load(folder.path().join("u_net.safetensors"))?;
    assert_eq!(again.evaluate(&x, &y)?["accuracy"], accuracy);
    // What explains the class of a whole image says that it cannot.
    let error = model.grad_cam(&x, GradCam::new()).unwrap_err();
    assert!(matches!(error, Error::Shape { .. } | Error::Argument { .. }), "{error}");
    let flips = ImageDataGenerator::new().horizontal_flip(true);
    assert!(model.predict_augmented(&x, &flips, 1).unwrap_err().to_string().contains("class per pixel"));
    // A generator would move the images alone.
    assert!(flips.flow(&x, &y, 8).unwrap_err().to_string().contains("not those of the targets"));
    ImageDataGenerator::new().brightness_range(0.9, 1.1).flow(&x, &y, 8)?;
    // A loss of the user's gets the classes one-hot.
    let mut model = u_net()?;
    model.compile(Adam::new(1e-2), Dice, [Accuracy]);
    let losses = model.fit((&x, &y), Fit::epochs(3).batch_size(8).verbose(false))?["loss"].to_vec();
    assert!(losses[2] < losses[0], "{losses:?}");
    Ok(())
}

/// Each pixel of the input gets the gradients of its copies.
#[test]
fn up_sampling_repeats_pixels_and_sums_their_gradients() -> Result<()> {
    let model = sequential![Input::new((1, 2, 2)), UpSampling2D::new((1, 3))]?;
    assert_eq!(model.output_shape(), [1, 2, 6]);
    let x = candle_core::Var::new(&[1f32, 2.0, 3.0, 4.0], &device())?;
    let factors = Tensor::arange(0f32, 12.0, &device())?.reshape((1, 1, 2, 6))?;
    let (_, gradients) = value_and_gradients(|| {
        let output = model.forward(&x.reshape((1, 1, 2, 2))?, Mode::Training)?;
        let expected = [1f32, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0];
        assert_eq!(output.flatten_all()?.to_vec1::<f32>()?, expected);
        Ok((output * &factors)?.sum_all()?)
    })?;
    assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>()?, [3.0, 12.0, 21.0, 30.0]);
    for refused in [UpSampling2D::new(0), UpSampling2D::new(usize::MAX)] {
        assert!(sequential![Input::new((1, 2, 2)), refused].is_err());
    }
    assert!(sequential![Input::new(4), UpSampling2D::new(2)].is_err());
    Ok(())
}
