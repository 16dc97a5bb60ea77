//! Translates a model's layers to the operations of `headstart-gpu`.

use headstart_gpu::{Activation as GpuActivation, Node as GpuNode, Operation, Parameter, Window};

use crate::nn::gpu_network::{Lowered, Task};
use crate::nn::model::ancestors;
use crate::nn::{Activation, LayerConfig, Mode, Model, Node, Param, WindowSize, conv, norm};

/// The network of a task in inference mode. `None` if there is nothing to compute. The error says what the GPU path does
/// not support.
pub(super) fn lower(model: &Model, task: &Task) -> Result<Option<Lowered>, String> {
    let mut lowering = Lowering::new(Mode::Inference);
    let inputs = task.given.iter().map(|&given| (given, lowering.input(model, given)));
    let inputs: Vec<(usize, usize)> = inputs.collect();
    let output = lowering.model(model, &inputs, task.requested, task.is_linear)?;
    lowering.finish(output)
}

/// The network for training, from a node to the output; with `is_linear`, before the last activation. `from` is the
/// path of the node through nested models.
pub(super) fn lower_for_training(
    model: &Model,
    from: &[usize],
    is_linear: bool,
) -> Result<Option<Lowered>, String> {
    let mut lowering = Lowering::new(Mode::Training);
    let output = lowering.model_from(model, from, is_linear)?;
    lowering.finish(output)
}

struct Lowering {
    mode: Mode,
    lowered: Lowered,
}

impl Lowering {
    fn new(mode: Mode) -> Lowering {
        let (nodes, params, parameters, moving) = Default::default();
        Lowering { mode, lowered: Lowered { nodes, params, parameters, moving } }
    }

    /// The network, whose last node computes the output. `None` if the output is an input.
    fn finish(self, output: usize) -> Result<Option<Lowered>, String> {
        if self.lowered.nodes[output].operation == Operation::Input {
            return Ok(None);
        }
        match output + 1 == self.lowered.nodes.len() {
            true => Ok(Some(self.lowered)),
            false => Err("its output is not computed last".into()),
        }
    }

    /// Adds an input with the values of a node.
    fn input(&mut self, model: &Model, node: usize) -> usize {
        let shape = model.nodes()[node].layer.output_shape().to_vec();
        self.push(Operation::Input, Vec::new(), &shape)
    }

    /// Adds the nodes of a model from the node at a path to the output.
    fn model_from(&mut self, model: &Model, path: &[usize], is_linear: bool) -> Result<usize, String> {
        let (&node, inner) = path.split_first().ok_or("a path without a node")?;
        let is_last = node == model.output_node();
        let place = match model.nodes()[node].layer.model() {
            Some(nested) if !inner.is_empty() => self.model_from(nested, inner, is_linear && is_last)?,
            _ => self.input(model, node),
        };
        if is_last {
            return Ok(place);
        }
        self.model(model, &[(node, place)], model.output_node(), is_linear)
    }

    fn push(&mut self, operation: Operation, inputs: Vec<usize>, shape: &[usize]) -> usize {
        self.lowered.nodes.push(GpuNode { operation, inputs, shape: shape.to_vec() });
        self.lowered.nodes.len() - 1
    }

    /// The index of a parameter.
    fn param(&mut self, param: &Param) -> usize {
        let known = self.lowered.params.iter().position(|known| known.identity() == param.identity());
        known.unwrap_or_else(|| {
            let is_trainable = self.mode == Mode::Training && param.is_trainable();
            self.lowered.params.push(param.clone());
            self.lowered.parameters.push(Parameter { len: param.count(), is_trainable });
            self.lowered.params.len() - 1
        })
    }

    /// Adds the nodes of a model that lead to `requested`. `given` has pairs of a node and its index in the network.
    fn model(
        &mut self,
        model: &Model,
        given: &[(usize, usize)],
        requested: usize,
        is_linear: bool,
    ) -> Result<usize, String> {
        let mut places: Vec<Option<usize>> = vec![None; model.nodes().len()];
        given.iter().for_each(|&(node, place)| places[node] = Some(place));
        let open: Vec<Node> = model
            .nodes()
            .iter()
            .zip(&places)
            .map(|(node, place)| Node {
                inputs: if place.is_some() { Vec::new() } else { node.inputs.clone() },
                ..node.clone()
            })
            .collect();
        let is_live = ancestors(&open, [requested]);
        for (index, node) in model.nodes().iter().enumerate().filter(|(index, _)| is_live[*index]) {
            if places[index].is_none() {
                let inputs: Vec<usize> = node.inputs().filter_map(|input| places[input]).collect();
                if inputs.len() != node.inputs.len() || inputs.is_empty() {
                    return Err(format!("the input `{}` is not given", node.name));
                }
                places[index] = Some(self.node(node, inputs, is_linear && index == requested)?);
            }
        }
        places[requested].ok_or_else(|| "nothing is requested".into())
    }

