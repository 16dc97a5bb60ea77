//! A model for others: ONNX (`onnx/onnx.proto`), opset 17.

use std::collections::HashSet;
use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;

use super::{Activation, Model, Node, Padding};
use crate::data::write_whole;
use crate::protobuf::Message;
use crate::{Error, Result};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

impl Model {
    /// Writes the model as an ONNX file, whole or not at all, for onnxruntime and others: pictures of
    /// any number in, `[batch, …]`, as the model takes them, and its outputs.
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
    /// [`Error::Io`] if the file cannot be written; [`Error::Argument`] if a layer of your own is in
    /// the model.
    pub fn export_onnx(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut graph = Graph::default();
        let last = graph.model(self, "", "input".into())?;
        graph.node("Identity", &[last], "output".into(), Vec::new());
        let mut message = Message::new();
        for node in graph.nodes {
            message = message.message(1, node);
        }
        message = message.bytes(2, self.name());
        for tensor in graph.tensors {
            message = message.message(5, tensor);
        }
        message = message.message(11, value("input", self.input_shape()));
        message = message.message(12, value("output", self.output_shape()));
        let opset = Message::new().bytes(1, "").number(2, OPSET);
        let file = Message::new()
            .number(1, IR_VERSION)
            .bytes(2, "headstart")
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .message(7, message)
            .message(8, opset);
        write_whole(path.as_ref(), &file.into_bytes())
    }
}

/// `ValueInfoProto` of floats, any number of samples.
fn value(name: &str, shape: &[usize]) -> Message {
    let mut dims = Message::new().message(1, Message::new().bytes(2, "batch"));
    for size in shape {
        dims = dims.message(1, Message::new().number(1, *size as i64));
    }
    let tensor = Message::new().number(1, FLOAT).message(2, dims);
    Message::new().bytes(1, name).message(2, Message::new().message(1, tensor))
}

/// Nodes and weights.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    tensors: Vec<Message>,
    /// Names of layers and tensors so far.
    taken: HashSet<String>,
}

impl Graph {
    /// A name that nothing else in the file has: a layer may be called `output` too.
    fn fresh(&mut self, name: String) -> String {
        let numbered = (1..).map(|number| format!("{name}_{number}"));
        let is_free = |name: &String| !["input", "output"].contains(&&**name) && !self.taken.contains(name);
        let found =
            std::iter::once(name.clone()).chain(numbered).find(is_free).expect("the numbers do not end");
        self.taken.insert(found.clone());
        found
    }

    /// Adds the layers of a model; gives the name of its output.
    fn model(&mut self, model: &Model, way: &str, input: String) -> Result<String> {
        let mut names = vec![input];
        for node in &model.nodes()[1..] {
            let inputs: Vec<String> = node.inputs().map(|at| names[at].clone()).collect();
            let way = self.fresh(format!("{way}{}", node.name));
            names.push(match node.layer.model() {
                Some(inside) => self.model(inside, &format!("{way}/"), inputs[0].clone())?,
                None => self.layer(model, node, &way, inputs)?,
            });
        }
        Ok(names.swap_remove(model.output_node()))
    }

    /// Adds one layer; gives the name of its output, which is the layer's.
    fn layer(&mut self, model: &Model, node: &Node, way: &str, inputs: Vec<String>) -> Result<String> {
        let refuse = || {
            let found = format!("`{}`, of type {}", node.name, node.layer.kind());
            Error::Argument { name: "a model for ONNX", expected: "layers of headstart's".into(), found }
        };
        let config = serde_json::to_value(node.config.as_ref().ok_or_else(refuse)?).map_err(|_| refuse())?;
        let config = &config["config"];
        let number = |name: &str| config[name].as_u64().unwrap_or_default() as i64;
        let shape = |at: usize| model.nodes()[at].layer.output_shape();
        let before = node.inputs().next().map(shape).unwrap_or_default();
        let params = node.layer.params();
        let mut weighted = inputs.clone();
        for param in &params {
            let name = self.fresh(format!("{way}/{}", param.name()));
            self.tensor(&name, &param.variable().as_detached_tensor())?;
            weighted.push(name);
        }
        // What the layer's last function is applied to.
        let bare = format!("{way}/linear");
        let window = |size: &str| -> Result<Vec<Message>> {
            let padding: Padding = serde_json::from_value(config["padding"].clone()).map_err(|_| refuse())?;
            let (size, stride) = (number(size), number("strides"));
            let around = |side: usize| padding.amount(side, size as usize, stride as usize);
            let ((top, bottom), (left, right)) = (around(before[1]), around(before[2]));
            Ok(vec![
                ints("kernel_shape", &[size, size]),
                ints("strides", &[stride, stride]),
                ints("pads", &[top as i64, left as i64, bottom as i64, right as i64]),
            ])
        };
        match node.layer.kind() {
            "Conv2D" | "DepthwiseConv2D" => {
                let groups = if node.layer.kind() == "Conv2D" { 1 } else { before[0] as i64 };
                let attributes = [window("kernel_size")?, vec![int("group", groups)]].concat();
                self.node("Conv", &weighted, bare.clone(), attributes);
            }
            "Dense" => self.node("Gemm", &weighted, bare.clone(), vec![int("transB", 1)]),
            "BatchNormalization" => {
                let epsilon = config["epsilon"].as_f64().unwrap_or_default() as f32;
                let epsilon = Message::new().bytes(1, "epsilon").float(2, epsilon).number(20, 1);
                self.node("BatchNormalization", &weighted, bare.clone(), vec![epsilon]);
            }
            "MaxPooling2D" => self.node("MaxPool", &inputs, bare.clone(), window("pool_size")?),
            "AveragePooling2D" => {
                let attributes = [window("pool_size")?, vec![int("count_include_pad", 0)]].concat();
                self.node("AveragePool", &inputs, bare.clone(), attributes);
            }
            kind @ ("GlobalAveragePooling2D" | "GlobalMaxPooling2D") => {
                let pool =
                    if kind == "GlobalAveragePooling2D" { "GlobalAveragePool" } else { "GlobalMaxPool" };
                self.node(pool, &inputs, format!("{way}/maps"), Vec::new());
                self.node("Flatten", &[format!("{way}/maps")], bare.clone(), Vec::new());
            }
            "Flatten" => self.node("Flatten", &inputs, bare.clone(), Vec::new()),
            "Reshape" => {
                // 0 keeps the number of samples.
                let sizes: Vec<i64> =
                    std::iter::once(0).chain(node.layer.output_shape().iter().map(|n| *n as i64)).collect();
                let bytes = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
                let name = format!("{way}/shape");
                self.raw(&name, &[sizes.len()], INT64, bytes);
                self.node("Reshape", &[inputs[0].clone(), name], bare.clone(), Vec::new());
            }
            "Rescaling" => {
                for (name, value) in [("scale", &config["scale"]), ("offset", &config["offset"])] {
                    let bytes = (value.as_f64().unwrap_or_default() as f32).to_le_bytes().to_vec();
                    self.raw(&format!("{way}/{name}"), &[], FLOAT, bytes);
                }
                let scaled = format!("{way}/scaled");
                self.node("Mul", &[inputs[0].clone(), format!("{way}/scale")], scaled.clone(), Vec::new());
                self.node("Add", &[scaled, format!("{way}/offset")], bare.clone(), Vec::new());
            }
            kind @ ("Add" | "Multiply") => {
                let op = if kind == "Add" { "Add" } else { "Mul" };
                let mut sum = inputs[0].clone();
                for (at, other) in inputs.iter().enumerate().skip(1) {
                    let name = if at + 1 == inputs.len() { bare.clone() } else { format!("{way}/{at}") };
                    self.node(op, &[sum, other.clone()], name.clone(), Vec::new());
                    sum = name;
                }
            }
            "Activation" | "Dropout" => self.node("Identity", &inputs, bare.clone(), Vec::new()),
            _ => return Err(refuse()),
        }
        let function = match node.layer.kind() {
            "Activation" => config,
            _ => &config["activation"],
        };
        self.activation(function, bare, way)
    }

