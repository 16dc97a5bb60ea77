//! Export to ONNX (`onnx/onnx.proto`), opset 17.

use std::path::Path;

use super::onnx_graph::{FLOAT, Graph, INT64, float, int, window};
use super::onnx_layers::Export;
use super::protobuf::Message;
use super::{Activation, LayerConfig, Model, Node};
use crate::files::write_whole;
use crate::{Error, Result};

/// Versions of the ONNX format and of its operators (17: the first with `LayerNormalization`).
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

impl Model {
    /// Exports the model as an ONNX file, for onnxruntime and other tools. The file is written atomically. Its input
    /// is `[batch, …]` with any batch size, preprocessed as for this model.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.onnx");
    /// let model = sequential![Input::new(4), Dense::new(2).activation(Softmax)]?;
    /// model.export_onnx(&path)?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Argument`] if the model has a custom layer.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        let (inputs, outputs) = self.names_in_file();
        let mut graph = Graph::new(inputs.iter().chain(&outputs).cloned().collect());
        let lasts = graph.model(self, "", inputs.clone())?;
        for (last, output) in lasts.into_iter().zip(&outputs) {
            graph.node("Identity", &[last], output.clone(), Vec::new());
        }
        let mut message = Message::new();
        for node in graph.nodes {
            message = message.message(1, node);
        }
        // A graph must have a name.
        message = message.bytes(2, if self.name().is_empty() { "model" } else { self.name() });
        for tensor in graph.tensors {
            message = message.message(5, tensor);
        }
        let shape = |node: usize| self.nodes()[node].layer.output_shape();
        for (&node, name) in self.input_nodes().iter().zip(&inputs) {
            message = message.message(11, value(name, shape(node)));
        }
        for (output, name) in self.outputs().iter().zip(&outputs) {
            message = message.message(12, value(name, shape(output.node)));
        }
        let opset = Message::new().bytes(1, "").number(2, OPSET);
        let file = Message::new()
            .number(1, IR_VERSION)
            .bytes(2, "headstart")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(7, message)
            .message(8, opset);
        write_whole(path.as_ref(), &file.into_bytes())
    }

    /// The names of inputs and outputs in the file: `input` and `output`, or, of several, the model's own. An output
    /// with the name of an input gets a number.
    fn names_in_file(&self) -> (Vec<String>, Vec<String>) {
        let several = |names: Vec<String>, single: &str| match names.len() {
            1 => vec![single.to_owned()],
            _ => names,
        };
        let inputs = several(self.input_names(), "input");
        let mut outputs: Vec<String> = Vec::new();
        for name in several(self.output_names(), "output") {
            let numbered = (1..).map(|number| format!("{name}_{number}"));
            let is_free = |name: &String| !inputs.contains(name) && !outputs.contains(name);
            let free = std::iter::once(name.clone()).chain(numbered).find(is_free);
            outputs.push(free.expect("the numbers do not end"));
        }
        (inputs, outputs)
    }
}

/// `ValueInfoProto` of floats with any batch size.
fn value(name: &str, shape: &[usize]) -> Message {
    let mut dims = Message::new().message(1, Message::new().bytes(2, "batch"));
    for size in shape {
        dims = dims.message(1, Message::new().number(1, *size as i64));
    }
    let tensor = Message::new().number(1, FLOAT).message(2, dims);
    Message::new().bytes(1, name).message(2, Message::new().message(1, tensor))
}

