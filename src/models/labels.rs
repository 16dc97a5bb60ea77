//! Class names of a network's outputs.

use std::fmt;
use std::ops::Index;

use crate::data::SOURCES;
use crate::display::{Bundle, Show, text_bundle};
use crate::nn::{Labels, Model, Predictions};
use crate::{Error, Result};

/// The 1000 classes of the ImageNet 2012 challenge, in output order.
const IMAGENET: &str = include_str!("imagenet_classes.txt");

/// Class names in output order.
fn names_of(labels: Labels) -> Vec<&'static str> {
    match labels {
        Labels::ImageNet => IMAGENET.lines().collect(),
        Labels::Drawn => SOURCES.iter().map(|subject| subject.name).collect(),
    }
}

/// Result of [`Model::decode_predictions`]: for each sample the most probable classes as (name, probability),
/// in descending order.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded(Vec<Vec<(&'static str, f32)>>);

impl Model {
    /// Returns the names of the `top` most probable classes of each sample, like Keras's `decode_predictions`. The
    /// network needs its top and pretrained weights.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let network = Vgg16::new(Weights::Demo).build()?;
    /// let owl = headstart::data::SOURCES.iter().find(|subject| subject.name == "owl").unwrap();
    /// let pixels = owl.draw(64, &mut headstart::random::seeded(4)).into_raw();
    /// let image = Tensor::from_vec(pixels, (1, 64, 64, 3), &device())?.permute((0, 3, 1, 2))?;
    /// let predictions = network.predict(&network.preprocess(&image)?)?;
    /// let decoded = network.decode_predictions(&predictions, 3)?;
    /// assert_eq!(decoded[0][0].0, "owl");
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the class names are unknown, or the number of outputs per sample does not match.
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
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Index<usize> for Decoded {
    type Output = [(&'static str, f32)];

    /// # Panics
    /// If the index is out of range.
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
    fn imagenet_classes_match_torchvision_order() {
        let names = names_of(Labels::ImageNet);
        assert_eq!(names.len(), 1000);
        assert_eq!(
            (names[0], names[281], names[207], names[999]),
            ("tench", "tabby", "golden retriever", "toilet tissue")
        );
    }
}
