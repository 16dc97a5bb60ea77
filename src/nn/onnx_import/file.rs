//! The content of an ONNX file (`onnx/onnx.proto`). Everything borrows from the file's bytes.

use std::collections::HashMap;

use super::tensor::StoredTensor;
use crate::nn::protobuf_reader::Fields;

/// Largest number of nodes (20,000: the largest classifiers have some 2,000).
const MAX_NODES: usize = 20_000;
/// Oldest supported opset. The importer handles differences between it and later ones.
const MIN_OPSET: i64 = 7;

/// The graph of a file.
#[derive(Default)]
pub(super) struct OnnxFile<'a> {
    pub(super) name: &'a str,
    /// Version of the default operator set.
    pub(super) opset: i64,
    pub(super) nodes: Vec<OnnxNode<'a>>,
    pub(super) initializers: HashMap<&'a str, StoredTensor<'a>>,
    /// Inputs without initializers.
    pub(super) inputs: Vec<OnnxInput<'a>>,
    pub(super) outputs: Vec<&'a str>,
}

/// A node: an operator with the names of its inputs and outputs.
#[derive(Default)]
pub(super) struct OnnxNode<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    domain: &'a str,
    /// An omitted input has an empty name.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: HashMap<&'a str, Attribute<'a>>,
}

/// An input of the graph.
#[derive(Default)]
pub(super) struct OnnxInput<'a> {
    pub(super) name: &'a str,
    /// `TensorProto.DataType`.
    pub(super) kind: i64,
    /// All sizes, with the batch. `None`: any size. Missing if the file does not state the shape.
    pub(super) dims: Option<Vec<Option<i64>>>,
}

/// The value of a node's attribute.
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Tensor(StoredTensor<'a>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    /// A graph, or another type that no supported operator has.
    Other,
}

impl<'a> OnnxFile<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<OnnxFile<'a>, String> {
        let mut file = OnnxFile::default();
        let (mut graph, mut opset) = (None, None);
        for field in Fields::of(bytes) {
            match field? {
                (7, value) => graph = Some(value.bytes()?),
                (8, value) => {
                    let (mut domain, mut version) = ("", 0);
                    for field in Fields::of(value.bytes()?) {
                        match field? {
                            (1, value) => domain = value.text()?,
                            (2, value) => version = value.number()?,
                            _ => {}
                        }
                    }
                    if is_default(domain) {
                        opset = Some(version);
                    }
                }
                _ => {}
            }
        }
        let graph = graph.ok_or("expected a graph of ONNX, found none")?;
        file.opset = opset.ok_or("expected a version of ONNX's operators, found none")?;
        if file.opset < MIN_OPSET {
            let found = file.opset;
            return Err(format!(
                "expected opset {MIN_OPSET} or later, found {found}; export the model again"
            ));
        }
        file.read_graph(graph)?;
        Ok(file)
    }

    fn read_graph(&mut self, graph: &'a [u8]) -> Result<(), String> {
        for field in Fields::of(graph) {
            match field? {
                (1, value) => self.nodes.push(OnnxNode::read(value.bytes()?)?),
                (2, value) => self.name = value.text()?,
                (5, value) => {
                    let tensor = StoredTensor::read(value.bytes()?)?;
                    self.initializers.insert(tensor.name, tensor);
                }
                (11, value) => self.inputs.push(OnnxInput::read(value.bytes()?)?),
                (12, value) => self.outputs.push(OnnxInput::read(value.bytes()?)?.name),
                (15, _) => return Err("expected dense tensors, found a sparse one".into()),
                _ => {}
            }
            if self.nodes.len() > MAX_NODES {
                return Err(format!("expected at most {MAX_NODES} nodes, found more"));
            }
        }
        // Older files list the initializers among the inputs.
        self.inputs.retain(|input| !self.initializers.contains_key(input.name));
        Ok(())
    }
}