    /// Adds the operations of one layer.
    fn node(&mut self, node: &Node, inputs: Vec<usize>, is_linear: bool) -> Result<usize, String> {
        let (layer, shape) = (&node.layer, node.layer.output_shape());
        if let Some(model) = layer.model() {
            let given: Vec<(usize, usize)> = model.input_nodes().iter().copied().zip(inputs).collect();
            return self.model(model, &given, model.output_node(), is_linear);
        }
        let unknown = || format!("the GPU path has no layer {} (`{}`)", layer.kind(), node.name);
        let config = node.config.as_ref().ok_or_else(unknown)?;
        let (operation, activation) = match config {
            LayerConfig::Conv2D(config) => {
                let conv = layer.as_type::<conv::Built>().ok_or_else(unknown)?;
                let (input, extent) = (&self.lowered.nodes[inputs[0]].shape, config.extent());
                let stride = config.strides.side();
                let padding = [0, 1].map(|axis| config.padding.amount(input[axis + 1], extent[axis], stride));
                let mut params = layer.params().into_iter().map(|param| self.param(&param));
                let (Some(weights), bias) = (params.next(), params.next()) else { return Err(unknown()) };
                let operation = Operation::Convolution {
                    weights,
                    bias,
                    kernel: config.kernel_size.sides(),
                    padding,
                    stride,
                    dilation: config.dilation_rate,
                    groups: conv.groups(),
                };
                (operation, config.activation)
            }
            LayerConfig::Dense(config) => {
                let mut params = layer.params().into_iter().map(|param| self.param(&param));
                let (Some(weights), bias) = (params.next(), params.next()) else { return Err(unknown()) };
                (Operation::Dense { weights, bias }, config.activation)
            }
            LayerConfig::BatchNormalization(config) => {
                let built = layer.as_type::<norm::Built>().ok_or_else(unknown)?;
                let params: Vec<usize> = layer.params().iter().map(|param| self.param(param)).collect();
                let params = <[usize; 4]>::try_from(params).map_err(|_| unknown())?;
                let is_frozen = !built.is_training(self.mode);
                if !is_frozen {
                    self.lowered.moving.extend(&params[2..]);
                }
                let (epsilon, momentum) = (config.epsilon, config.momentum);
                (Operation::Normalization { params, epsilon, momentum, is_frozen }, Activation::Linear)
            }
            LayerConfig::Activation(_) if is_linear => return Ok(inputs[0]),
            LayerConfig::Activation(Activation::Softmax) if shape.len() == 3 => {
                return Err(unknown());
            }
            LayerConfig::Activation(Activation::Softmax) => (Operation::Softmax, Activation::Linear),
            LayerConfig::Activation(function) => match gpu_activation(*function) {
                Some(function) => (Operation::Activation(function), Activation::Linear),
                None => return Err(unknown()),
            },
            LayerConfig::Add(_) => (Operation::Add, Activation::Linear),
            LayerConfig::Multiply(_) => {
                let &[maps, factors] = inputs.as_slice() else { return Err(unknown()) };
                let [maps, factors] = [maps, factors].map(|index| &self.lowered.nodes[index].shape);
                let is_gate = maps == factors || factors[..] == [maps[0], 1, 1];
                if !is_gate {
                    return Err(unknown());
                }
                (Operation::ScaleMaps, Activation::Linear)
            }
            LayerConfig::MaxPooling2D(config) => {
                let window = self.window(inputs[0], config.pool_size, config.strides, config.padding);
                (Operation::MaxPool(window), Activation::Linear)
            }
            LayerConfig::AveragePooling2D(config) => {
                let window = self.window(inputs[0], config.pool_size, config.strides, config.padding);
                (Operation::AveragePool(window), Activation::Linear)
            }
            LayerConfig::GlobalAveragePooling2D(_) => (Operation::GlobalMean, Activation::Linear),
            LayerConfig::Flatten(_) | LayerConfig::Reshape(_) => (Operation::Reshape, Activation::Linear),
            LayerConfig::Rescaling(config) => {
                let (scale, offset) = (config.scale as f32, config.offset as f32);
                (Operation::Affine { scale, offset }, Activation::Linear)
            }
            LayerConfig::ZeroPadding2D(config) => {
                let [[above, _], [left, _]] = config.padding;
                (Operation::Pad { before: [above, left] }, Activation::Linear)
            }
            LayerConfig::Dropout(config) => {
                let (rate, by_sample) = config.rate_and_extent().ok_or_else(unknown)?;
                (Operation::Dropout { rate, by_sample }, Activation::Linear)
            }
            LayerConfig::StochasticDepth(config) => {
                (Operation::Dropout { rate: config.rate(), by_sample: true }, Activation::Linear)
            }
            _ => return Err(unknown()),
        };
        let place = self.push(operation, inputs, shape);
        match activation {
            Activation::Linear => Ok(place),
            _ if is_linear => Ok(place),
            Activation::Softmax if shape.len() == 1 => Ok(self.push(Operation::Softmax, vec![place], shape)),
            function => match gpu_activation(function) {
                Some(function) => Ok(self.push(Operation::Activation(function), vec![place], shape)),
                None => Err(unknown()),
            },
        }
    }

    fn window(
        &self,
        input: usize,
        size: WindowSize,
        strides: WindowSize,
        padding: crate::nn::Padding,
    ) -> Window {
        let (size, stride) = (size.side(), strides.side());
        let shape = &self.lowered.nodes[input].shape;
        Window { size, stride, before: [1, 2].map(|axis| padding.amount(shape[axis], size, stride).0) }
    }
}

/// The activation of the GPU path. `None` for softmax, which is a separate operation.
fn gpu_activation(function: Activation) -> Option<GpuActivation> {
    Some(match function {
        Activation::Linear => GpuActivation::Linear,
        Activation::Relu => GpuActivation::Relu,
        Activation::Relu6 => GpuActivation::Relu6,
        Activation::Sigmoid => GpuActivation::Sigmoid,
        Activation::Silu => GpuActivation::Silu,
        Activation::Tanh => GpuActivation::Tanh,
        Activation::Gelu => GpuActivation::Gelu,
        Activation::GeluTanh => GpuActivation::GeluTanh,
        Activation::HardSigmoid => GpuActivation::HardSigmoid,
        Activation::HardSwish => GpuActivation::HardSwish,
        Activation::Softmax => return None,
    })
}
