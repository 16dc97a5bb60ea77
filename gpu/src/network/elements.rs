//! The types of a network's values in bfloat16: feature maps between convolutions are bfloat16, all other values float32.

use super::{Node, Operation};
use crate::Element;

/// A graph with conversions.
#[derive(Default)]
struct Converted {
    nodes: Vec<Node>,
    elements: Vec<Element>,
    /// The conversion of each node to the other type, if there is one.
    conversions: Vec<Option<usize>>,
}

impl Converted {
    fn push(&mut self, node: Node, element: Element) -> usize {
        self.nodes.push(node);
        self.elements.push(element);
        self.conversions.push(None);
        self.nodes.len() - 1
    }

    /// The node with the values of a node in a type.
    fn of_type(&mut self, node: usize, element: Element) -> usize {
        if self.elements[node] == element {
            return node;
        }
        if let Some(conversion) = self.conversions[node] {
            return conversion;
        }
        let shape = self.nodes[node].shape.clone();
        let conversion =
            self.push(Node { operation: Operation::Convert, inputs: vec![node], shape }, element);
        self.conversions[node] = Some(conversion);
        conversion
    }
}

/// The graph for bfloat16, and the type of each node's value. Convolutions take and compute bfloat16. Layers of feature
/// maps keep the type of their inputs. The others take float32, and so does the output.
pub(super) fn in_bfloat16(nodes: &[Node]) -> (Vec<Node>, Vec<Element>) {
    let mut graph = Converted::default();
    // The place of each node.
    let mut places: Vec<usize> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let inputs: Vec<usize> = node.inputs.iter().map(|&input| places[input]).collect();
        let is_wide = inputs.iter().all(|&input| graph.elements[input] == Element::Float32);
        let (taken, element) = match node.operation {
            Operation::Convolution { .. } => (Some(Element::BFloat16), Element::BFloat16),
            // It takes both types.
            Operation::Input | Operation::GlobalMean => (None, Element::Float32),
            _ if !is_wide && keeps_layout(nodes, node) => (Some(Element::BFloat16), Element::BFloat16),
            _ => (Some(Element::Float32), Element::Float32),
        };
        let convert = |&input: &usize| taken.map_or(input, |taken| graph.of_type(input, taken));
        let inputs = inputs.iter().map(convert).collect();
        places.push(graph.push(Node { inputs, ..node.clone() }, element));
    }
    if let Some(&output) = places.last() {
        graph.of_type(output, Element::Float32);
    }
    (graph.nodes, graph.elements)
}

/// Whether an operation computes each value of feature maps from values of the same feature maps, so that it can be
/// computed in NHWC.
fn keeps_layout(nodes: &[Node], node: &Node) -> bool {
    let shape = |at: usize| &nodes[node.inputs[at]].shape;
    let is_same = |at: usize| *shape(at) == node.shape;
    let has_maps = node.shape.len() == 3;
    has_maps
        && match node.operation {
            Operation::Normalization { .. }
            | Operation::Activation(_)
            | Operation::Add
            | Operation::Dropout { .. }
            | Operation::Affine { .. } => (0..node.inputs.len()).all(is_same),
            Operation::MaxPool(_) | Operation::AveragePool(_) | Operation::Pad { .. } => true,
            // One factor for each channel, or for each value.
            Operation::ScaleMaps => {
                is_same(0) && (is_same(1) || nodes[node.inputs[1]].size() == node.shape[0])
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    fn node(operation: Operation, inputs: &[usize], shape: &[usize]) -> Node {
        Node { operation, inputs: inputs.to_vec(), shape: shape.to_vec() }
    }

    fn convolution(input: usize) -> Node {
        let (kernel, padding) = ([1, 1], [(0, 0); 2]);
        let operation = Operation::Convolution {
            weights: 0,
            bias: None,
            kernel,
            padding,
            stride: 1,
            dilation: 1,
            groups: 1,
        };
        node(operation, &[input], &[2, 4, 4])
    }

    #[test]
    fn only_the_input_and_the_head_are_converted() {
        let relu = Operation::Activation(Activation::Relu);
        let nodes = [
            node(Operation::Input, &[], &[2, 4, 4]),
            convolution(0),
            node(relu.clone(), &[1], &[2, 4, 4]),
            // A second convolution of the input, whose conversion is shared.
            convolution(0),
            node(Operation::Add, &[2, 3], &[2, 4, 4]),
            node(Operation::GlobalMean, &[4], &[2]),
            node(Operation::Dense { weights: 1, bias: None }, &[5], &[3]),
        ];
        let (graph, elements) = in_bfloat16(&nodes);
        let conversions: Vec<usize> =
            (0..graph.len()).filter(|&at| graph[at].operation == Operation::Convert).collect();
        assert_eq!(conversions, [1], "{graph:?}");
        assert_eq!((&graph[2].inputs, &graph[4].inputs), (&vec![1], &vec![1]));
        let wide: Vec<usize> = (0..graph.len()).filter(|&at| elements[at] == Element::Float32).collect();
        // Input, mean, and dense layer.
        assert_eq!(wide, [0, 6, 7]);
    }

    #[test]
    fn values_in_another_order_than_nchw_are_float32() {
        let nodes = [
            node(Operation::Input, &[], &[2, 4, 4]),
            convolution(0),
            node(Operation::Reshape, &[1], &[32]),
            // The same number of values, in two layouts.
            node(Operation::Add, &[1, 2], &[2, 4, 4]),
            node(Operation::Affine { scale: 1.0, offset: 0.0 }, &[3], &[4, 8, 1]),
            convolution(3),
        ];
        let (graph, elements) = in_bfloat16(&nodes);
        let names: Vec<(bool, Element)> = graph
            .iter()
            .zip(&elements)
            .map(|(node, element)| (node.operation == Operation::Convert, *element))
            .collect();
        let (wide, narrow) = (Element::Float32, Element::BFloat16);
        let [input, to_narrow, conv, to_wide] =
            [(false, wide), (true, narrow), (false, narrow), (true, wide)];
        // Reshape, sum and affine layer are float32. So is the output.
        let expected = [input, to_narrow, conv, to_wide, input, input, input, to_narrow, conv, to_wide];
        assert_eq!(names, expected, "{graph:?}");
        // Without a convolution nothing changes.
        let (graph, elements) = in_bfloat16(&nodes[..1]);
        assert_eq!((graph.len(), elements), (1, vec![wide]));
    }
}
