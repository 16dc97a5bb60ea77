//! A network on the GPU: its parameters, and the steps of its forward and backward pass.
//!
//! [`Network::new`] compiles a graph of layers to steps ([`compile`](self::compile::compile)), once with float32 values
//! and once with bfloat16 feature maps ([`elements`]). [`forward`] runs them, [`backward`] runs them in
//! reverse and writes the gradients of the trainable parameters. These are parts of one array, so an optimizer's step
//! is one launch.

mod backward;
mod compile;
mod elements;
mod forward;
mod step;

use self::compile::{Plan, compile};
use crate::raw::{Array, Element, Gpu};
use crate::{Activation, Error, Precision, Result, Segment};

pub use forward::Pass;
pub(crate) use step::{Kind, Step};

/// Alignment of parameters within the array of all parameters, in values (64: 256 bytes).
const ALIGNMENT: usize = 64;

/// A layer of a [`Network`]. Parameters are given by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// An input of the network.
    Input,
    /// A convolution: [`crate::ConvShape`] without batch and input, which follow from the shapes.
    Convolution {
        /// The weights, `[filters, channels / groups, rows, columns]`.
        weights: usize,
        /// The bias, one value per filter.
        bias: Option<usize>,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Zeros above and below, left and right.
        padding: [(usize, usize); 2],
        /// Distance between windows.
        stride: usize,
        /// Distance between a window's pixels.
        dilation: usize,
        /// Groups of channels.
        groups: usize,
    },
    /// A fully connected layer on the last dimension.
    Dense {
        /// The weights, `[outputs, inputs]`.
        weights: usize,
        /// The bias, one value per output.
        bias: Option<usize>,
    },
    /// Batch normalisation of the first dimension.
    Normalization {
        /// Scale, shift, moving mean and moving variance.
        params: [usize; 4],
        /// Added to the variance.
        epsilon: f64,
        /// Weight of the old moving statistics in an update.
        momentum: f64,
        /// Whether training also uses the moving statistics, without updating them.
        is_frozen: bool,
    },
    /// An activation.
    Activation(Activation),
    /// Softmax over the last dimension. It has no backward pass: losses take the values before it.
    Softmax,
    /// The sum of the inputs.
    Add,
    /// The product of feature maps with one factor per feature map, the second input.
    ScaleMaps,
    /// Maximum pooling.
    MaxPool(Window),
    /// Average pooling. The padding is excluded from the mean.
    AveragePool(Window),
    /// Zero padding of feature maps. The rows below and the columns on the right follow from the shape.
    Pad {
        /// Rows above and columns left of a feature map.
        before: [usize; 2],
    },
    /// The mean of each feature map.
    GlobalMean,
    /// Dropout, in training only.
    Dropout {
        /// Share of the values that become 0.
        rate: f32,
        /// Whether a sample is dropped as a whole.
        by_sample: bool,
    },
    /// `x · scale + offset`
    Affine {
        /// The factor.
        scale: f32,
        /// The offset.
        offset: f32,
    },
    /// Another shape for the same values.
    Reshape,
    /// Conversion between float32 and bfloat16, which [`Network::new`] adds.
    Convert,
}

/// The windows of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows above and columns left of the input that the first window covers.
    pub before: [usize; 2],
}

/// A layer with its inputs.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it computes.
    pub operation: Operation,
    /// Indices of the nodes that it reads, each below its own.
    pub inputs: Vec<usize>,
    /// Shape of its output, without the batch.
    pub shape: Vec<usize>,
}

impl Node {
    /// Number of values in one sample's output.
    pub(crate) fn size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A parameter: its number of values, and whether it is trainable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Number of values.
    pub len: usize,
    /// Whether the backward pass computes its gradient.
    pub is_trainable: bool,
}

/// A network on the GPU.
pub struct Network {
    gpu: Gpu,
    /// The steps with float32 values, and those for [`Precision::BFloat16`].
    plans: [Plan; 2],
    /// Parts of `weights`, or separate arrays.
    params: Vec<Array>,
    /// Parts of `gradients`, for trainable parameters.
    param_gradients: Vec<Option<Array>>,
    weights: Array,
    gradients: Array,
    segments: Vec<Segment>,
}

