//! The graph of an ONNX file that is written.

use std::collections::HashSet;

use candle_core::Tensor;

use super::Padding;
use super::protobuf::Message;
use crate::Result;

/// `TensorProto.DataType`.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT64: i64 = 7;

/// Nodes and weights of the ONNX graph.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Message>,
    pub(super) tensors: Vec<Message>,
    /// Names already used by layers and tensors.
    taken: HashSet<String>,
    /// Names of the file's inputs and outputs.
    reserved: HashSet<String>,
}

impl Graph {
    /// An empty graph of a file with inputs and outputs of these names.
    pub(super) fn new(reserved: HashSet<String>) -> Graph {
        Graph { reserved, ..Graph::default() }
    }

    /// Makes a name unique in the file, because a layer may also be called `output`.
    pub(super) fn fresh(&mut self, name: String) -> String {
        let numbered = (1..).map(|number| format!("{name}_{number}"));
        let is_free = |name: &String| !self.reserved.contains(name) && !self.taken.contains(name);
        let found =
            std::iter::once(name.clone()).chain(numbered).find(is_free).expect("the numbers do not end");
        self.taken.insert(found.clone());
        found
    }

    /// Adds a node with one output.
    pub(super) fn node(&mut self, op: &str, inputs: &[String], output: String, attributes: Vec<Message>) {
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

    /// Adds a weight.
    pub(super) fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, tensor.dims(), FLOAT, bytes);
        Ok(())
    }

    /// Adds a tensor of any type, with its bytes.
    pub(super) fn raw(&mut self, name: &str, dims: &[usize], kind: i64, bytes: Vec<u8>) {
        let mut tensor = Message::new();
        for size in dims {
            tensor = tensor.number(1, *size as i64);
        }
        self.tensors.push(tensor.number(2, kind).bytes(8, name).bytes(9, bytes));
    }
}

/// Attributes of a window that slides over feature maps `[C, H, W]`.
pub(super) fn window(
    input: &[usize],
    sides: [usize; 2],
    dilation: usize,
    stride: usize,
    padding: Padding,
) -> Vec<Message> {
    let around = |axis: usize| {
        let extent = sides[axis].saturating_sub(1) * dilation + 1;
        padding.amount(input[axis + 1], extent, stride)
    };
    let ((top, bottom), (left, right)) = (around(0), around(1));
    let mut attributes = vec![
        ints("kernel_shape", &sides.map(|side| side as i64)),
        ints("strides", &[stride as i64, stride as i64]),
        ints("pads", &[top as i64, left as i64, bottom as i64, right as i64]),
    ];
    if dilation > 1 {
        attributes.push(ints("dilations", &[dilation as i64, dilation as i64]));
    }
    attributes
}

/// `AttributeProto` of a number.
pub(super) fn float(name: &str, value: f32) -> Message {
    Message::new().bytes(1, name).float(2, value).number(20, 1)
}

/// `AttributeProto` of an integer.
pub(super) fn int(name: &str, value: i64) -> Message {
    Message::new().bytes(1, name).number(3, value).number(20, 2)
}

/// `AttributeProto` of a text.
pub(super) fn text(name: &str, value: &str) -> Message {
    Message::new().bytes(1, name).bytes(4, value).number(20, 3)
}

/// `AttributeProto` of a list of integers.
pub(super) fn ints(name: &str, values: &[i64]) -> Message {
    let message =
        values.iter().fold(Message::new().bytes(1, name), |message, value| message.number(8, *value));
    message.number(20, 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_file_are_unique() {
        let reserved = ["input", "output"].map(str::to_owned).into();
        let mut graph = Graph::new(reserved);
        let fresh = |graph: &mut Graph, name: &str| graph.fresh(name.to_owned());
        assert_eq!(fresh(&mut graph, "output"), "output_1");
        assert_eq!(fresh(&mut graph, "output"), "output_2");
        assert_eq!(fresh(&mut graph, "a/kernel"), "a/kernel");
        assert_eq!(fresh(&mut graph, "a/kernel"), "a/kernel_1");
        assert_eq!(fresh(&mut graph, "dense"), "dense");
    }
}
