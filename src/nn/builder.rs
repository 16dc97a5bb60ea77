//! Builder of models with branches.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::ChaCha8Rng;

use super::model::{Graph, Output, ancestors};
use super::node_id::BuilderId;
use super::{
    Build, Context, Labels, Layer, LayerConfig, LayerSpec, Mode, Model, Node, NodeId, Preprocessing,
};
use crate::check::check_memory_of;
use crate::device::device;
use crate::{Error, Result};

/// Default name of the first input.
pub(super) const INPUT: &str = "input";

/// Builds models with branches, like Keras's functional API.
///
/// ```
/// use headstart::prelude::*;
/// let mut builder = ModelBuilder::new("residual", &[8])?;
/// let input = builder.input();
/// let branch = builder.add("branch", Dense::new(8).activation(Relu), &[input])?;
/// let sum = builder.add("sum", Add, &[input, branch])?;
/// let model = builder.finish(sum)?;
/// assert_eq!(model.output_shape(), [8]);
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// A model may have several inputs and several outputs, each with a name: Keras's
/// `Model(inputs=[left, right], outputs={"sum": sum, "product": product})`.
///
/// ```
/// use headstart::prelude::*;
/// let mut builder = ModelBuilder::new("pair", &[4])?.input_name("left")?;
/// let left = builder.input();
/// let right = builder.add_input("right", &[4])?;
/// let sum = builder.add("add", Add, &[left, right])?;
/// let product = builder.add("multiply", Multiply, &[left, right])?;
/// let model = builder.finish_many(&[("sum", sum), ("product", product)])?;
/// let (a, b) = (Tensor::new(&[[1f32, 2., 3., 4.]], &device())?, Tensor::new(&[[2f32, 2., 2., 2.]], &device())?);
/// let outputs = model.forward_many(&[("left", &a), ("right", &b)], Mode::Inference)?;
/// assert_eq!(outputs["product"].to_vec2::<f32>()?, [[2., 4., 6., 8.]]);
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// | | one | several |
/// |---|---|---|
/// | inputs | [`new`](Self::new), [`input`](Self::input) | also [`input_name`](Self::input_name), [`add_input`](Self::add_input) |
/// | outputs | [`finish`](Self::finish) | [`finish_many`](Self::finish_many) |
/// | forward pass | [`Model::forward`], [`Model::predict`] | [`Model::forward_many`], [`Model::predict_many`] |
/// | training | [`Model::fit`] | [`value_and_gradients`](crate::ops::value_and_gradients), an optimizer's [`step`](crate::train::Optimizer::step) |
pub struct ModelBuilder {
    id: BuilderId,
    name: String,
    nodes: Vec<Node>,
    inputs: Vec<usize>,
    random: ChaCha8Rng,
    device: Device,
    preprocessing: Option<Preprocessing>,
    labels: Option<Labels>,
    pretrained: bool,
    of_keras: bool,
    is_sequential: bool,
}

impl ModelBuilder {
    /// Creates a builder for inputs of the given shape, without the batch dimension.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape is empty or a dimension is 0.
    pub fn new(name: &str, input_shape: &[usize]) -> Result<ModelBuilder> {
        ModelBuilder::with_random(name, input_shape, crate::random::stream())
    }

