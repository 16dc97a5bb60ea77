//! Import of ONNX files as trainable models.
//!
//! [`file`] and [`tensor`] decode the file. [`Importer`] visits its nodes. An operator with weights becomes a layer at
//! once ([`convolution`], [`linear`], [`normalisation`]). A change of shape or layout, or a unary function, is only
//! recorded in a [`View`]; it becomes a layer when an operator needs its values. Transpositions that cancel each other
//! therefore add no layers, and an activation of several operators becomes one layer. [`attention`] does the same for
//! self-attention.

mod arithmetic;
mod attention;
mod attention_nodes;
mod constants;
mod convolution;
mod evaluation;
mod expansion;
mod file;
mod function;
mod importer;
mod inputs;
mod layer_names;
mod linear;
mod names;
mod normalisation;
mod pooling;
mod shapes;
mod tensor;
mod tokens;
mod view;

use std::path::Path;

use self::file::OnnxFile;
use self::importer::Importer;
use super::Model;
use crate::{Error, Result};

/// An error of candle as text.
fn value_error(error: candle_core::Error) -> String {
    error.to_string()
}

impl Model {
    /// Builds a trainable model from an ONNX file, such as an export of PyTorch, Keras, or [`Model::export_onnx`].
    ///
    /// The model is like any other: freeze it, take a part with [`Model::up_to`], add a new head, train it, export it
    /// again. A layer with weights is named after them: `layer1.0.conv1` for `layer1.0.conv1.weight`. Constants per
    /// channel are weights too. Images are channels first, `[N, C, H, W]`: for a file with channels-last images, the
    /// input and the feature maps are transposed. A file does not state the preprocessing: prepare the images as for the
    /// original model. For models of torchvision and timm, use [`preprocess_input`](super::preprocess_input).
    ///
    /// The image size must be fixed in the file. Supported are the operators of convolutional classifiers, ConvNeXt,
    /// multilayer perceptrons and vision transformers, for opset 7 and later. Values in a second file (external data)
    /// are read from the folder of the ONNX file.
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

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::super::onnx_graph::{int, ints};
    use super::*;

    /// An input or output `[batch, …]` of floats.
    fn value(name: &str, dims: &[i64]) -> Message {
        let batch = Message::new().message(1, Message::new().bytes(2, "batch"));
        let shape = dims.iter().fold(batch, |shape, size| shape.message(1, Message::new().number(1, *size)));
        let tensor = Message::new().number(1, 1).message(2, shape);
        Message::new().bytes(1, name).message(2, Message::new().message(1, tensor))
    }

    fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) -> Message {
        let node = inputs.iter().fold(Message::new(), |node, input| node.bytes(1, input));
        let node = node.bytes(2, output).bytes(3, output).bytes(4, op);
        attributes.into_iter().fold(node, |node, attribute| node.message(5, attribute))
    }

    fn integers(name: &str, values: &[i64]) -> Message {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Message::new().number(1, values.len() as i64).number(2, 7).bytes(8, name).bytes(9, bytes)
    }

    /// Imports a graph of some nodes and constants from `x` to `y`, and returns the error's text, or the summary.
    fn import(dims: &[i64], nodes: Vec<Message>, constants: Vec<Message>) -> String {
        let graph =
            nodes.into_iter().fold(Message::new().bytes(2, "graph"), |graph, node| graph.message(1, node));
        let graph = constants.into_iter().fold(graph, |graph, tensor| graph.message(5, tensor));
        let graph = graph.message(11, value("x", dims)).message(12, value("y", &[]));
        let opset = Message::new().bytes(1, "").number(2, 17);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), Message::new().message(7, graph).message(8, opset).into_bytes()).unwrap();
        match Model::from_onnx(file.path()) {
            Ok(model) => model.summary().to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn floats(name: &str, dims: &[i64], values: usize) -> Message {
        let tensor = dims.iter().fold(Message::new(), |tensor, size| tensor.number(1, *size));
        tensor.number(2, 1).bytes(8, name).bytes(9, vec![0; 4 * values])
    }

    #[test]
    fn hostile_graphs_are_errors() {
        let relu = || vec![node("Relu", &["x"], "y", vec![])];
        let dense = || vec![node("MatMul", &["x", "w"], "y", vec![])];
        let cases = [
            (import(&[1 << 40], relu(), vec![]), "expected fixed sizes of 1 to"),
            (import(&[-1], relu(), vec![]), "expected fixed sizes of 1 to"),
            (import(&[65_536, 65_536, 65_536], relu(), vec![]), "the memory of this machine"),
            (import(&[4], dense(), vec![floats("w", &[4, 1 << 62], 2)]), "expected a smaller shape"),
            (import(&[4], dense(), vec![floats("w", &[4, 1 << 40], 2)]), "found 8 bytes"),
            (import(&[4], dense(), vec![floats("w", &[4, -2], 2)]), "expected sizes of 0 or more"),
            (import(&[4], dense(), vec![]), "computed by no earlier node"),
            (import(&[4], vec![node("Relu", &["y"], "y", vec![])], vec![]), "computed by no earlier node"),
            (import(&[4], vec![node("Relu", &[], "y", vec![])], vec![]), "an input is missing"),
            (import(&[4], vec![], vec![]), "output `y`"),
            (import(&[4], vec![node("Loop", &["x"], "y", vec![])], vec![]), "of the operator Loop"),
            (
                import(&[4], vec![node("Transpose", &["x"], "y", vec![ints("perm", &[])])], vec![]),
                "begins with the batch",
            ),
            (
                import(&[4], vec![node("Flatten", &["x"], "y", vec![int("axis", i64::MIN)])], vec![]),
                "expected axes",
            ),
            (
                import(
                    &[3, 8, 8],
                    vec![node("MaxPool", &["x"], "y", vec![ints("kernel_shape", &[0, 1 << 60])])],
                    vec![],
                ),
                "kernel_shape",
            ),
            (
                import(
                    &[3, 8, 8],
                    vec![node("Pad", &["x", "p"], "y", vec![])],
                    vec![integers("p", &[0, 0, i64::MAX, 0, 0, 0, 0, i64::MIN])],
                ),
                "expected padding",
            ),
            (
                import(
                    &[4],
                    vec![node("Reshape", &["x", "s"], "y", vec![])],
                    vec![integers("s", &[-1, i64::MAX, 3])],
                ),
                "expected a shape",
            ),
        ];
        for (found, expected) in cases {
            assert!(found.contains(expected), "expected {expected:?}, found {found}");
        }
    }

    #[test]
    fn small_graphs_cannot_cause_endless_work() {
        // Each node doubles a list.
        let list = |number: usize| format!("list{number}");
        let mut nodes: Vec<Message> = (0..60)
            .map(|at| node("Concat", &[&list(at), &list(at)], &list(at + 1), vec![int("axis", 0)]))
            .collect();
        nodes.push(node("Reshape", &["x", "list60"], "y", vec![]));
        let found = import(&[4], nodes, vec![integers("list0", &[1, 1])]);
        assert!(found.contains("cannot be computed from constants"), "{found}");
        // A function that doubles with each node, and many layers of one name.
        let value = |number: usize| if number == 0 { "x".to_owned() } else { format!("v{number}") };
        let mut nodes: Vec<Message> =
            (0..300).map(|at| node("Mul", &[&value(at), &value(at)], &value(at + 1), vec![])).collect();
        nodes.push(node("Relu", &["v300"], "y", vec![]));
        let found = import(&[4], nodes, vec![]);
        assert!(found.contains("multiply") && found.contains("Total params: 0"), "{found}");
        let mut nodes: Vec<Message> =
            (0..3000).map(|at| node("Softmax", &[&value(at)], &value(at + 1), vec![])).collect();
        nodes.push(node("Relu", &["v3000"], "y", vec![]));
        assert!(import(&[4], nodes, vec![]).contains("v3000"));
        let nodes = (0..20_001).map(|at| node("Relu", &[&value(at)], &value(at + 1), vec![])).collect();
        assert!(import(&[4], nodes, vec![]).contains("expected at most 20000 nodes"));
    }
}
