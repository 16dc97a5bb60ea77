//! All APIs convert a model's outputs to classes and probabilities in the same way.

use std::sync::{Arc, Mutex};

use headstart::Result;
use headstart::prelude::*;
use headstart::train::BuiltInLoss;

/// A model that returns its inputs. As logits, 0.3 and 0.6 mean class 1.
fn identity(columns: usize, loss: BuiltInLoss) -> Result<Model> {
    let mut model = sequential![Input::new(columns), Dense::new(columns)]?;
    let [kernel, bias] = &model.params()[..] else { panic!("a kernel and a bias") };
    kernel.set(&Tensor::eye(columns, DType::F32, &device())?)?;
    bias.set(&Tensor::zeros(columns, DType::F32, &device())?)?;
    model.compile(SGD::new(0.0), loss, [Accuracy]);
    Ok(model)
}

fn logits() -> Result<(Tensor, Tensor)> {
    Ok((
        Tensor::new(&[[0.3f32], [-0.3], [0.6], [-4.0]], &device())?,
        Tensor::new(&[1u32, 0, 1, 0], &device())?,
    ))
}

/// A metric of the user, with which the training configuration is not saved.
#[derive(Clone, Default)]
struct Seen(usize);

impl Metric for Seen {
    fn name(&self) -> &str {
        "seen"
    }

    fn update_state(&mut self, targets: &Tensor, _: &Tensor) -> Result<()> {
        self.0 += targets.dim(0)?;
        Ok(())
    }

    fn result(&self) -> f64 {
        self.0 as f64
    }
}

#[test]
fn logits_stay_logits_in_files_without_a_loss() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (x, _) = logits()?;
    let mut model = identity(1, BinaryCrossentropy)?;
    model.compile(SGD::new(0.1), BinaryCrossentropy.from_logits(true), [Seen::default().into()]);
    let nested = sequential![Input::new(1), Rescaling::new(1.0), &model]?;
    for (name, model) in [("own metric", &model), ("nested", &nested), ("clone", &model.clone())] {
        let path = folder.path().join(name).with_extension("safetensors");
        model.save(&path)?;
        let loaded = Model::load(&path)?;
        assert_eq!(loaded.predict(&x)?.classes(), [1, 0, 1, 0], "{name}");
        // A second file too.
        loaded.clone().save(&path)?;
        assert_eq!(Model::load(&path)?.predict(&x)?.classes(), [1, 0, 1, 0], "{name}, again");
    }
    Ok(())
}

