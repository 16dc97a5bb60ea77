//! The forward pass.

use super::step::{conv_shape, dense_shape, maps, pool_shape};
use super::{Kind, Network, Node, Operation, Plan, Step};
use crate::raw::{Array, Gpu, Indices};
use crate::{Activation, Dropout, Error, Output, Precision, Result, Statistics};

/// The values of a forward pass that the backward pass needs.
pub struct Pass {
    pub(super) batch: usize,
    pub(super) precision: Precision,
    /// The nodes' outputs, where they are saved.
    pub(super) values: Vec<Option<Array>>,
    /// Values that the steps save besides their outputs.
    pub(super) saved: Vec<SavedForBackward>,
    pub(super) output: Array,
}

/// Values that a step saves for its backward pass.
pub(super) enum SavedForBackward {
    Nothing,
    /// Mean and 1/σ of the batch.
    Statistics([Array; 2]),
    /// The positions of the maxima.
    Maxima(Indices),
    /// The seed of a mask.
    Seed(u64),
}

impl Pass {
    /// The network's output, `[batch, …]`.
    pub fn output(&self) -> &Array {
        &self.output
    }
}

/// How a forward pass runs.
#[derive(Clone, Copy)]
struct Mode<'a> {
    plan: &'a Plan,
    batch: usize,
    /// The seed of the random masks in training.
    training: Option<u64>,
}

impl Network {
    /// Computes the output for a batch in inference mode. `inputs` are in the order of the input nodes.
    ///
    /// # Errors
    /// [`Error::Length`] if the size of an input does not fit the batch; [`Error::Cuda`].
    pub fn predict(&self, inputs: &[Array], batch: usize) -> Result<Array> {
        Ok(self.run(inputs, batch, None)?.output)
    }

    /// Runs the forward pass of training. `seed` determines the random masks.
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn forward(&self, inputs: &[Array], batch: usize, seed: u64) -> Result<Pass> {
        self.run(inputs, batch, Some(seed))
    }

    fn run(&self, inputs: &[Array], batch: usize, training: Option<u64>) -> Result<Pass> {
        let precision = self.gpu.precision();
        let plan = self.plan(precision);
        let mode = Mode { plan, batch, training };
        let mut values: Vec<Option<Array>> = vec![None; plan.nodes.len()];
        let mut given = inputs.iter();
        for (node, value) in plan.nodes.iter().zip(&mut values) {
            if node.operation == Operation::Input {
                let (expected, input) = (batch * node.size(), given.next());
                let found = input.map_or(0, Array::len);
                if found != expected {
                    return Err(Error::Length { operation: "forward", operand: "input", expected, found });
                }
                *value = input.cloned();
            }
        }
        let mut saved = Vec::with_capacity(plan.steps.len());
        for (number, step) in plan.steps.iter().enumerate() {
            let (output, keep) = self.step(number, step, &values, mode)?;
            values[step.output] = Some(output);
            let saves = training.is_some();
            saved.push(if saves && plan.requires_gradient[step.output] {
                keep
            } else {
                SavedForBackward::Nothing
            });
            for &node in &step.frees {
                if !saves || !plan.is_saved[node] {
                    values[node] = None;
                }
            }
        }
        let output = value(&values, plan.nodes.len() - 1)?.clone();
        Ok(Pass { batch, precision, values, saved, output })
    }

