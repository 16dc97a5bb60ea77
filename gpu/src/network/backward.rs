//! The backward pass.

use super::forward::{Pass, SavedForBackward, dropout, factor_sides, pad_sides, statistics, value};
use super::step::{conv_shape, dense_shape, maps, pool_shape};
use super::{Kind, Network, Operation, Plan, Step};
use crate::raw::Array;
use crate::{Activation, Error, NormalizationOperands, Output, Result};

/// The gradients during a backward pass. Each array belongs to one node.
struct Gradients<'a> {
    network: &'a Network,
    plan: &'a Plan,
    batch: usize,
    nodes: Vec<Option<Array>>,
    /// Parameters whose gradient has a contribution.
    is_set: Vec<bool>,
}

impl Gradients<'_> {
    /// Where the next contribution to a node's gradient goes. `None` if it needs none.
    fn target_of_node(&mut self, node: usize) -> Result<Option<(Array, Output)>> {
        if !self.plan.requires_gradient[node] {
            return Ok(None);
        }
        if let Some(array) = &self.nodes[node] {
            return Ok(Some((array.clone(), Output::Add)));
        }
        let len = self.batch * self.plan.nodes[node].size();
        let array = self.network.gpu().array_of(self.plan.elements[node], len)?;
        self.nodes[node] = Some(array.clone());
        Ok(Some((array, Output::Replace)))
    }

    /// Where the next contribution to a parameter's gradient goes. `None` if it is frozen.
    fn target_of_param(&mut self, index: usize) -> Option<(Array, Output)> {
        let array = self.network.param_gradients[index].clone()?;
        let is_set = std::mem::replace(&mut self.is_set[index], true);
        Some((array, if is_set { Output::Add } else { Output::Replace }))
    }

    /// Adds an array to a node's gradient. If the node has no gradient yet, the array becomes its gradient.
    fn add(&mut self, node: usize, gradient: Array) -> Result<()> {
        if !self.plan.requires_gradient[node] {
            return Ok(());
        }
        match &self.nodes[node] {
            None => self.nodes[node] = Some(gradient),
            Some(sum) => self.network.gpu().affine(&gradient, sum, 1.0, 0.0, Output::Add)?,
        }
        Ok(())
    }
}

impl Network {
    /// Computes the gradients of the trainable parameters, from the gradient of the output. Frees the values of the
    /// forward pass that are no longer needed.
    ///
    /// # Errors
    /// [`Error::Length`] if the size of the gradient is not that of the output; [`Error::Argument`] for an operation
    /// without a backward pass; [`Error::Cuda`].
    pub fn backward(&self, pass: Pass, gradient: Array) -> Result<()> {
        let Pass { batch, precision, mut values, saved, output } = pass;
        let plan = self.plan(precision);
        if gradient.len() != output.len() {
            let (expected, found) = (output.len(), gradient.len());
            return Err(Error::Length { operation: "backward", operand: "gradient", expected, found });
        }
        let (nodes, is_set) = (vec![None; plan.nodes.len()], vec![false; self.params.len()]);
        let mut gradients = Gradients { network: self, plan, batch, nodes, is_set };
        gradients.nodes[plan.nodes.len() - 1] = Some(gradient);
        for (step, saved) in plan.steps.iter().zip(saved).rev() {
            if let Some(dy) = gradients.nodes[step.output].take()
                && plan.requires_gradient[step.output]
            {
                self.step_backward(step, &saved, &values, dy, &mut gradients)?;
            }
            values[step.output] = None;
        }
        Ok(())
    }

