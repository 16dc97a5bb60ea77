//! How a model's outputs become probabilities, a class and a confidence: everywhere as in `evaluate`.

use super::LossSpec;
use crate::nn::{Activation, Model};

/// Probability above which one output means class 1, as in Keras's `BinaryAccuracy`.
pub(crate) const THRESHOLD: f32 = 0.5;

/// The class of one sample: the largest probability; for one output, 1 above [`THRESHOLD`].
pub(crate) fn class_of(probabilities: &[f32]) -> usize {
    if let [one] = probabilities { usize::from(*one > THRESHOLD) } else { largest(probabilities) }
}

/// The probability of that class.
pub(crate) fn confidence_of(probabilities: &[f32]) -> f32 {
    match probabilities {
        [] => f32::NAN,
        // NaN stays NaN.
        [one] => {
            if *one > THRESHOLD {
                *one
            } else {
                1.0 - *one
            }
        }
        several => several[largest(several)],
    }
}

/// The place of the largest value, the first if there are several.
pub(crate) fn largest(row: &[f32]) -> usize {
    let best =
        |best: (usize, f32), (at, value): (usize, &f32)| if *value > best.1 { (at, *value) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), best).0
}

/// One sample's outputs as probabilities, by the function that [`Model::probability_function`] gives.
pub(crate) fn probabilities(function: Activation, outputs: &[f32]) -> Vec<f32> {
    match function {
        Activation::Sigmoid => outputs.iter().map(|x| ((-x).exp() + 1.0).recip()).collect(),
        Activation::Softmax => {
            let most = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = outputs.iter().map(|x| (x - most).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
        _ => outputs.to_vec(),
    }
}

impl Model {
    /// The function that makes probabilities of the outputs: the loss knows whether they are logits, and so do
    /// pretrained weights with names for their classes. Without either, outputs are taken as probabilities.
    pub(crate) fn probability_function(&self) -> Activation {
        match self.output_loss() {
            Some(loss) => loss.probability_function(),
            None if self.labels().is_some() && self.last_activation() == Activation::Linear => {
                Activation::Softmax
            }
            None => Activation::Linear,
        }
    }

    /// The loss that the model, or the one inside that gives its output, was compiled with.
    fn output_loss(&self) -> Option<&LossSpec> {
        self.loss.as_ref().or_else(|| self.nodes()[self.output_node()].layer.model()?.output_loss())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::train::loss::Output;

    /// The least logits above 0 round to a probability of 0.5.
    #[test]
    fn probabilities_are_those_of_the_metrics() -> crate::Result<()> {
        let values = [-200f32, -3.0, -1e-9, 0.0, 1e-9, 1e-7, 2e-7, 0.3, 200.0];
        let device = crate::device();
        for (loss, columns) in
            [(BinaryCrossentropy, 1), (BinaryCrossentropy, 3), (CategoricalCrossentropy, 3)]
        {
            let loss = loss.from_logits(true);
            let rows = Tensor::from_slice(&values, (values.len() / columns, columns), &device)?;
            let expected = loss
                .spec()
                .probabilities(&Output::of(rows.clone(), Activation::Linear)?)?
                .to_vec2::<f32>()?;
            for (row, expected) in rows.to_vec2::<f32>()?.iter().zip(expected) {
                let found = probabilities(loss.probability_function(), row);
                assert_eq!(class_of(&found), class_of(&expected), "{row:?}");
                assert!(
                    found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6),
                    "{found:?}, {expected:?}"
                );
            }
        }
        Ok(())
    }
}
