//! Compilation of a model to the steps of a forward pass.

use crate::nn::execution_plan::{ExecutionPlan, FusedConvolution, Operation, Request, Step, freezing_state};
use crate::nn::model::ancestors;
use crate::nn::own_layers::shared_as_type;
use crate::nn::{Activation, LayerConfig, Mode, Model, Node, activation, conv, merge, norm, pool};
use crate::{Error, Result};

/// A plan for a request and the current freezing state.
///
/// # Errors
/// [`Error::Argument`] if an input is needed but not given.
pub(super) fn compile(model: &Model, request: Request) -> Result<ExecutionPlan> {
    let states = model.params().into_iter().map(|param| {
        let state = freezing_state(&param);
        (param, state)
    });
    let states = states.collect();
    let steps = steps(model, &request)?;
    let size = |node: &usize| {
        let shape = model.nodes()[*node].layer.output_shape();
        shape.iter().fold(1usize, |size, side| size.saturating_mul(*side))
    };
    let largest = steps.iter().filter_map(|step| step.nodes.last().copied()).max_by_key(size);
    Ok(ExecutionPlan { request, states, steps, largest })
}

fn steps(model: &Model, request: &Request) -> Result<Vec<Step>> {
    let mut compiler = Compiler::new(model, request)?;
    for index in 0..compiler.nodes.len() {
        if compiler.is_live[index] && !compiler.is_computed[index] {
            compiler.add_steps(index);
        }
    }
    for &node in &request.requested {
        compiler.convert_to_nchw(node);
    }
    let mut steps = compiler.steps;
    add_frees(&mut steps, &request.requested);
    Ok(steps)
}

struct Compiler<'a> {
    nodes: &'a [Node],
    request: &'a Request,
    /// Nodes that a requested output depends on.
    is_live: Vec<bool>,
    /// Live nodes that read each node's output.
    consumers: Vec<Vec<usize>>,
    /// Nodes whose outputs require a gradient.
    requires_gradient: Vec<bool>,
    /// Nodes whose outputs may be channels last.
    may_be_channels_last: Vec<bool>,
    /// Nodes that are given, or computed by a step so far.
    is_computed: Vec<bool>,
    steps: Vec<Step>,
}