    fn step(
        &self,
        number: usize,
        step: &Step,
        values: &[Option<Array>],
        Mode { plan, batch, training }: Mode,
    ) -> Result<(Array, SavedForBackward)> {
        let (gpu, nodes) = (&self.gpu, &plan.nodes);
        let node = &nodes[step.first];
        let input = |at: usize| value(values, node.inputs[at]);
        let x = input(0)?;
        let operation = &node.operation;
        if let (Operation::Reshape, _) | (Operation::Dropout { .. }, None) = (operation, training) {
            return Ok((x.clone(), SavedForBackward::Nothing));
        }
        let y = gpu.array_of(plan.elements[step.output], batch * nodes[step.output].size())?;
        let mut saved = SavedForBackward::Nothing;
        match *operation {
            Operation::Input | Operation::Reshape => {}
            Operation::Convolution { weights, bias, .. } => {
                let shape = conv_shape(nodes, step.first, batch).expect("the graph was checked");
                gpu.convolution(x, &self.params[weights], &y, &shape)?;
                let [rows, columns] = shape.output();
                self.finish(&y, bias, [shape.filters, rows * columns], step.activation)?;
            }
            Operation::Dense { weights, bias } => {
                let shape = dense_shape(nodes, step.first, batch);
                gpu.dense(x, &self.params[weights], &y, shape)?;
                self.finish(&y, bias, [shape.outputs, 1], step.activation)?;
            }
            Operation::Normalization { params, epsilon, momentum, is_frozen } => {
                let [gamma, beta, moving_mean, moving_variance] = params.map(|index| &self.params[index]);
                let maps = maps(node, batch);
                let epsilon = epsilon as f32;
                if training.is_some() && !is_frozen {
                    let found = [gpu.array(maps.channels)?, gpu.array(maps.channels)?];
                    let moving = [moving_mean, moving_variance];
                    gpu.batch_statistics(x, found.each_ref(), moving, maps, epsilon, momentum)?;
                    saved = SavedForBackward::Statistics(found);
                }
                let statistics = statistics(&saved, [moving_mean, moving_variance], epsilon);
                let residual = match step.kind {
                    Kind::Normalization { residual: Some(node) } => Some(value(values, node)?),
                    _ => None,
                };
                gpu.normalize(x, statistics, [gamma, beta], residual, &y, maps, step.activation)?;
            }
            Operation::Activation(function) => {
                gpu.bias_activation(x, None, &y, [1, y.len()], function)?;
            }
            Operation::Softmax => gpu.softmax(x, &y, super::last_side(node))?,
            Operation::Add => match node.inputs.len() {
                1 => gpu.copy(x, &y)?,
                count => {
                    gpu.add(x, input(1)?, &y, step.activation)?;
                    for at in 2..count {
                        gpu.affine(input(at)?, &y, 1.0, 0.0, Output::Add)?;
                    }
                }
            },
            Operation::ScaleMaps => {
                let factors = input(1)?;
                gpu.scale_maps(x, factors, &y, factor_sides(nodes, node), Output::Replace)?;
            }
            Operation::MaxPool(window) => {
                let indices = gpu.indices(y.len())?;
                gpu.max_pool(x, &y, &indices, &pool_shape(nodes, step.first, window, batch))?;
                saved = SavedForBackward::Maxima(indices);
            }
            Operation::AveragePool(window) => {
                gpu.average_pool(x, &y, &pool_shape(nodes, step.first, window, batch))?;
            }
            Operation::Pad { before } => {
                let (sides, before) = (pad_sides(nodes, step.first), before.map(|n| n as i32));
                gpu.pad_maps(x, &y, node.shape[0], sides, before, Output::Replace)?;
            }
            Operation::GlobalMean => gpu.global_mean(x, &y, [node.size(), x.len() / y.len().max(1)])?,
            Operation::Dropout { rate, by_sample } => {
                // The number among the random layers: a network without its frozen layers draws the same masks.
                let is_random =
                    |step: &&Step| matches!(nodes[step.first].operation, Operation::Dropout { .. });
                let number = plan.steps[..number].iter().filter(is_random).count();
                let seed = mask_seed(training.unwrap_or_default(), number);
                gpu.dropout(x, &y, dropout(rate, by_sample, node.size(), seed), Output::Replace)?;
                saved = SavedForBackward::Seed(seed);
            }
            Operation::Affine { scale, offset } => gpu.affine(x, &y, scale, offset, Output::Replace)?,
            Operation::Convert => gpu.convert(x, &y, maps(node, batch), Output::Replace)?,
        }
        Ok((y, saved))
    }

    /// Adds a bias and applies an activation, in place.
    fn finish(&self, y: &Array, bias: Option<usize>, maps: [usize; 2], function: Activation) -> Result<()> {
        if bias.is_none() && function == Activation::Linear {
            return Ok(());
        }
        self.gpu.bias_activation(y, bias.map(|index| &self.params[index]), y, maps, function)
    }

    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

/// The statistics that a normalisation used.
pub(super) fn statistics<'a>(
    saved: &'a SavedForBackward,
    [mean, variance]: [&'a Array; 2],
    epsilon: f32,
) -> Statistics<'a> {
    match saved {
        SavedForBackward::Statistics([mean, spread]) => {
            Statistics { mean, spread, is_moving: false, epsilon }
        }
        _ => Statistics { mean, spread: variance, is_moving: true, epsilon },
    }
}

/// The factors of one sample of a product of feature maps, and the number of values that share one.
pub(super) fn factor_sides(nodes: &[Node], node: &Node) -> [usize; 2] {
    let factors = nodes[node.inputs[1]].size();
    [factors, node.size() / factors.max(1)]
}

/// Rows and columns of a padding's input and output.
pub(super) fn pad_sides(nodes: &[Node], index: usize) -> [[usize; 2]; 2] {
    let (input, output) = (&nodes[nodes[index].inputs[0]].shape, &nodes[index].shape);
    [[input[1], input[2]], [output[1], output[2]]]
}

pub(super) fn dropout(rate: f32, by_sample: bool, size: usize, seed: u64) -> Dropout {
    Dropout { rate, inner: if by_sample { size.max(1) } else { 1 }, seed }
}

/// The seed of one mask (SplitMix64, so that neighbouring masks have unrelated seeds).
fn mask_seed(seed: u64, number: usize) -> u64 {
    let mut z = seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The value of a node, which an earlier step has computed.
pub(super) fn value(values: &[Option<Array>], node: usize) -> Result<&Array> {
    let missing = || Error::argument("network", "a value that is not freed", format!("node {node}"));
    values[node].as_ref().ok_or_else(missing)
}