    /// Applies a function, `null` for none.
    fn activation(&mut self, function: &Value, input: String, output: &str) -> Result<String> {
        let function: Activation = serde_json::from_value(function.clone()).unwrap_or_default();
        let name = output.to_owned();
        match function {
            Activation::Linear => self.node("Identity", &[input], name, Vec::new()),
            Activation::Relu => self.node("Relu", &[input], name, Vec::new()),
            Activation::Relu6 => {
                let bounds = ["least", "most"].map(|bound| format!("{output}/{bound}"));
                self.raw(&bounds[0], &[], FLOAT, 0f32.to_le_bytes().to_vec());
                self.raw(&bounds[1], &[], FLOAT, 6f32.to_le_bytes().to_vec());
                let [least, most] = bounds;
                self.node("Clip", &[input, least, most], name, Vec::new());
            }
            Activation::Sigmoid => self.node("Sigmoid", &[input], name, Vec::new()),
            Activation::Silu => {
                let gate = format!("{output}/gate");
                self.node("Sigmoid", std::slice::from_ref(&input), gate.clone(), Vec::new());
                self.node("Mul", &[input, gate], name, Vec::new());
            }
            Activation::Softmax => self.node("Softmax", &[input], name, vec![int("axis", -1)]),
            Activation::Tanh => self.node("Tanh", &[input], name, Vec::new()),
        }
        Ok(output.to_owned())
    }

    fn node(&mut self, op: &str, inputs: &[String], output: String, attributes: Vec<Message>) {
        let mut node = Message::new();
        for input in inputs {
            node = node.bytes(1, input);
        }
        node = node.bytes(2, &output).bytes(3, &output).bytes(4, op);
        for attribute in attributes {
            node = node.message(5, attribute);
        }
        self.nodes.push(node);
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, tensor.dims(), FLOAT, bytes);
        Ok(())
    }

    fn raw(&mut self, name: &str, dims: &[usize], kind: i64, bytes: Vec<u8>) {
        let mut tensor = Message::new();
        for size in dims {
            tensor = tensor.number(1, *size as i64);
        }
        self.tensors.push(tensor.number(2, kind).bytes(8, name).bytes(9, bytes));
    }
}

/// `AttributeProto` of a number.
fn int(name: &str, value: i64) -> Message {
    Message::new().bytes(1, name).number(3, value).number(20, 2)
}

/// `AttributeProto` of numbers.
fn ints(name: &str, values: &[i64]) -> Message {
    let message =
        values.iter().fold(Message::new().bytes(1, name), |message, value| message.number(8, *value));
    message.number(20, 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_file_are_unique() {
        let mut graph = Graph::default();
        let fresh = |graph: &mut Graph, name: &str| graph.fresh(name.to_owned());
        assert_eq!(fresh(&mut graph, "output"), "output_1");
        assert_eq!(fresh(&mut graph, "output"), "output_2");
        assert_eq!(fresh(&mut graph, "a/kernel"), "a/kernel");
        assert_eq!(fresh(&mut graph, "a/kernel"), "a/kernel_1");
        assert_eq!(fresh(&mut graph, "dense"), "dense");
    }
}