impl<'a> Compiler<'a> {
    fn new(model: &'a Model, request: &'a Request) -> Result<Compiler<'a>> {
        let nodes = model.nodes();
        let mut is_computed = vec![false; nodes.len()];
        request.given.iter().for_each(|&node| is_computed[node] = true);
        // Nodes that lead only to a given value are not computed.
        let open: Vec<Node> = nodes
            .iter()
            .zip(&is_computed)
            .map(|(node, given)| Node {
                inputs: if *given { Vec::new() } else { node.inputs.clone() },
                ..node.clone()
            })
            .collect();
        let is_live = ancestors(&open, request.requested.iter().copied());
        let mut consumers = vec![Vec::new(); nodes.len()];
        let mut requires_gradient = vec![false; nodes.len()];
        for (index, node) in nodes.iter().enumerate().filter(|(index, _)| is_live[*index]) {
            if is_computed[index] {
                requires_gradient[index] = request.requires_gradient;
                continue;
            }
            if node.inputs.is_empty() {
                return Err(Error::Argument {
                    name: "inputs",
                    expected: format!("the input `{}` of `{}`", node.name, model.name()),
                    found: "no value for it".into(),
                });
            }
            let is_trainable = || node.layer.params().iter().any(|param| param.is_trainable());
            requires_gradient[index] = node.inputs().any(|input| requires_gradient[input])
                || request.mode == Mode::Training && is_trainable();
            for input in node.inputs() {
                if consumers[input].last() != Some(&index) {
                    consumers[input].push(index);
                }
            }
        }
        let has_maps = |(node, given): (&Node, &bool)| *given && node.layer.output_shape().len() == 3;
        let may_be_channels_last = nodes.iter().zip(&is_computed).map(has_maps).collect();
        let steps = Vec::new();
        Ok(Compiler {
            nodes,
            request,
            is_live,
            consumers,
            requires_gradient,
            may_be_channels_last,
            is_computed,
            steps,
        })
    }

    /// Adds the step that computes a node, with the changes of layout before it.
    fn add_steps(&mut self, index: usize) {
        let node = &self.nodes[index];
        let (operation, fused) = match self.is_linear(index) {
            true => (Operation::Linear, vec![index]),
            false => self.operation(index),
        };
        if self.is_linear(index) || !takes_channels_last(node) {
            node.inputs().for_each(|input| self.convert_to_nchw(input));
        }
        let last = fused[fused.len() - 1];
        self.may_be_channels_last[last] = self.output_may_be_channels_last(index, &operation);
        fused.iter().for_each(|&node| self.is_computed[node] = true);
        let residual = match &operation {
            Operation::Convolution(fused) => fused.residual,
            _ => None,
        };
        let inputs = node.inputs().chain(residual).collect();
        self.steps.push(Step { operation, nodes: fused, inputs, frees: Vec::new() });
    }

    /// Whether a node computes the requested output without its last activation.
    fn is_linear(&self, index: usize) -> bool {
        self.request.is_linear && self.request.requested.contains(&index)
    }

    fn convert_to_nchw(&mut self, node: usize) {
        if std::mem::take(&mut self.may_be_channels_last[node]) {
            self.steps.push(Step {
                operation: Operation::ToNchw,
                nodes: Vec::new(),
                inputs: vec![node],
                frees: Vec::new(),
            });
        }
    }

    /// The operation that starts with a node, and the nodes that it computes.
    fn operation(&self, index: usize) -> (Operation, Vec<usize>) {
        if let Some((convolution, fused)) = self.fused_convolution(index) {
            return (Operation::Convolution(convolution), fused);
        }
        let layer = &self.nodes[index].layer;
        if let Some(relu) = self.following_relu(index).filter(|_| self.request.on_cpu) {
            if let Some(norm) = shared_as_type::<norm::Built>(layer)
                && norm.is_training(self.request.mode)
            {
                return (Operation::NormRelu(norm), vec![index, relu]);
            }
            if let Some(sum) = shared_as_type::<merge::Sum>(layer)
                && self.nodes[index].inputs.len() == 2
            {
                return (Operation::AddRelu(sum), vec![index, relu]);
            }
        }
        (Operation::Layer, vec![index])
    }

    /// A convolution without gradients, fused with the batch normalisation, addition and ReLU after it, if each is the
    /// only consumer of the one before.
    fn fused_convolution(&self, index: usize) -> Option<(FusedConvolution, Vec<usize>)> {
        let conv = shared_as_type::<conv::Built>(&self.nodes[index].layer)?;
        if !conv.is_fusible() || !self.request.on_cpu || self.requires_gradient[index] {
            return None;
        }
        let (mut fused, mut norm, mut residual) = (vec![index], None, None);
        let mut last = index;
        if let Some(consumer) = self.single_consumer(last)
            && let Some(layer) = shared_as_type::<norm::Built>(&self.nodes[consumer].layer)
        {
            if !layer.is_scale_and_shift(self.request.mode) {
                return None;
            }
            norm = Some(layer);
            fused.push(consumer);
            last = consumer;
        }
        if let Some(sum) = self.single_consumer(last)
            && self.nodes[sum].layer.as_type::<merge::Sum>().is_some()
            && let Some(other) = self.other_input(sum, last)
        {
            residual = Some(other);
            fused.push(sum);
            last = sum;
        }
        if conv.has_relu() && (norm.is_some() || residual.is_some()) {
            return None;
        }
        let relu = self.following_relu(last);
        fused.extend(relu);
        Some((FusedConvolution { conv, norm, residual, relu: relu.is_some() }, fused))
    }

    /// The other input of a sum of two, if it is computed and needs no gradient.
    fn other_input(&self, sum: usize, input: usize) -> Option<usize> {
        let &[a, b] = self.nodes[sum].inputs.as_slice() else { return None };
        let other = if a == input { b } else { a };
        (other != input && self.is_computed[other] && !self.requires_gradient[other]).then_some(other)
    }

    /// The only consumer of a node's output, if there is exactly one, and no intermediate value is requested.
    fn single_consumer(&self, node: usize) -> Option<usize> {
        let &[consumer] = self.consumers[node].as_slice() else { return None };
        (!self.request.requested.contains(&node) && !self.is_linear(consumer)).then_some(consumer)
    }

    /// A ReLU that is the only consumer of a node.
    fn following_relu(&self, node: usize) -> Option<usize> {
        let consumer = self.single_consumer(node)?;
        let layer = self.nodes[consumer].layer.as_type::<activation::Built>()?;
        (layer.function == Activation::Relu).then_some(consumer)
    }

    fn output_may_be_channels_last(&self, index: usize, operation: &Operation) -> bool {
        let node = &self.nodes[index];
        match operation {
            Operation::Convolution(_) => true,
            Operation::Layer | Operation::Linear if node.layer.output_shape().len() == 3 => {
                if node.layer.as_type::<pool::Max>().is_some() {
                    let input = node.inputs[0];
                    return self.may_be_channels_last[input] && !self.requires_gradient[input];
                }
                !returns_nchw(node)
            }
            _ => false,
        }
    }
}

/// Whether a layer prefers channels-last inputs, views of `[N, H, W, C]` as fused convolutions return them. Other
/// layers get NCHW.
fn takes_channels_last(node: &Node) -> bool {
    let conv = node.layer.as_type::<conv::Built>().is_some_and(conv::Built::takes_channels_last);
    conv || node.layer.as_type::<pool::Max>().is_some()
}

/// Whether a layer with feature maps returns NCHW if its input is NCHW. Unknown for a custom layer.
fn returns_nchw(node: &Node) -> bool {
    let config = matches!(
        node.config,
        Some(
            LayerConfig::Activation(_)
                | LayerConfig::Add(_)
                | LayerConfig::AveragePooling2D(_)
                | LayerConfig::BatchNormalization(_)
                | LayerConfig::Conv2D(_)
                | LayerConfig::Dropout(_)
                | LayerConfig::Multiply(_)
                | LayerConfig::Rescaling(_)
                | LayerConfig::Reshape(_)
        )
    );
    config || node.layer.model().is_some()
}

/// Sets for each step the values that no later step reads.
fn add_frees(steps: &mut [Step], requested: &[usize]) {
    let mut needed = requested.to_vec();
    for step in steps.iter_mut().rev() {
        for &input in &step.inputs {
            if !needed.contains(&input) {
                needed.push(input);
                step.frees.push(input);
            }
        }
    }
}