    /// Creates a builder that draws initial weights from the given random stream. Errors as for [`ModelBuilder::new`].
    pub fn with_random(name: &str, input_shape: &[usize], random: ChaCha8Rng) -> Result<ModelBuilder> {
        let mut builder = ModelBuilder {
            id: BuilderId::new(name),
            name: name.into(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            random,
            device: device(),
            preprocessing: None,
            labels: None,
            pretrained: false,
            of_keras: false,
            is_sequential: false,
        };
        builder.add_input(INPUT, input_shape)?;
        Ok(builder)
    }

    /// Sets whether the model is a `Sequential`.
    pub(crate) fn sequential(self, is_sequential: bool) -> ModelBuilder {
        ModelBuilder { is_sequential, ..self }
    }

    /// The first input layer.
    pub fn input(&self) -> NodeId {
        self.id.of_node(0)
    }

    /// Sets the name of the first input. Default: `input`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the name is empty or taken.
    pub fn input_name(mut self, name: &str) -> Result<ModelBuilder> {
        if self.nodes[0].name != name {
            self.check_name(name)?;
        }
        self.nodes[0].name = name.to_owned();
        Ok(self)
    }

    /// Adds a further input of the given shape, without the batch dimension.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape is empty or a dimension is 0; [`Error::Argument`] if the name is empty or taken.
    pub fn add_input(&mut self, name: &str, shape: &[usize]) -> Result<NodeId> {
        if shape.is_empty() || shape.contains(&0) {
            let place = match self.nodes.len() {
                0 => format!("{}'s input", self.name),
                _ => format!("{}'s input `{name}`", self.name),
            };
            return Err(Error::shape(place, "sizes of at least 1", shape, ""));
        }
        self.check_name(name)?;
        let layer = Arc::new(InputLayer { shape: shape.to_vec() });
        self.inputs.push(self.nodes.len());
        self.push(Node { name: name.into(), layer, config: None, inputs: Vec::new() })
    }

    /// Adds a layer that takes the outputs of `inputs`. An empty name is replaced by the layer's default name,
    /// with a number if it is taken: `dense`, `dense_1`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the layer does not accept inputs of those shapes; [`Error::Argument`] if the name is
    /// taken, the number of inputs is wrong, or an input belongs to another builder.
    // Not `impl Into<LayerSpec>`: the compiler's message for it does not explain what a layer is.
    pub fn add<L>(&mut self, name: &str, layer: L, inputs: &[NodeId]) -> Result<NodeId>
    where
        LayerSpec: From<L>,
    {
        self.add_spec(name, LayerSpec::from(layer).as_build(), inputs)
    }

    pub(crate) fn add_spec(&mut self, name: &str, spec: &dyn Build, inputs: &[NodeId]) -> Result<NodeId> {
        let name = match name {
            "" => {
                let numbered = (1..).map(|n| format!("{}_{n}", spec.default_name()));
                let mut names = std::iter::once(spec.default_name().to_owned()).chain(numbered);
                names.find(|name| !self.is_taken(name)).expect("the numbers do not end")
            }
            name => {
                self.check_name(name)?;
                name.to_owned()
            }
        };
        let counts = spec.input_counts();
        if !counts.contains(&inputs.len()) {
            let expected = match (*counts.start(), *counts.end()) {
                (1, 1) => "one input".to_owned(),
                (1, usize::MAX) => "at least one input".to_owned(),
                (min, usize::MAX) => format!("at least {min} inputs"),
                (min, max) if min == max => format!("{min} inputs"),
                (min, max) => format!("{min} to {max} inputs"),
            };
            return Err(Error::Argument {
                name: "inputs",
                expected: format!("{expected} for `{name}`"),
                found: inputs.len().to_string(),
            });
        }
        let inputs =
            inputs.iter().map(|id| self.index_of("inputs", &name, *id)).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|&at| self.nodes[at].layer.output_shape()).collect();
        let (random, device) = (&mut self.random, &self.device);
        let layer = spec.build(Context { name: &name, inputs: &shapes, random, device })?;
        self.push(Node { name, layer, config: LayerConfig::of(spec), inputs })
    }

    /// Shape of a node's output, without the batch dimension.
    pub(crate) fn output_shape(&self, id: NodeId) -> &[usize] {
        self.layer(id).output_shape()
    }

    /// The layer of a node.
    pub(super) fn layer(&self, id: NodeId) -> &Arc<dyn Layer> {
        &self.nodes[id.node].layer
    }

