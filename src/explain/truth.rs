//! True class numbers of samples, checked against their predictions.

use candle_core::{DType, Tensor};

use crate::nn::Predictions;
use crate::{Error, Result};

/// Returns the true class of each sample, from class numbers `[N]`. A single output stands for two classes.
///
/// # Errors
/// [`Error::Argument`] if:
/// - there are no samples, or the numbers of samples and predictions differ;
/// - a target is not the number of a predicted class;
/// - a prediction is not finite.
pub(super) fn true_classes(truth: &Tensor, predictions: &Predictions) -> Result<Vec<usize>> {
    let refuse = |name, expected: String, found: String| Err(Error::Argument { name, expected, found });
    let truth = truth.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    if truth.is_empty() || truth.len() != predictions.len() {
        let expected = format!("{} rows, one for each sample", truth.len().max(1));
        return refuse("predictions", expected, format!("{} rows", predictions.len()));
    }
    if let Some(sample) = predictions.iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        return refuse(
            "predictions",
            "finite outputs".into(),
            format!("{:?} for sample {sample}", &predictions[sample]),
        );
    }
    let classes = class_count(predictions);
    match truth.iter().find(|class| class.fract() != 0.0 || !(0.0..classes as f32).contains(*class)) {
        Some(class) => refuse("truth", format!("class numbers from 0 to {}", classes - 1), class.to_string()),
        None => Ok(truth.into_iter().map(|class| class as usize).collect()),
    }
}

/// Number of classes: two for a single output.
pub(super) fn class_count(predictions: &Predictions) -> usize {
    predictions.iter().next().map_or(0, <[f32]>::len).max(2)
}

/// Probability of the second class of two, for each sample.
///
/// # Errors
/// [`Error::Argument`] if there are more than two classes.
pub(super) fn second_class_probabilities(predictions: &Predictions) -> Result<Vec<f64>> {
    if class_count(predictions) != 2 {
        let (expected, found) =
            ("predictions of two classes".into(), format!("{} classes", class_count(predictions)));
        return Err(Error::Argument { name: "predictions", expected, found });
    }
    Ok(predictions.probabilities().filter_map(|row| row.last().map(|p| f64::from(*p))).collect())
}