impl Graph {
    /// Adds the layers of a model and returns the names of its outputs.
    fn model(&mut self, model: &Model, path: &str, inputs: Vec<String>) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for (index, node) in model.nodes().iter().enumerate() {
            if let Some(position) = model.input_nodes().iter().position(|input| *input == index) {
                names.push(inputs[position].clone());
                continue;
            }
            let inputs: Vec<String> = node.inputs().map(|at| names[at].clone()).collect();
            let path = self.fresh(format!("{path}{}", node.name));
            names.push(match node.layer.model() {
                Some(inside) => self.model(inside, &format!("{path}/"), inputs)?.swap_remove(0),
                None => self.layer(model, node, &path, inputs)?,
            });
        }
        Ok(model.outputs().iter().map(|output| names[output.node].clone()).collect())
    }

    /// Adds one layer and returns the name of its output, which is the layer's name.
    fn layer(&mut self, model: &Model, node: &Node, path: &str, inputs: Vec<String>) -> Result<String> {
        let Some(config) = &node.config else {
            let found = format!("`{}`, of type {}", node.name, node.layer.kind());
            return Err(Error::Argument {
                name: "a model for ONNX",
                expected: "layers of the library".into(),
                found,
            });
        };
        let shape = |at: usize| model.nodes()[at].layer.output_shape();
        let input = node.inputs().next().map(shape).unwrap_or_default();
        let mut weighted = inputs.clone();
        for param in node.layer.params().into_iter().filter(|param| !param.is_adapter()) {
            let name = self.fresh(format!("{path}/{}", param.name()));
            self.tensor(&name, &param.merged()?)?;
            weighted.push(name);
        }
        // Input of the layer's activation.
        let linear = self.fresh(format!("{path}/linear"));
        let to = linear.clone();
        let activation = match config {
            LayerConfig::Conv2D(conv) => {
                let groups = if conv.depthwise { input[0] } else { conv.groups } as i64;
                let sides = conv.kernel_size.sides();
                let attributes = window(input, sides, conv.dilation_rate, conv.strides.side(), conv.padding);
                self.node("Conv", &weighted, to, [attributes, vec![int("group", groups)]].concat());
                conv.activation
            }
            LayerConfig::Dense(dense) if input.len() > 1 => {
                self.linear(&weighted[0], &weighted[1], weighted.get(2), &to);
                dense.activation
            }
            LayerConfig::Dense(dense) => {
                self.node("Gemm", &weighted, to, vec![int("transB", 1)]);
                dense.activation
            }
            LayerConfig::BatchNormalization(norm) => {
                self.node("BatchNormalization", &weighted, to, vec![float("epsilon", norm.epsilon as f32)]);
                Activation::Linear
            }
            LayerConfig::MaxPooling2D(pool) => {
                let attributes = window(input, pool.pool_size.sides(), 1, pool.strides.side(), pool.padding);
                self.node("MaxPool", &inputs, to, attributes);
                Activation::Linear
            }
            LayerConfig::AveragePooling2D(pool) => {
                let attributes = window(input, pool.pool_size.sides(), 1, pool.strides.side(), pool.padding);
                self.node(
                    "AveragePool",
                    &inputs,
                    to,
                    [attributes, vec![int("count_include_pad", 0)]].concat(),
                );
                Activation::Linear
            }
            LayerConfig::GlobalAveragePooling2D(_) => self.global_pool("GlobalAveragePool", &inputs, to),
            LayerConfig::GlobalMaxPooling2D(_) => self.global_pool("GlobalMaxPool", &inputs, to),
            LayerConfig::Flatten(_) => {
                self.node("Flatten", &inputs, to, Vec::new());
                Activation::Linear
            }
            LayerConfig::Reshape(_) => {
                // 0 keeps the batch size.
                let sizes: Vec<i64> =
                    std::iter::once(0).chain(node.layer.output_shape().iter().map(|n| *n as i64)).collect();
                let bytes = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
                let name = self.fresh(format!("{path}/shape"));
                self.raw(&name, &[sizes.len()], INT64, bytes);
                self.node("Reshape", &[inputs[0].clone(), name], to, Vec::new());
                Activation::Linear
            }
            LayerConfig::Rescaling(rescaling) => {
                let scale = self.number(format!("{path}/scale"), rescaling.scale as f32);
                let offset = self.number(format!("{path}/offset"), rescaling.offset as f32);
                let scaled = self.fresh(format!("{path}/scaled"));
                self.node("Mul", &[inputs[0].clone(), scale], scaled.clone(), Vec::new());
                self.node("Add", &[scaled, offset], to, Vec::new());
                Activation::Linear
            }
            LayerConfig::Add(_) => self.merge("Add", &inputs, to),
            LayerConfig::Multiply(_) => self.merge("Mul", &inputs, to),
            LayerConfig::Dropout(_) => {
                self.node("Identity", &inputs, to, Vec::new());
                Activation::Linear
            }
            LayerConfig::Activation(activation) => {
                self.node("Identity", &inputs, to, Vec::new());
                *activation
            }
            LayerConfig::Model(_) => unreachable!("the layers of a nested model are added one by one"),
            other => {
                let params = &weighted[inputs.len()..];
                self.transformer_layer(other, Export { node, input, inputs: &inputs, params, to: &to })?
            }
        };
        let is_of_maps = node.layer.output_shape().len() == 3;
        self.activation(activation, linear, path, is_of_maps);
        Ok(path.to_owned())
    }

    fn global_pool(&mut self, op: &str, inputs: &[String], output: String) -> Activation {
        let maps = self.fresh(format!("{output}/maps"));
        self.node(op, inputs, maps.clone(), Vec::new());
        self.node("Flatten", &[maps], output, Vec::new());
        Activation::Linear
    }

    /// Merges the inputs pairwise.
    fn merge(&mut self, op: &str, inputs: &[String], output: String) -> Activation {
        let mut joined = inputs[0].clone();
        for other in &inputs[1..] {
            let name = self.fresh(format!("{output}/joined"));
            self.node(op, &[joined, other.clone()], name.clone(), Vec::new());
            joined = name;
        }
        self.node("Identity", &[joined], output, Vec::new());
        Activation::Linear
    }

    /// `is_of_maps`: whether the input has feature maps, whose classes are the channels.
    fn activation(&mut self, function: Activation, input: String, output: &str, is_of_maps: bool) {
        let name = output.to_owned();
        match function {
            Activation::Linear => self.node("Identity", &[input], name, Vec::new()),
            Activation::Relu => self.node("Relu", &[input], name, Vec::new()),
            Activation::Relu6 => {
                let min = self.number(format!("{output}/least"), 0.0);
                let max = self.number(format!("{output}/most"), 6.0);
                self.node("Clip", &[input, min, max], name, Vec::new());
            }
            Activation::Sigmoid => self.node("Sigmoid", &[input], name, Vec::new()),
            Activation::Silu => {
                let gate = self.fresh(format!("{output}/gate"));
                self.node("Sigmoid", std::slice::from_ref(&input), gate.clone(), Vec::new());
                self.node("Mul", &[input, gate], name, Vec::new());
            }
            Activation::Softmax => {
                let axis = if is_of_maps { 1 } else { -1 };
                self.node("Softmax", &[input], name, vec![int("axis", axis)]);
            }
            Activation::Tanh => self.node("Tanh", &[input], name, Vec::new()),
            Activation::Gelu | Activation::GeluTanh => {
                self.gelu(input, output, function == Activation::GeluTanh);
            }
            Activation::HardSigmoid => {
                self.node("HardSigmoid", &[input], name, vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
            }
            Activation::HardSwish => self.node("HardSwish", &[input], name, Vec::new()),
        }
    }
}