    /// Replaces a layer by an equal layer, that at `path`, so that both nodes share its weights.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such layer, or it differs in kind or shapes.
    pub(super) fn share(&mut self, id: NodeId, path: &str, layer: Option<&Arc<dyn Layer>>) -> Result<()> {
        let node = &mut self.nodes[id.node];
        let form = |layer: &dyn Layer| {
            let params = layer.params();
            let dims = params.iter().map(|param| param.variable().dims().to_vec());
            (layer.kind(), layer.output_shape().to_vec(), dims.collect::<Vec<_>>())
        };
        match layer.filter(|layer| form(&***layer) == form(&*node.layer)) {
            Some(layer) => node.layer = layer.clone(),
            None => {
                return Err(Error::Argument {
                    name: "shared_with",
                    expected: format!("the path of an earlier layer like `{}`", node.name),
                    found: format!("`{path}`"),
                });
            }
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<NodeId> {
        check_memory_of("output", &node.name, node.layer.output_shape())?;
        self.nodes.push(node);
        Ok(self.id.of_node(self.nodes.len() - 1))
    }

    fn is_taken(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            let expected = "a name of at least one letter".into();
            return Err(Error::Argument { name: "name", expected, found: "\"\"".into() });
        }
        if self.is_taken(name) {
            let expected = "a name that no other layer has".into();
            return Err(Error::Argument { name: "name", expected, found: name.into() });
        }
        Ok(())
    }

    /// The index of one of this builder's layers, which `user` takes.
    fn index_of(&self, argument: &'static str, user: &str, id: NodeId) -> Result<usize> {
        self.id.index_of(id).map_err(|found| Error::Argument {
            name: argument,
            expected: format!("layers of the same builder, `{}`, for `{user}`", self.name),
            found,
        })
    }

    /// Sets metadata: the preprocessing of images and the classes of the outputs. Also whether the weights are
    /// pretrained, and whether the network has the form of Keras's weights.
    pub(crate) fn describe(
        &mut self,
        preprocessing: Preprocessing,
        labels: Option<Labels>,
        pretrained: bool,
        of_keras: bool,
    ) {
        (self.preprocessing, self.labels) = (Some(preprocessing), labels);
        (self.pretrained, self.of_keras) = (pretrained, of_keras);
    }

    /// Returns the model, whose output is that of the given layer.
    ///
    /// # Errors
    /// [`Error::Argument`] if `output` is an input or belongs to another builder, or if an input or a layer does not
    /// lead to the output.
    pub fn finish(self, output: NodeId) -> Result<Model> {
        let node = self.index_of("output", "finish", output)?;
        let name = self.nodes[node].name.clone();
        self.build(vec![Output { name, node }])
    }

    /// Returns a model with several outputs, each with a name. [`Model::forward_many`] and [`Model::predict_many`] run
    /// it.
    ///
    /// # Errors
    /// As [`ModelBuilder::finish`]; [`Error::Argument`] if there are no outputs, or two have the same name.
    pub fn finish_many(self, outputs: &[(&str, NodeId)]) -> Result<Model> {
        let mut named: Vec<Output> = Vec::new();
        for &(name, id) in outputs {
            if name.is_empty() || named.iter().any(|output| output.name == name) {
                let expected = "a name for each output that no other output has".into();
                return Err(Error::Argument { name: "outputs", expected, found: format!("{name:?}") });
            }
            let node = self.index_of("outputs", "finish_many", id)?;
            named.push(Output { name: name.to_owned(), node });
        }
        self.build(named)
    }

    fn build(self, outputs: Vec<Output>) -> Result<Model> {
        let refuse = |name, expected: String, found: String| Err(Error::Argument { name, expected, found });
        let ModelBuilder { name, nodes, inputs, preprocessing, labels, is_sequential, .. } = self;
        let (pretrained, of_keras) = (self.pretrained, self.of_keras);
        if outputs.is_empty() {
            return refuse("outputs", format!("at least one output of `{name}`"), "none".into());
        }
        if let Some(output) = outputs.iter().find(|output| inputs.contains(&output.node)) {
            let found = format!("the input `{}`", nodes[output.node].name);
            return refuse("output", format!("a layer of `{name}` after its inputs"), found);
        }
        let leads = ancestors(&nodes, outputs.iter().map(|output| output.node));
        if let Some(unused) = leads.iter().position(|leads| !leads) {
            let kind = if inputs.contains(&unused) { "input" } else { "layer" };
            let expected = format!(
                "every input and layer of `{name}` to lead to an output; remove the others, or name further outputs with \
                 `finish_many`"
            );
            return refuse("output", expected, format!("the unused {kind} `{}`", nodes[unused].name));
        }
        Ok(Model::from(Graph {
            name,
            nodes,
            inputs,
            outputs,
            preprocessing,
            labels,
            pretrained,
            of_keras,
            is_sequential,
            plans: Default::default(),
            executors: Default::default(),
        }))
    }
}

struct InputLayer {
    shape: Vec<usize>,
}

impl Layer for InputLayer {
    fn kind(&self) -> &'static str {
        "InputLayer"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        Ok(inputs[0].clone())
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
