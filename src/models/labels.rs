//! What a network's outputs mean.

use std::fmt;
use std::ops::Index;

use crate::data::SOURCES;
use crate::display::{Bundle, Show, text_bundle};
use crate::nn::{Labels, Model, Predictions};
use crate::{Error, Result};

/// The thousand classes of ImageNet's 2012 challenge, in the order of their outputs.
const IMAGENET: &str = include_str!("imagenet_classes.txt");

/// The names of the classes, in the order of their outputs.
fn names_of(labels: Labels) -> Vec<&'static str> {
    match labels {
        Labels::ImageNet => IMAGENET.lines().collect(),
        Labels::Drawn => SOURCES.iter().map(|subject| subject.name).collect(),
    }
}

/// For each sample, its likeliest classes, the likeliest first: what
/// [`Model::decode_predictions`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded(Vec<Vec<(&'static str, f32)>>);

impl Model {
    /// Names the `top` likeliest classes of each sample, as Keras's `decode_predictions` does, for a
    /// network with its top and pretrained weights.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let network = Vgg16::new(Weights::Demo).build()?;
    /// let owl = headstart::data::SOURCES.iter().find(|subject| subject.name == "owl").unwrap();
    /// let pixels = owl.draw(64, &mut headstart::random::seeded(4)).into_raw();
    /// let picture = Tensor::from_vec(pixels, (1, 64, 64, 3), &device())?.permute((0, 3, 1, 2))?;
    /// let predictions = network.predict(&network.preprocess(&picture)?)?;
    /// let decoded = network.decode_predictions(&predictions, 3)?;
    /// assert_eq!(decoded[0][0].0, "owl");
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if it is not known what the outputs mean, or the predictions are another
    /// model's.
    pub fn decode_predictions(&self, predictions: &Predictions, top: usize) -> Result<Decoded> {
        let refuse =
            |expected: String, found: String| Error::Argument { name: "decode_predictions", expected, found };
        let Some(labels) = self.labels() else {
            let expected = "a network with its top and pretrained weights".into();
            return Err(refuse(expected, format!("`{}`, whose outputs have no names", self.name())));
        };
        let names = names_of(labels);
        let decode = |row: Vec<f32>| {
            if row.len() != names.len() {
                return Err(refuse(format!("{} outputs a sample", names.len()), row.len().to_string()));
            }
            let mut named: Vec<(&str, f32)> = names.iter().copied().zip(row).collect();
            named.sort_by(|a, b| b.1.total_cmp(&a.1));
            named.truncate(top);
            Ok(named)
        };
        Ok(Decoded(predictions.probabilities().map(decode).collect::<Result<_>>()?))
    }
}

impl Decoded {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Index<usize> for Decoded {
    type Output = [(&'static str, f32)];

    /// # Panics
    /// If there is no such sample.
    fn index(&self, sample: usize) -> &[(&'static str, f32)] {
        &self.0[sample]
    }
}

impl Show for Decoded {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sample, classes) in self.0.iter().enumerate() {
            let classes: Vec<String> =
                classes.iter().map(|(name, sure)| format!("{name} {sure:.3}")).collect();
            writeln!(f, "{sample}: {}", classes.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imagenet_has_a_thousand_classes_in_torchvisions_order() {
        let names = names_of(Labels::ImageNet);
        assert_eq!(names.len(), 1000);
        assert_eq!(
            (names[0], names[281], names[207], names[999]),
            ("tench", "tabby", "golden retriever", "toilet tissue")
        );
    }
}
