//! Predictions as probabilities, classes, tables and grids.

use std::path::PathBuf;

use headstart::Result;
use headstart::prelude::*;

fn images(count: usize, class_names: &[&str]) -> Result<Images> {
    Ok(Images {
        x: random_uniform((count, 3, 4, 4), 0.0, 255.0)?,
        y: Tensor::zeros(count, DType::U32, &device())?,
        class_names: class_names.iter().map(|name| name.to_string()).collect(),
        paths: (0..count).map(|at| PathBuf::from(format!("{at}.png"))).collect(),
    })
}

/// Predictions with these outputs.
fn predicted(values: Vec<f32>, columns: usize) -> Result<headstart::train::Predictions> {
    let x = Tensor::from_vec(values.clone(), (values.len() / columns, columns), &device())?;
    sequential![Input::new(columns), Activation::Linear]?.predict(&x)
}

#[test]
fn one_class_name_and_one_output_are_an_error() -> Result<()> {
    let images = images(3, &["new"])?;
    let predictions = predicted(vec![0.9, 0.2, 0.7], 1)?;
    let error = images.with_predictions(&predictions).unwrap_err().to_string();
    assert!(error.contains("ImageGrid::new"), "{error}");
    assert!(images.most_confident_mistakes(&predictions, 3).is_err());
    Ok(())
}

#[test]
fn most_confident_mistakes_checks_its_predictions() -> Result<()> {
    let images = images(3, &["bird", "dog"])?;
    assert!(
        images
            .most_confident_mistakes(&predicted(vec![0.0, 0.1, 0.9, 0.9, 0.1, 0.0, 0.2, 0.2, 0.6], 3)?, 3)
            .is_err()
    );
    assert!(
        images.most_confident_mistakes(&predicted(vec![0.9, 0.1], 1)?, 3).is_err(),
        "two rows for three images"
    );
    Ok(())
}

#[test]
fn probabilities_of_neighbors_are_at_most_one() -> Result<()> {
    let features = random_uniform((24, 2), 0.0, 1.0)?;
    let y = Tensor::zeros(24, DType::U32, &device())?;
    for neighbors in [10, 11, 14, 18, 20, 22, 24] {
        let predictions = KNeighborsClassifier::new(&features, &y, neighbors)?.predict(&features)?;
        assert!(predictions.confidences().iter().all(|confidence| *confidence <= 1.0), "{neighbors}");
        Calibration::new(&y, &predictions, 10)?;
    }
    Ok(())
}

#[test]
fn means_of_views_are_at_most_one() -> Result<()> {
    let model = sequential![Input::new((3, 2, 2)), Flatten, Dense::new(1).activation(Sigmoid)]?;
    for param in model.params() {
        param.set(&(param.value(Mode::Inference).zeros_like()? + 50.0)?)?;
    }
    let x = Tensor::ones((2, 3, 2, 2), DType::F32, &device())?;
    let predictions = model.predict_augmented(&x, &ImageDataGenerator::new(), 9)?;
    assert!(predictions.iter().all(|row| row[0] <= 1.0), "{predictions}");
    Ok(())
}

/// As in Keras, where the channels are the last dimension.
#[test]
fn softmax_of_feature_maps_is_over_the_channels() -> Result<()> {
    let x = random_uniform((2, 3, 4, 5), -1.0, 1.0)?;
    let model = sequential![Input::new((3, 4, 5)), Conv2D::new(2, 1).activation(Softmax)]?;
    let y = model.forward(&x, Mode::Inference)?;
    let sums = y.sum(1)?.flatten_all()?.to_vec1::<f32>()?;
    assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "sums over the channels: {sums:?}");
    Ok(())
}

#[test]
fn embeddings_refuse_labels_that_are_no_class_numbers() -> Result<()> {
    let features = random_uniform((4, 3), 0.0, 1.0)?;
    for label in [-1f32, 0.5, f32::NAN] {
        let y = Tensor::new(&[0f32, label, 1.0, 1.0], &device())?;
        assert!(Embedding::new(&features, &y, &["a", "b"]).is_err(), "{label}");
    }
    Ok(())
}
