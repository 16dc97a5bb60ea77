//! Custom losses and metrics, compared with built-in ones.

use headstart::Result;
use headstart::prelude::*;

/// The same as the built-in `MeanSquaredError`.
struct Squares;

impl Loss for Squares {
    fn name(&self) -> &str {
        "squares"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        Ok((outputs - targets)?.sqr()?.mean(D::Minus1)?)
    }
}

/// The same as the built-in `SparseCategoricalCrossentropy`, on logits.
struct Entropy;

impl Loss for Entropy {
    fn name(&self) -> &str {
        "entropy"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        CategoricalCrossentropy.from_logits(true).call(targets, outputs)
    }

    fn probability_function(&self) -> Activation {
        Softmax
    }
}

/// A loss of feature maps: the product of outputs and targets, negative.
struct Overlap;

impl Loss for Overlap {
    fn name(&self) -> &str {
        "overlap"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        assert_eq!(outputs.dims()[1..], [3, 4, 4]);
        Ok((targets * outputs)?.flatten_from(1)?.mean(D::Minus1)?.neg()?)
    }
}

/// The logits are too large for a cross-entropy of probabilities.
#[test]
fn the_activation_of_a_last_convolution_trains_like_an_activation_layer() -> Result<()> {
    fn losses(model: &mut Model, loss: impl Loss + 'static) -> Result<Vec<f64>> {
        let x = (Tensor::arange(0f32, 256.0, &device())?.reshape((8, 2, 4, 4))? - 128.0)?;
        let y = Tensor::arange(0u32, 384, &device())?.reshape((8, 3, 4, 4))?.to_dtype(DType::F32)?;
        let y = (y / 7.0)?.sin()?.gt(0.0)?.to_dtype(DType::F32)?;
        model.compile(SGD::new(1e-5), loss, []);
        Ok(model.fit((&x, &y), quiet(3))?["loss"].to_vec())
    }
    let input = || Input::new((2, 4, 4));
    for function in [Sigmoid, Softmax] {
        let pairs = [
            [
                sequential![input(), Conv2D::new(3, 1).activation(function)]?,
                sequential![input(), Conv2D::new(3, 1), function]?,
            ],
            [
                sequential![input(), SeparableConv2D::new(3, 1).activation(function)]?,
                sequential![input(), SeparableConv2D::new(3, 1), function]?,
            ],
        ];
        for [mut one, mut two] in pairs {
            let weights = one.weights()?;
            let check = |found: Vec<f64>, expected: Vec<f64>| {
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found / expected - 1.0).abs() < 1e-4, "{function:?}: {found} and {expected}");
                }
            };
            two.set_weights(&weights)?;
            check(losses(&mut one, BinaryCrossentropy)?, losses(&mut two, BinaryCrossentropy)?);
            one.set_weights(&weights)?;
            two.set_weights(&weights)?;
            check(losses(&mut one, Overlap)?, losses(&mut two, Overlap)?);
        }
    }
    Ok(())
}

/// A loss that returns a wrong shape.
struct OneNumber;

impl Loss for OneNumber {
    fn name(&self) -> &str {
        "one_number"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        Ok((outputs - targets)?.sqr()?.mean_all()?)
    }
}

/// Fraction of outputs within 0.5 of their targets.
#[derive(Clone, Default)]
struct Near {
    near: f64,
    count: usize,
}

impl Metric for Near {
    fn name(&self) -> &str {
        "near"
    }

    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()> {
        assert_eq!(targets.dims(), outputs.dims());
        let near = (targets - outputs)?.abs()?.lt(0.5)?.to_dtype(DType::F32)?;
        self.near += f64::from(near.sum_all()?.to_scalar::<f32>()?);
        self.count += outputs.elem_count();
        Ok(())
    }

    fn result(&self) -> f64 {
        self.near / self.count as f64
    }
}

/// A metric for which larger is better.
#[derive(Clone)]
struct Larger(Near);

impl Metric for Larger {
    fn name(&self) -> &str {
        "near"
    }

    fn update_state(&mut self, targets: &Tensor, outputs: &Tensor) -> Result<()> {
        self.0.update_state(targets, outputs)
    }

    fn result(&self) -> f64 {
        self.0.result()
    }

    fn is_larger_better(&self) -> Option<bool> {
        Some(true)
    }
}

fn quiet(epochs: usize) -> Fit {
    Fit::epochs(epochs).shuffle(false).verbose(false).chart(false).advice(false)
}

/// Two models with the same weights.
fn equal_models(inputs: usize, outputs: usize, last: Activation) -> Result<[Model; 2]> {
    let of = || sequential![Input::new(inputs), Dense::new(outputs).activation(last)];
    let (first, second) = (of()?, of()?);
    for (from, to) in first.params().iter().zip(second.params()) {
        to.set(&from.value(Mode::Inference))?;
    }
    Ok([first, second])
}

