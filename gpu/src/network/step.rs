//! The steps of a network.

use super::{Node, Operation, Window};
use crate::{Activation, ConvShape, DenseShape, MapShape, PoolShape};

/// One step: computes the output of its last node.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    /// The node whose operation the step starts with.
    pub(crate) first: usize,
    /// The node whose output the step computes.
    pub(crate) output: usize,
    /// The activation at its end.
    pub(crate) activation: Activation,
    /// The nodes whose values no later step reads in the forward pass.
    pub(crate) frees: Vec<usize>,
}

/// What a step computes before its activation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The first node's operation.
    Plain,
    /// A normalisation, with the sum after it: the node that is added.
    Normalization { residual: Option<usize> },
}

/// The sizes of a convolution for a batch.
pub(super) fn conv_shape(nodes: &[Node], index: usize, batch: usize) -> Option<ConvShape> {
    let node = &nodes[index];
    let Operation::Convolution { kernel, padding, stride, dilation, groups, .. } = node.operation else {
        return None;
    };
    let &[channels, height, width] = nodes[node.inputs[0]].shape.as_slice() else { return None };
    let (input, filters) = ([height, width], node.shape[0]);
    Some(ConvShape { batch, channels, input, filters, kernel, padding, stride, dilation, groups })
}

/// The sizes of a fully connected layer for a batch.
pub(super) fn dense_shape(nodes: &[Node], index: usize, batch: usize) -> DenseShape {
    let (input, outputs) = (&nodes[nodes[index].inputs[0]], super::last_side(&nodes[index]));
    let inputs = super::last_side(input);
    DenseShape { rows: batch * input.size() / inputs.max(1), inputs, outputs }
}

/// The sizes of a node's output as feature maps for a batch.
pub(super) fn maps(node: &Node, batch: usize) -> MapShape {
    let channels = node.shape.first().copied().unwrap_or(1);
    MapShape { batch, channels, inner: node.size() / channels.max(1) }
}

/// The sizes of a pooling for a batch.
pub(super) fn pool_shape(nodes: &[Node], index: usize, window: Window, batch: usize) -> PoolShape {
    let (input, output) = (&nodes[nodes[index].inputs[0]].shape, &nodes[index].shape);
    PoolShape {
        batch,
        channels: input[0],
        input: [input[1], input[2]],
        output: [output[1], output[2]],
        size: window.size,
        stride: window.stride,
        before: window.before,
    }
}