#[test]
fn single_logits_get_the_class_of_evaluate() -> Result<()> {
    let (x, y) = logits()?;
    let mut model = identity(1, BinaryCrossentropy.from_logits(true))?;
    assert_eq!(model.evaluate(&x, &y)?["accuracy"], 1.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model.save(&path)?;
    let nested = sequential![Input::new(1), model.clone()]?;
    let inside = Arc::new(Mutex::new(Vec::new()));
    let (seen, again) = (inside.clone(), x.clone());
    let look = move |training: &mut headstart::train::Training| {
        *seen.lock().unwrap() = training.model().predict(&again)?.classes();
        Ok(())
    };
    model.fit((&x, &y), Fit::epochs(1).verbose(false).on_epoch_end(look))?;
    assert_eq!(*inside.lock().unwrap(), [1, 0, 1, 0], "in a callback");
    for (name, model) in [("clone", &model.clone()), ("file", &Model::load(&path)?), ("nested", &nested)] {
        let predictions = model.predict(&x)?;
        assert_eq!(predictions[0], [0.3], "{name}: outputs stay what the model gives");
        assert_eq!(predictions.classes(), [1, 0, 1, 0], "{name}");
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let expected = [sigmoid(0.3), 1.0 - sigmoid(-0.3), sigmoid(0.6), 1.0 - sigmoid(-4.0)];
        let apart =
            predictions.confidences().iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{name}: {:?}", predictions.confidences());
        let matrix = ConfusionMatrix::new(&y, &predictions, &["cat", "dog"])?;
        assert_eq!(matrix.counts(), [[2, 0], [0, 2]], "{name}");
    }
    // If not compiled, outputs count as probabilities unless `from_logits` is set.
    let fresh = sequential![Input::new(1), Activation::Linear]?;
    let predictions = fresh.predict(&x)?;
    assert_eq!(predictions.classes(), [0, 0, 1, 0]);
    assert_eq!(predictions.from_logits(true).classes(), [1, 0, 1, 0]);
    Ok(())
}

#[test]
fn logits_of_several_classes_have_softmax_confidences() -> Result<()> {
    let x = Tensor::new(&[[2f32, -1.0, 0.5]], &device())?;
    let expected = Activation::Softmax.apply(&x)?.to_vec2::<f32>()?[0][0];
    for loss in [CategoricalCrossentropy, SparseCategoricalCrossentropy] {
        let predictions = identity(3, loss.from_logits(true))?.predict(&x)?;
        assert_eq!(predictions.classes(), [0]);
        assert!((predictions.confidences()[0] - expected).abs() < 1e-6, "{:?}", predictions.confidences());
    }
    Ok(())
}

#[test]
fn grad_cam_uses_the_class_of_a_logit() -> Result<()> {
    let mut model = sequential![
        Input::new((3, 8, 8)),
        Conv2D::new(1, 1).kernel_initializer(Initializer::Ones),
        GlobalAveragePooling2D,
        Dense::new(1).kernel_initializer(Initializer::Ones)
    ]?;
    // A logit of 0.3: class 1.
    let x = Tensor::full(0.1f32, (1, 3, 8, 8), &device())?;
    model.compile(Adam::default(), BinaryCrossentropy.from_logits(true), [Accuracy]);
    assert_eq!(model.grad_cam(&x, GradCam::new())?.classes, [1]);
    assert_eq!(model.predict(&x)?.classes(), [1]);
    Ok(())
}

#[test]
fn networks_with_linear_outputs_decode_probabilities() -> Result<()> {
    let network = |last| Vgg16::new(Weights::Demo).classifier_activation(last).build();
    let x = random_uniform((2, 3, 64, 64), -2.0, 2.0)?;
    let (softmax, linear) = (network(Softmax)?, network(Linear)?);
    let expected = softmax.decode_predictions(&softmax.predict(&x)?, 3)?;
    let found = linear.decode_predictions(&linear.predict(&x)?, 3)?;
    for (expected, found) in expected[0].iter().zip(&found[0]) {
        assert!(expected.0 == found.0 && (expected.1 - found.1).abs() < 1e-5, "{expected:?}, {found:?}");
    }
    Ok(())
}

#[test]
fn invalid_true_classes_are_rejected() -> Result<()> {
    let predictions = sequential![Input::new(1), Activation::Linear]?.predict(&logits()?.0)?;
    for wrong in [-1f32, 0.5, f32::NAN] {
        let truth = Tensor::new(&[0f32, 1.0, 0.0, wrong], &device())?;
        let error = ConfusionMatrix::new(&truth, &predictions, &["cat", "dog"]).unwrap_err().to_string();
        assert!(error.contains("truth: expected class numbers from 0"), "{error}");
    }
    Ok(())
}

/// A loss of one's own on values before a hard sigmoid.
struct Hard;

impl Loss for Hard {
    fn name(&self) -> &str {
        "hard"
    }

    fn call(&self, targets: &Tensor, outputs: &Tensor) -> Result<Tensor> {
        let probabilities = self.probability_function().apply(outputs)?;
        Ok((probabilities - targets)?.sqr()?.mean(D::Minus1)?)
    }

    fn probability_function(&self) -> Activation {
        Activation::HardSigmoid
    }
}

#[test]
fn any_probability_function_gives_the_classes_of_the_metrics() -> Result<()> {
    let x = Tensor::new(&[[0.3f32], [-0.3], [0.9], [-4.0], [5.0]], &device())?;
    let y = Tensor::new(&[1u32, 0, 1, 0, 1], &device())?;
    let mut model = sequential![Input::new(1), Linear]?;
    model.compile(SGD::new(0.1), Hard, [Accuracy]);
    assert_eq!(model.evaluate(&x, &y)?["accuracy"], 1.0);
    let predictions = model.predict(&x)?;
    assert_eq!(predictions.classes(), [1, 0, 1, 0, 1]);
    let expected = [0.55f32, 0.55, 0.65, 1.0, 1.0];
    let near = |(found, expected): (f32, f32)| (found - expected).abs() < 1e-6;
    assert!(predictions.confidences().into_iter().zip(expected).all(near), "{:?}", predictions.confidences());
    Ok(())
}