#[test]
fn custom_losses_train_like_built_in_losses() -> Result<()> {
    let x = random_uniform((20, 4), -1.0, 1.0)?;
    let weights = random_uniform(20, 0.5, 2.0)?;
    let [mut own, mut built_in] = equal_models(4, 3, Linear)?;
    own.compile(SGD::new(0.1), Squares, []);
    built_in.compile(SGD::new(0.1), MeanSquaredError, []);
    let y = random_uniform((20, 3), -1.0, 1.0)?;
    let fit = || quiet(4).batch_size(6).validation_split(0.25);
    let [own, built_in] = [&mut own, &mut built_in].map(|model| model.fit((&x, &y, &weights), fit()));
    assert_eq!(own?["val_loss"], built_in?["val_loss"]);

    let [mut own, mut built_in] = equal_models(4, 3, Linear)?;
    let classes = Tensor::new((0..20u32).map(|at| at % 3).collect::<Vec<_>>(), &device())?;
    own.compile(SGD::new(0.1), Entropy, [Accuracy, AUC]);
    built_in.compile(SGD::new(0.1), SparseCategoricalCrossentropy.from_logits(true), [Accuracy, AUC]);
    let histories = [&mut own, &mut built_in].map(|model| model.fit((&x, &classes), quiet(3)));
    let [of_own, of_built_in] = histories;
    let (of_own, of_built_in) = (of_own?, of_built_in?);
    for name in ["accuracy", "auc"] {
        assert_eq!(of_own[name], of_built_in[name], "{name}");
    }
    for (own, built_in) in of_own["loss"].iter().zip(&of_built_in["loss"]) {
        assert!((own - built_in).abs() < 1e-6, "{own}, {built_in}");
    }
    // The loss defines that the outputs are logits.
    assert_eq!(own.predict(&x)?.confidences(), built_in.predict(&x)?.confidences());
    Ok(())
}

#[test]
fn losses_and_metrics_receive_unflattened_outputs() -> Result<()> {
    #[derive(Clone)]
    struct Shapes;
    impl Loss for Shapes {
        fn name(&self) -> &str {
            "shapes"
        }
        fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
            assert_eq!((targets.dims(), outputs.dims()), (&[4, 2, 5, 5][..], &[4, 2, 5, 5][..]));
            // Remaining dimensions are averaged.
            Ok((outputs - targets)?.sqr()?.mean(1)?)
        }
    }
    let (x, y) = (random_uniform((4, 1, 5, 5), 0.0, 1.0)?, random_uniform((4, 2, 5, 5), 0.0, 1.0)?);
    let mut model = sequential![Input::new((1, 5, 5)), Conv2D::new(2, 3).padding(Padding::Same)]?;
    model.compile(SGD::new(0.0), Shapes, [Near::default().into()]);
    let scores = model.evaluate(&x, &y)?;
    model.compile(SGD::new(0.0), MeanSquaredError, []);
    assert!((scores["loss"] - model.evaluate(&x, &y)?["loss"]).abs() < 1e-6);
    assert!((0.0..=1.0).contains(&scores["near"]));
    Ok(())
}