    fn step_backward(
        &self,
        step: &Step,
        saved: &SavedForBackward,
        values: &[Option<Array>],
        dy: Array,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let (gpu, plan, batch) = (self.gpu(), gradients.plan, gradients.batch);
        let nodes = &plan.nodes;
        let node = &nodes[step.first];
        let (operation, input) = (&node.operation, |at: usize| value(values, node.inputs[at]));
        let is_normalization = matches!(step.kind, Kind::Normalization { .. });
        if step.activation != Activation::Linear && !is_normalization {
            let y = value(values, step.output)?;
            gpu.activation_backward(&dy, y, &dy, step.activation, Output::Replace)?;
        }
        match *operation {
            Operation::Input => {}
            Operation::Convolution { weights, bias, .. } => {
                let shape = conv_shape(nodes, step.first, batch).expect("the graph was checked");
                let [rows, columns] = shape.output();
                if let Some((db, output)) = bias.and_then(|bias| gradients.target_of_param(bias)) {
                    gpu.bias_backward(&dy, &db, [batch, shape.filters, rows * columns], output)?;
                }
                if let Some((dw, output)) = gradients.target_of_param(weights) {
                    gpu.convolution_backward_filter(input(0)?, &dy, &dw, &shape, output)?;
                }
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.convolution_backward_data(&dy, &self.params[weights], &dx, &shape, output)?;
                }
            }
            Operation::Dense { weights, bias } => {
                let shape = dense_shape(nodes, step.first, batch);
                if let Some((db, output)) = bias.and_then(|bias| gradients.target_of_param(bias)) {
                    gpu.bias_backward(&dy, &db, [shape.rows, shape.outputs, 1], output)?;
                }
                if let Some((dw, output)) = gradients.target_of_param(weights) {
                    gpu.dense_backward_weights(input(0)?, &dy, &dw, shape, output)?;
                }
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.dense_backward_data(&dy, &self.params[weights], &dx, shape, output)?;
                }
            }
            Operation::Normalization { .. } => {
                self.normalization_backward(step, saved, values, &dy, gradients)?
            }
            Operation::Activation(function) => {
                let known =
                    if function.has_slope_of_output() { value(values, step.output)? } else { input(0)? };
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.activation_backward(&dy, known, &dx, function, output)?;
                }
            }
            Operation::Softmax => {
                return Err(Error::argument("backward", "a softmax only as the last layer", "another place"));
            }
            Operation::Add => {
                // The last input takes over the array, so the others read it first.
                let (last, others) = node.inputs.split_last().expect("the graph was checked");
                for &input in others {
                    if let Some((dx, output)) = gradients.target_of_node(input)? {
                        gpu.affine(&dy, &dx, 1.0, 0.0, output)?;
                    }
                }
                gradients.add(*last, dy)?;
            }
            Operation::ScaleMaps => {
                let (x, factors) = (input(0)?, input(1)?);
                let sides = factor_sides(nodes, node);
                if let Some((gradient, output)) = gradients.target_of_node(node.inputs[1])? {
                    gpu.scale_maps_backward(&dy, x, &gradient, sides, output)?;
                }
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.scale_maps(&dy, factors, &dx, sides, output)?;
                }
            }
            Operation::MaxPool(window) => {
                if let (Some((dx, output)), SavedForBackward::Maxima(indices)) =
                    (gradients.target_of_node(node.inputs[0])?, saved)
                {
                    let shape = pool_shape(nodes, step.first, window, batch);
                    gpu.max_pool_backward(&dy, indices, &dx, &shape, output)?;
                }
            }
            Operation::AveragePool(window) => {
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    let shape = pool_shape(nodes, step.first, window, batch);
                    gpu.average_pool_backward(&dy, &dx, &shape, output)?;
                }
            }
            Operation::Pad { before } => {
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    let ([input, padded], before) =
                        (pad_sides(nodes, step.first), before.map(|n| -(n as i32)));
                    gpu.pad_maps(&dy, &dx, node.shape[0], [padded, input], before, output)?;
                }
            }
            Operation::GlobalMean => {
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    let inner = dx.len() / dy.len().max(1);
                    gpu.global_mean_backward(&dy, &dx, [node.size(), inner], output)?;
                }
            }
            Operation::Dropout { rate, by_sample } => {
                if let (Some((dx, output)), &SavedForBackward::Seed(seed)) =
                    (gradients.target_of_node(node.inputs[0])?, saved)
                {
                    gpu.dropout(&dy, &dx, dropout(rate, by_sample, node.size(), seed), output)?;
                }
            }
            Operation::Affine { scale, .. } => {
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.affine(&dy, &dx, scale, 0.0, output)?;
                }
            }
            Operation::Reshape => gradients.add(node.inputs[0], dy)?,
            Operation::Convert => {
                if let Some((dx, output)) = gradients.target_of_node(node.inputs[0])? {
                    gpu.convert(&dy, &dx, maps(node, batch), output)?;
                }
            }
        }
        Ok(())
    }

    fn normalization_backward(
        &self,
        step: &Step,
        saved: &SavedForBackward,
        values: &[Option<Array>],
        dy: &Array,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let plan = gradients.plan;
        let node = &plan.nodes[step.first];
        let Operation::Normalization { params, epsilon, .. } = node.operation else { return Ok(()) };
        let [gamma, _, moving_mean, moving_variance] = params.map(|index| &self.params[index]);
        let (maps, x) = (maps(node, gradients.batch), value(values, node.inputs[0])?);
        let statistics = statistics(saved, [moving_mean, moving_variance], epsilon as f32);
        let y = match step.activation {
            Activation::Linear => None,
            _ => Some(value(values, step.output)?),
        };
        let operands = NormalizationOperands { dy, x, y, function: step.activation, statistics, maps };
        let (of_gamma, of_beta) =
            (gradients.target_of_param(params[0]), gradients.target_of_param(params[1]));
        let mut sums = None;
        if !statistics.is_moving || of_gamma.is_some() || of_beta.is_some() {
            let array = self.gpu().array(2 * maps.channels)?;
            let output =
                of_gamma.as_ref().or(of_beta.as_ref()).map_or(Output::Replace, |(_, output)| *output);
            let of_params =
                [of_gamma.as_ref(), of_beta.as_ref()].map(|target| target.map(|(array, _)| array));
            self.gpu().normalize_backward_sums(&operands, &array, of_params, output)?;
            sums = Some(array).filter(|_| !statistics.is_moving);
        }
        // The residual and the input may be the same node: the kernel writes the residual's gradient first.
        let residual = match step.kind {
            Kind::Normalization { residual: Some(node) } => gradients.target_of_node(node)?,
            _ => None,
        };
        let dx = gradients.target_of_node(node.inputs[0])?;
        if dx.is_none() && residual.is_none() {
            return Ok(());
        }
        let [dx, residual] =
            [&dx, &residual].map(|target| target.as_ref().map(|(array, output)| (array, *output)));
        self.gpu().normalize_backward(&operands, gamma, sums.as_ref(), dx, residual)
    }
}
