//! What the user says of a network before it is built, the same for each.

use candle_core::Shape;

use super::assembler::Assembler;
use crate::nn::{Activation, Model};
use crate::weights::{self, Weights};
use crate::{Error, Result};

/// One network's table, walked by an [`Assembler`].
pub(crate) struct Architecture {
    /// The model's name.
    pub(crate) name: &'static str,
    /// From the picture to the last feature maps.
    pub(crate) features: fn(&mut Assembler) -> Result<()>,
    /// From the feature maps to the classes, with the last activation.
    pub(crate) top: fn(&mut Assembler, usize, Activation) -> Result<()>,
    /// Other stems that files use: torchvision's, then timm's.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
}

/// A network about to be built: [`Vgg16::new`](super::Vgg16::new), [`ResNet50::new`](super::ResNet50::new).
#[derive(Clone, Debug)]
pub struct Network {
    architecture: &'static Architecture,
    weights: Weights,
    include_top: bool,
    input_shape: Vec<usize>,
    classes: usize,
    classifier_activation: Activation,
}

impl Network {
    pub(crate) fn new(architecture: &'static Architecture, weights: Weights) -> Network {
        Network {
            architecture,
            weights,
            include_top: true,
            input_shape: vec![3, 224, 224],
            classes: 1000,
            classifier_activation: Activation::Softmax,
        }
    }

    /// Sets whether the layers that name the 1000 classes are there: `true` unless told.
    pub fn include_top(self, include_top: bool) -> Network {
        Network { include_top, ..self }
    }

    /// Sets the shape of a picture, channels first: `(3, 224, 224)` unless told; each side at least 32.
    pub fn input_shape(self, shape: impl Into<Shape>) -> Network {
        Network { input_shape: shape.into().into_dims(), ..self }
    }

    /// Sets the number of classes of the top: 1000 unless told.
    pub fn classes(self, classes: usize) -> Network {
        Network { classes, ..self }
    }

    /// Sets the last function of the top: `Softmax` unless told; `Linear` gives the logits.
    pub fn classifier_activation(self, activation: Activation) -> Network {
        Network { classifier_activation: activation, ..self }
    }

    /// Builds the network and fills in its weights.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input's shape does not suit the network; [`Error::Weights`], with
    /// the tensors concerned, if the weights are another network's; [`Error::Io`].
    pub fn build(self) -> Result<Model> {
        let name = self.architecture.name;
        match *self.input_shape {
            [3, height, width] if height >= 32 && width >= 32 => {}
            _ => {
                let hint = "pictures are channels first here, as in `.input_shape((3, 224, 224))`";
                let expected = "(3, height, width) with sides of at least 32";
                return Err(Error::shape(format!("{name}'s input_shape"), expected, &self.input_shape, hint));
            }
        }
        let seed = match self.weights {
            Weights::Random(seed) => Some(seed),
            _ => None,
        };
        let mut assembler = Assembler::new(name, &self.input_shape, seed)?;
        (self.architecture.features)(&mut assembler)?;
        if self.include_top {
            (self.architecture.top)(&mut assembler, self.classes, self.classifier_activation)?;
        }
        let (model, stems) = assembler.finish();
        weights::fill(&model, &stems, self.architecture.aliases, &self.weights)?;
        Ok(model)
    }
}

impl std::fmt::Debug for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