#[test]
fn invalid_loss_results_are_rejected() -> Result<()> {
    let (x, y) = (random_uniform((4, 2), 0.0, 1.0)?, random_uniform(4, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    model.compile(SGD::new(0.1), OneNumber, []);
    let problem = model.fit((&x, &y), quiet(1)).unwrap_err().to_string();
    assert!(problem.contains("`one_number`") && problem.contains("[4]"), "{problem}");
    assert!(problem.contains(".mean(D::Minus1)"), "{problem}");
    model.compile(SGD::new(0.1), Squares, []);
    let problem = model.fit((&x, &random_uniform((4, 3), 0.0, 1.0)?), quiet(1)).unwrap_err().to_string();
    assert!(problem.contains("squares") && problem.contains("[4, 1]"), "{problem}");
    let mut model = sequential![Input::new(2), Dense::new(3)]?;
    model.compile(SGD::new(0.1), Squares, []);
    let classes = Tensor::new(&[0f32, 1.0, 2.0, 3.0], &device())?;
    let problem = model.fit((&x, &classes), quiet(1)).unwrap_err().to_string();
    assert!(problem.contains("class numbers from 0 to 2") && problem.contains('3'), "{problem}");
    Ok(())
}

#[test]
fn metrics_are_reset_each_epoch() -> Result<()> {
    let (x, y) = (random_uniform((10, 2), 0.0, 1.0)?, random_uniform(10, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    // With learning rate 0 each epoch has the same value.
    model.compile(SGD::new(0.0), MeanSquaredError, [Near::default().into(), Accuracy]);
    let history = model.fit((&x, &y), quiet(3).batch_size(3).validation_data((&x, &y)))?;
    assert_eq!(history.names(), ["accuracy", "loss", "near", "val_accuracy", "val_loss", "val_near"]);
    assert_eq!(history["near"], history["val_near"]);
    assert_eq!(history["near"][0], history["near"][2]);
    assert_eq!(model.evaluate(&x, &y)?["near"], history["near"][0]);
    Ok(())
}

/// Numbered as by `keras.Model.compile(metrics=[Precision(), Accuracy(), Precision(), Precision()])`.
#[test]
fn equal_metrics_are_numbered() -> Result<()> {
    let (x, y) =
        (random_uniform((12, 2), 0.0, 1.0)?, Tensor::new(&[0u32, 1, 2, 3].repeat(3)[..], &device())?);
    let mut model = sequential![Input::new(2), Dense::new(4).activation(Softmax)]?;
    let metrics = [TopKCategoricalAccuracy(1), TopKCategoricalAccuracy(4), Accuracy, Accuracy];
    model.compile(SGD::new(0.0), SparseCategoricalCrossentropy, metrics);
    let stop = EarlyStopping::new("top_k_categorical_accuracy_1").patience(1);
    let history = model.fit((&x, &y), quiet(5).callback(stop))?;
    let names =
        ["accuracy", "accuracy_1", "loss", "top_k_categorical_accuracy", "top_k_categorical_accuracy_1"];
    assert_eq!(history.names(), names);
    assert_eq!(history["top_k_categorical_accuracy_1"], [1.0, 1.0]);
    assert!(history["top_k_categorical_accuracy"][0] < 1.0);
    assert_eq!(history["top_k_categorical_accuracy"], history["accuracy_1"]);
    // A saved model has the same metric names.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let scores = Model::load(&path)?.evaluate(&x, &y)?;
    assert!(names.iter().all(|name| scores.get(name).is_some()), "{scores}");
    Ok(())
}

#[test]
fn callbacks_use_the_direction_of_the_metric() -> Result<()> {
    let (x, y) = (random_uniform((10, 2), 0.0, 1.0)?, random_uniform(10, 0.0, 1.0)?);
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    let near = || Near::default();
    model.compile(SGD::new(0.0), MeanSquaredError, [near().into()]);
    let stop = || EarlyStopping::new("near");
    let problem = model.fit((&x, &y), quiet(2).callback(stop())).unwrap_err().to_string();
    assert!(problem.contains(".mode(\"max\")") && problem.contains("near"), "{problem}");
    model.fit((&x, &y), quiet(2).callback(stop().mode("min")))?;
    model.compile(SGD::new(0.0), MeanSquaredError, [Larger(near()).into()]);
    model.fit((&x, &y), quiet(2).callback(stop()))?;
    Ok(())
}

#[test]
fn models_with_custom_losses_are_saved_without_them() -> Result<()> {
    let x = random_uniform((4, 2), 0.0, 1.0)?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = sequential![Input::new(2), Dense::new(1)]?;
    for own_metric in [false, true] {
        match own_metric {
            false => model.compile(SGD::new(0.1), Squares, []),
            true => model.compile(SGD::new(0.1), MeanSquaredError, [Near::default().into()]),
        }
        model.save(&path)?;
        let loaded = Model::load(&path)?;
        assert_eq!(loaded.predict(&x)?, model.predict(&x)?);
        let problem = loaded.evaluate(&x, &random_uniform(4, 0.0, 1.0)?).unwrap_err().to_string();
        assert!(problem.contains("compile"), "{problem}");
    }
    Ok(())
}

/// The gradient of the absolute error at 0 is 0, as in Keras and PyTorch.
#[test]
fn outputs_that_are_right_do_not_move() -> Result<()> {
    let (x, zeros) = (random_uniform((8, 2), 0.0, 1.0)?, Tensor::zeros(8, DType::F32, &device())?);
    let mut model = sequential![Input::new(2), Dense::new(1).kernel_initializer(Initializer::Zeros)]?;
    for loss in [MeanAbsoluteError, MeanSquaredError, Huber] {
        model.compile(SGD::new(0.1), loss, []);
        model.fit((&x, &zeros), quiet(2))?;
        assert_eq!(model.params()[1].value(Mode::Inference).to_vec1::<f32>()?, [0.0], "{}", loss.name());
    }
    // Above and below, the gradient is 1 and -1.
    model.compile(SGD::new(0.5), MeanAbsoluteError, []);
    for (target, expected) in [(2.0, 0.5), (-2.0, 0.0)] {
        model.fit((&(&x * 0.0)?, &(&zeros + target)?), quiet(1))?;
        assert_eq!(model.params()[1].value(Mode::Inference).to_vec1::<f32>()?, [expected]);
    }
    Ok(())
}
