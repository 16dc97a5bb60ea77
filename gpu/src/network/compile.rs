//! Compilation of a graph to steps.

use super::{Kind, Node, Operation, Parameter, Step};
use crate::{Activation, Element};

/// A graph with its steps.
pub(super) struct Plan {
    pub(super) nodes: Vec<Node>,
    /// The type of each node's value.
    pub(super) elements: Vec<Element>,
    pub(super) steps: Vec<Step>,
    /// Nodes whose gradient the backward pass computes.
    pub(super) requires_gradient: Vec<bool>,
    /// Nodes whose value the backward pass reads: inputs and outputs of the steps with a gradient.
    pub(super) is_saved: Vec<bool>,
}

/// Compiles a graph whose nodes' values have these types.
pub(super) fn compile((nodes, elements): (Vec<Node>, Vec<Element>), parameters: &[Parameter]) -> Plan {
    let is_trainable = |index: usize| parameters[index].is_trainable;
    let mut requires_gradient = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let trains = params(&node.operation).into_iter().any(is_trainable);
        requires_gradient[index] = trains || node.inputs.iter().any(|&input| requires_gradient[input]);
    }
    let mut consumers = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| consumers[input].push(index));
    }
    let mut is_computed: Vec<bool> = nodes.iter().map(|node| node.operation == Operation::Input).collect();
    let mut steps = Vec::new();
    for first in 0..nodes.len() {
        if !is_computed[first] {
            let step = fused(&nodes, &consumers, &is_computed, first);
            let mut node = step.output;
            // From the last node of the step to the first.
            while node != first {
                is_computed[node] = true;
                let residual = if let Kind::Normalization { residual } = step.kind { residual } else { None };
                let before = nodes[node].inputs.iter().find(|input| Some(**input) != residual);
                node = before.copied().unwrap_or(first);
            }
            is_computed[first] = true;
            steps.push(step);
        }
    }
    set_frees(&nodes, &mut steps);
    let mut is_saved = vec![false; nodes.len()];
    for step in steps.iter().filter(|step| requires_gradient[step.output]) {
        is_saved[step.output] = true;
        inputs(&nodes, step).into_iter().for_each(|input| is_saved[input] = true);
    }
    Plan { nodes, elements, steps, requires_gradient, is_saved }
}

/// The step that starts with a node. It is fused with following nodes, each of which is the only consumer of the
/// previous one.
fn fused(nodes: &[Node], consumers: &[Vec<usize>], is_computed: &[bool], first: usize) -> Step {
    let next = |node: usize| if let &[consumer] = consumers[node].as_slice() { Some(consumer) } else { None };
    let (mut output, mut kind) = (first, Kind::Plain);
    if let Operation::Normalization { .. } = nodes[first].operation {
        let mut residual = None;
        if let Some(sum) = next(first).filter(|&sum| nodes[sum].operation == Operation::Add)
            && let &[a, b] = nodes[sum].inputs.as_slice()
        {
            let other = if a == first { b } else { a };
            if other != first && is_computed[other] {
                (residual, output) = (Some(other), sum);
            }
        }
        kind = Kind::Normalization { residual };
    }
    let mut activation = Activation::Linear;
    if takes_activation(&nodes[first])
        && let Some(node) = next(output)
        && let Operation::Activation(function) = nodes[node].operation
        && function.has_slope_of_output()
    {
        (activation, output) = (function, node);
    }
    Step { kind, first, output, activation, frees: Vec::new() }
}

/// Whether an operation can be fused with an activation whose derivative is computed from its output.
fn takes_activation(node: &Node) -> bool {
    match node.operation {
        Operation::Convolution { .. } | Operation::Dense { .. } | Operation::Normalization { .. } => true,
        Operation::Add => node.inputs.len() == 2,
        _ => false,
    }
}

/// The parameters of an operation.
pub(super) fn params(operation: &Operation) -> Vec<usize> {
    match *operation {
        Operation::Convolution { weights, bias, .. } | Operation::Dense { weights, bias } => {
            std::iter::once(weights).chain(bias).collect()
        }
        Operation::Normalization { params, .. } => params.to_vec(),
        _ => Vec::new(),
    }
}

/// The nodes that a step reads.
pub(super) fn inputs(nodes: &[Node], step: &Step) -> Vec<usize> {
    let residual = if let Kind::Normalization { residual } = step.kind { residual } else { None };
    nodes[step.first].inputs.iter().copied().chain(residual).collect()
}

/// Sets for each step the nodes that no later step reads. The last output is never freed.
fn set_frees(nodes: &[Node], steps: &mut [Step]) {
    let mut is_needed = vec![false; nodes.len()];
    if let Some(step) = steps.last() {
        is_needed[step.output] = true;
    }
    for step in steps.iter_mut().rev() {
        for input in inputs(nodes, step) {
            if !std::mem::replace(&mut is_needed[input], true) {
                step.frees.push(input);
            }
        }
    }
}
