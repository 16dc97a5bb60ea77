//! Which function makes probabilities of a model's outputs.

use super::LossSpec;
use crate::nn::{Activation, Model};

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
        let own = self.training_state().and_then(|state| state.loss.as_ref());
        own.or_else(|| self.nodes()[self.output_node()].layer.model()?.output_loss())
    }
}

#[cfg(test)]
mod tests {
    use crate::nn::{Activation, class_of, probabilities};
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
