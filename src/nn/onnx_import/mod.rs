//! Import of ONNX files as trainable models.
//!
//! [`file`] and [`tensor`] decode the file. [`Importer`] goes through its nodes: an operator with weights becomes a
//! layer at once ([`convolution`], [`linear`], [`normalisation`]); a change of shape or layout, or a function of one value, is
//! only recorded in a [`View`] and becomes a layer when an operator needs its values. So transpositions that cancel
//! each other and activations of several operators leave no trace.

mod arithmetic;
mod constants;
mod convolution;
mod file;
mod function;
mod importer;
mod inputs;
mod linear;
mod names;
mod normalisation;
mod pooling;
mod shapes;
mod tensor;
mod view;

use std::path::Path;

use self::file::OnnxFile;
use self::importer::Importer;
use super::Model;
use crate::{Error, Result};

impl Model {
    /// Builds a trainable model from an ONNX file, such as an export of PyTorch, Keras, or [`Model::export_onnx`].
    ///
    /// The model is like any other: freeze it, take a part with [`Model::up_to`], put a new head on it, train it, export
    /// it again. A layer with weights is named after them: `layer1.0.conv1` for `layer1.0.conv1.weight`. Constants per
    /// channel are weights too. Images are channels first, `[N, C, H, W]`: for a file with channels-last images the
    /// input and the feature maps are turned. A file does not state the preprocessing: prepare the images as for the
    /// original model, for torchvision's and timm's with [`preprocess_input`](super::preprocess_input).
    ///
    /// The image size must be fixed in the file. Supported are the operators of convolutional classifiers, ConvNeXt and
    /// multilayer perceptrons, for opset 7 and later. Values in a second file (external data) are read from the folder
    /// of the ONNX file.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.onnx");
    /// # Vgg16::new(Weights::Demo).include_top(false).build()?.export_onnx(&path)?;
    /// let base = Model::from_onnx(&path)?;
    /// base.freeze();
    /// let model = sequential![base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
    /// # assert_eq!(model.output_shape(), [1]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Onnx`] if it is damaged, or an operator has no layer here: the
    /// message names the node.
    pub fn from_onnx(path: impl AsRef<Path>) -> Result<Model> {
        Model::imported(path.as_ref())
    }

    fn imported(path: &Path) -> Result<Model> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let refuse = |problem: String| Error::Onnx { path: path.to_owned(), problem };
        let file = OnnxFile::read(&bytes)
            .map_err(|problem| refuse(format!("this is no ONNX file, or it is damaged: {problem}")))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Importer::new(&file, folder, &stem).and_then(Importer::run).map_err(refuse)
    }
}
