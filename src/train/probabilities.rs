//! The activation that converts a model's outputs to probabilities.

use super::LossSpec;
use crate::nn::{Activation, Model};

impl Model {
    /// Returns the activation that converts the outputs to probabilities. The loss determines whether
    /// they are logits. Without a loss, pretrained weights with class names and a linear output have
    /// logits; all other outputs are taken as probabilities.
    pub(crate) fn probability_function(&self) -> Activation {
        match self.stated_probability_function() {
            Some(function) => function,
            None if self.labels().is_some() && self.last_activation() == Activation::Linear => {
                Activation::Softmax
            }
            None => Activation::Linear,
        }
    }

    /// The function of the loss of this model, or of the nested model that computes its output.
    pub(super) fn stated_probability_function(&self) -> Option<Activation> {
        let own = self.training_state().and_then(|state| {
            state.loss.as_ref().map(LossSpec::probability_function).or(state.probability_function)
        });
        own.or_else(|| self.nodes()[self.output_node()].layer.model()?.stated_probability_function())
    }
}

#[cfg(test)]
mod tests {
    use crate::nn::{Activation, class_of, probabilities};
    use crate::prelude::*;
    use crate::train::loss::Output;

    /// The smallest logits above 0 give a probability that rounds to 0.5.
    #[test]
    fn probabilities_match_those_of_the_metrics() -> crate::Result<()> {
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