impl Network {
    /// Compiles a network with one output, the last node. The parameters are not set.
    ///
    /// # Errors
    /// [`Error::Argument`] if the graph is not valid; [`Error::Cuda`].
    pub fn new(gpu: &Gpu, nodes: Vec<Node>, parameters: &[Parameter]) -> Result<Network> {
        check_graph(&nodes, parameters)?;
        let mut segments = Vec::new();
        let mut start = 0usize;
        for parameter in parameters.iter().filter(|parameter| parameter.is_trainable) {
            segments.push(Segment { start, len: parameter.len });
            start += parameter.len.next_multiple_of(ALIGNMENT);
        }
        let (weights, gradients) = (gpu.array(start)?, gpu.array(start)?);
        gpu.fill(&weights, 0.0)?;
        gpu.fill(&gradients, 0.0)?;
        let (mut params, mut param_gradients) = (Vec::new(), Vec::new());
        let mut of_trainable = segments.iter();
        for parameter in parameters {
            match of_trainable.as_slice().first().filter(|_| parameter.is_trainable) {
                Some(&Segment { start, len }) => {
                    of_trainable.next();
                    params.push(weights.part(start, len)?);
                    param_gradients.push(Some(gradients.part(start, len)?));
                }
                None => {
                    params.push(gpu.array(parameter.len)?);
                    param_gradients.push(None);
                }
            }
        }
        let elements = vec![Element::Float32; nodes.len()];
        let in_bfloat16 = compile(elements::in_bfloat16(&nodes), parameters);
        let gpu = gpu.clone();
        Ok(Network {
            gpu,
            plans: [compile((nodes, elements), parameters), in_bfloat16],
            params,
            param_gradients,
            weights,
            gradients,
            segments,
        })
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// [`Error::Length`] if the number of values differs; [`Error::Cuda`].
    pub fn set_param(&self, index: usize, values: &[f32]) -> Result<()> {
        self.gpu.write(self.param(index)?, values)
    }

    /// The values of a parameter.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none with this index.
    pub fn param(&self, index: usize) -> Result<&Array> {
        let missing = || Error::argument("param", format!("an index below {}", self.params.len()), index);
        self.params.get(index).ok_or_else(missing)
    }

    /// The gradient of a trainable parameter after [`Network::backward`], and `None` for others.
    pub fn gradient(&self, index: usize) -> Option<&Array> {
        self.param_gradients.get(index)?.as_ref()
    }

    /// All trainable parameters in one array, and their gradients.
    pub fn weights(&self) -> (&Array, &Array) {
        (&self.weights, &self.gradients)
    }

    /// The trainable parameters as parts of [`Network::weights`], in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Shape of the output, without the batch.
    pub fn output_shape(&self) -> &[usize] {
        self.plans[0].nodes.last().map_or(&[], |node| &node.shape)
    }

    /// The steps for a precision.
    fn plan(&self, precision: Precision) -> &Plan {
        &self.plans[usize::from(precision == Precision::BFloat16)]
    }
}

fn check_graph(nodes: &[Node], parameters: &[Parameter]) -> Result<()> {
    const NAME: &str = "network";
    for (index, node) in nodes.iter().enumerate() {
        let refuse = |expected: &str| {
            Err(Error::argument(NAME, format!("{expected} for node {index}"), format!("{node:?}")))
        };
        let counts = match node.operation {
            Operation::Input => 0..=0,
            Operation::Add => 1..=usize::MAX,
            Operation::ScaleMaps => 2..=2,
            _ => 1..=1,
        };
        if !counts.contains(&node.inputs.len()) || node.inputs.iter().any(|input| *input >= index) {
            return refuse("inputs before it, in the right number");
        }
        let size = node.size();
        let input = |at: usize| &nodes[node.inputs[at]];
        let first_side = |node: &Node| node.shape.first().copied().unwrap_or(0);
        let is_maps = |node: &Node| node.shape.len() == 3;
        let param = |index: usize, len: usize| parameters.get(index).is_some_and(|param| param.len == len);
        let fits = match node.operation {
            Operation::Input => true,
            Operation::Convolution { .. } => {
                is_maps(node)
                    && is_maps(input(0))
                    && step::conv_shape(nodes, index, 1).is_some_and(|shape| {
                        let Operation::Convolution { weights, bias, .. } = node.operation else {
                            return false;
                        };
                        shape.output() == [node.shape[1], node.shape[2]]
                            && param(weights, shape.weights())
                            && bias.is_none_or(|bias| param(bias, shape.filters))
                    })
            }
            Operation::Dense { weights, bias } => {
                let (inputs, outputs) = (last_side(input(0)), last_side(node));
                param(weights, inputs * outputs)
                    && bias.is_none_or(|bias| param(bias, outputs))
                    && inputs * size == outputs * input(0).size()
            }
            Operation::Normalization { params, .. } => {
                size == input(0).size() && params.iter().all(|index| param(*index, first_side(node)))
            }
            Operation::ScaleMaps => {
                size == input(0).size() && input(1).size() > 0 && size.is_multiple_of(input(1).size())
            }
            Operation::MaxPool(_) | Operation::AveragePool(_) | Operation::Pad { .. } => {
                is_maps(node) && is_maps(input(0)) && node.shape[0] == input(0).shape[0]
            }
            Operation::GlobalMean => size > 0 && size == first_side(input(0)),
            Operation::Convert => false,
            _ => node.inputs.iter().all(|input| nodes[*input].size() == size),
        };
        if !fits {
            return refuse("shapes and parameters that fit");
        }
    }
    match nodes.last() {
        Some(node) if node.operation != Operation::Input => Ok(()),
        _ => Err(Error::argument(NAME, "at least one layer", "none")),
    }
}

/// The last dimension of a node's output.
fn last_side(node: &Node) -> usize {
    node.shape.last().copied().unwrap_or(1)
}
