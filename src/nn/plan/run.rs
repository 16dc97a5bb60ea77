//! Execution of a plan's steps.

use candle_core::{DType, Tensor};

use super::compile::compile;
use crate::Result;
use crate::accelerator::gpu;
use crate::check::check_memory_of;
use crate::device::takes_cpu_path;
use crate::nn::execution_plan::{ExecutionPlan, FusedConvolution, Operation, Request, Step};
use crate::nn::gpu_network::Task;
use crate::nn::{Mode, Model, Node};
use crate::ops::{Epilogue, to_nchw_if_channels_last};

impl Model {
    /// The outputs of the `requested` nodes, from the outputs of other nodes. A `linear` request omits the last
    /// activation of the requested node.
    pub(in crate::nn) fn run_plan(
        &self,
        given: Vec<(usize, Tensor)>,
        mode: Mode,
        requested: Vec<usize>,
        is_linear: bool,
    ) -> Result<Vec<Tensor>> {
        let size = given[0].1.dim(0)?;
        if let (Mode::Inference, &[node]) = (mode, requested.as_slice())
            && !given.iter().any(|(_, value)| value.track_op())
            && gpu().is_some()
        {
            let (nodes, values): (Vec<usize>, Vec<Tensor>) = given.iter().cloned().unzip();
            let task = Task { given: nodes, requested: node, is_linear };
            let output = self.run_on_gpu(task, &values).map_err(|error| error.with_batch(size))?;
            if let Some(output) = output {
                return Ok(vec![output]);
            }
        }
        let request = Request {
            mode,
            requested,
            is_linear,
            requires_gradient: given.iter().any(|(_, value)| value.track_op()),
            on_cpu: takes_cpu_path(&given[0].1),
            given: given.iter().map(|(node, _)| *node).collect(),
        };
        let plan = self.plans().get(request, |request| compile(self, request))?;
        let fits = |node: &usize| {
            let Node { name, layer, .. } = &self.nodes()[*node];
            check_memory_of("batch", name, &[&[size], layer.output_shape()].concat())
        };
        if plan.largest.is_some_and(|node| fits(&node).is_err()) {
            // The error names the first layer whose output does not fit.
            plan.steps.iter().filter_map(|step| step.nodes.last()).try_for_each(fits)?;
        }
        let mut values: Vec<Option<Tensor>> = vec![None; self.nodes().len()];
        for (node, value) in given {
            // Pixels may be bytes and NumPy arrays f64, but the weights are f32.
            let is_input = self.input_nodes().contains(&node);
            values[node] = Some(if is_input { value.to_dtype(DType::F32)? } else { value });
        }
        plan.run(self.nodes(), values).map_err(|error| error.with_batch(size))
    }
}

impl ExecutionPlan {
    fn run(&self, nodes: &[Node], mut values: Vec<Option<Tensor>>) -> Result<Vec<Tensor>> {
        for step in &self.steps {
            let output = step.run(nodes, &values, self.request.mode)?;
            let node = step.nodes.last().unwrap_or(&step.inputs[0]);
            values[*node] = Some(output);
            step.frees.iter().for_each(|&node| values[node] = None);
        }
        Ok(self.request.requested.iter().map(|&node| value(&values, node).clone()).collect())
    }
}

/// The value of a node, which the plan computes before it is read and frees after.
fn value(values: &[Option<Tensor>], node: usize) -> &Tensor {
    values[node].as_ref().expect("a plan computes each value before it is read")
}

impl Step {
    fn run(&self, nodes: &[Node], values: &[Option<Tensor>], mode: Mode) -> Result<Tensor> {
        let inputs = || self.inputs.iter().map(|&node| value(values, node)).collect::<Vec<_>>();
        match &self.operation {
            Operation::ToNchw => Ok(to_nchw_if_channels_last(value(values, self.inputs[0]))?),
            Operation::Layer => nodes[self.nodes[0]].layer.forward(&inputs(), mode),
            Operation::Linear => nodes[self.nodes[0]].layer.forward_linear(&inputs(), mode),
            Operation::NormRelu(norm) => norm.forward_with_relu(value(values, self.inputs[0])),
            Operation::AddRelu(sum) => {
                sum.forward_with_relu(value(values, self.inputs[0]), value(values, self.inputs[1]))
            }
            // A custom layer may return a value that requires a gradient although none of its parameters does.
            Operation::Convolution(_) if inputs().iter().any(|input| input.track_op()) => {
                self.run_one_by_one(nodes, values, mode)
            }
            Operation::Convolution(fused) => fused.run(&inputs(), mode),
        }
    }

    /// Runs the layers of a fused step one by one, with gradients.
    fn run_one_by_one(&self, nodes: &[Node], values: &[Option<Tensor>], mode: Mode) -> Result<Tensor> {
        let mut output: Option<(usize, Tensor)> = None;
        for &index in &self.nodes {
            let previous = output.take();
            let inputs = nodes[index].inputs().map(|input| match &previous {
                Some((node, value)) if *node == input => Ok(value.clone()),
                _ => to_nchw_if_channels_last(value(values, input)),
            });
            let inputs = inputs.collect::<candle_core::Result<Vec<Tensor>>>()?;
            let value = nodes[index].layer.forward(&inputs.iter().collect::<Vec<_>>(), mode)?;
            output = Some((index, value));
        }
        Ok(output.expect("a fused step has layers").1)
    }
}

impl FusedConvolution {
    /// Runs the convolution on its input, and the residual if there is one.
    fn run(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        let epilogue = Epilogue {
            bias: None,
            affine: self.norm.as_ref().map(|norm| norm.scale_and_shift(mode)).transpose()?,
            residual: self.residual.map(|_| inputs[1].clone()),
            relu: self.relu,
        };
        self.conv.forward_fused(inputs[0], mode, epilogue)
    }
}