/// Whether a domain is that of ONNX's own operators.
fn is_default(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

impl<'a> OnnxNode<'a> {
    fn read(message: &'a [u8]) -> Result<OnnxNode<'a>, String> {
        let mut node = OnnxNode::default();
        for field in Fields::of(message) {
            match field? {
                (1, value) => node.inputs.push(value.text()?),
                (2, value) => node.outputs.push(value.text()?),
                (3, value) => node.name = value.text()?,
                (4, value) => node.op = value.text()?,
                (5, value) => {
                    let (name, attribute) = Attribute::read(value.bytes()?)?;
                    node.attributes.insert(name, attribute);
                }
                (7, value) => node.domain = value.text()?,
                _ => {}
            }
        }
        Ok(node)
    }

    /// Whether the operator is one of ONNX's own.
    pub(super) fn is_standard(&self) -> bool {
        is_default(self.domain)
    }

    /// The operator's name in errors: `Conv`, or `com.microsoft.FusedConv`.
    pub(super) fn operator(&self) -> String {
        if self.is_standard() { self.op.to_owned() } else { format!("{}.{}", self.domain, self.op) }
    }

    /// The name of an input; empty if it is omitted.
    pub(super) fn input(&self, index: usize) -> &'a str {
        self.inputs.get(index).copied().unwrap_or_default()
    }

    /// The first output.
    pub(super) fn output(&self) -> &'a str {
        self.outputs.first().copied().unwrap_or_default()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(format!("attribute `{name}`: expected an integer")),
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(format!("attribute `{name}`: expected a number")),
        }
    }

    pub(super) fn text(&self, name: &str, default: &'a str) -> Result<&'a str, String> {
        match self.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Text(value)) => Ok(value),
            Some(_) => Err(format!("attribute `{name}`: expected text")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(format!("attribute `{name}`: expected integers")),
        }
    }
}

impl<'a> Attribute<'a> {
    fn read(message: &'a [u8]) -> Result<(&'a str, Attribute<'a>), String> {
        let (mut name, mut kind) = ("", 0);
        let (mut int, mut float, mut text, mut tensor) = (None, None, None, None);
        let (mut ints, mut floats) = (Vec::new(), Vec::new());
        for field in Fields::of(message) {
            match field? {
                (1, value) => name = value.text()?,
                (2, value) => float = Some(value.float()?),
                (3, value) => int = Some(value.number()?),
                // Text attributes of unsupported operators may contain any bytes.
                (4, value) => text = Some(std::str::from_utf8(value.bytes()?).unwrap_or_default()),
                (5, value) => tensor = Some(StoredTensor::read(value.bytes()?)?),
                (7, value) => value.floats_into(&mut floats)?,
                (8, value) => value.numbers_into(&mut ints)?,
                (20, value) => kind = value.number()?,
                _ => {}
            }
        }
        // Writers may omit a value of 0, and old ones the type.
        let value = match (kind, tensor) {
            (1, _) => Attribute::Float(float.unwrap_or_default()),
            (2, _) => Attribute::Int(int.unwrap_or_default()),
            (3, _) => Attribute::Text(text.unwrap_or_default()),
            (4 | 0, Some(tensor)) => Attribute::Tensor(tensor),
            (6, _) => Attribute::Floats(floats),
            (7, _) => Attribute::Ints(ints),
            (0, None) => match (int, float, text) {
                (Some(int), ..) => Attribute::Int(int),
                (_, Some(float), _) => Attribute::Float(float),
                (.., Some(text)) => Attribute::Text(text),
                _ if !floats.is_empty() => Attribute::Floats(floats),
                _ => Attribute::Ints(ints),
            },
            _ => Attribute::Other,
        };
        Ok((name, value))
    }
}

impl<'a> OnnxInput<'a> {
    /// Reads a `ValueInfoProto`.
    fn read(message: &'a [u8]) -> Result<OnnxInput<'a>, String> {
        let mut input = OnnxInput::default();
        for field in Fields::of(message) {
            match field? {
                (1, value) => input.name = value.text()?,
                (2, value) => {
                    for field in Fields::of(value.bytes()?) {
                        if let (1, value) = field? {
                            input.read_tensor_type(value.bytes()?)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(input)
    }

    fn read_tensor_type(&mut self, message: &'a [u8]) -> Result<(), String> {
        for field in Fields::of(message) {
            match field? {
                (1, value) => self.kind = value.number()?,
                (2, value) => {
                    let dims = self.dims.insert(Vec::new());
                    for field in Fields::of(value.bytes()?) {
                        let (1, dimension) = field? else { continue };
                        let mut size = None;
                        for field in Fields::of(dimension.bytes()?) {
                            if let (1, value) = field? {
                                size = Some(value.number()?).filter(|size| *size > 0);
                            }
                        }
                        dims.push(size);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
