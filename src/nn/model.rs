//! Models: a list of layers in execution order, each with the indices of its input layers.

use std::any::Any;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::rngs::ChaCha8Rng;

use super::{Activation, Build, Context, Labels, Layer, LayerConfig, LayerSpec, Mode, Param, Preprocessing};
use crate::device::{check_device, device};
use crate::opaque::Opaque;
use crate::{Error, Result};

/// A network, or a part of one: layers with their weights.
///
/// A clone shares its weights with the original but is not compiled. A model nested in another also shares its
/// weights, as in Keras.
pub struct Model {
    graph: Opaque<Arc<Graph>>,
    /// Training state, such as the compiled loss and optimizer.
    pub(crate) extension: Option<Box<dyn Extension>>,
}

/// State that another module of the library attaches to a model.
pub(crate) trait Extension: Any + Send + Sync {
    /// The state for a clone of the model. `None`: the clone starts without state.
    fn for_clone(&self) -> Option<Box<dyn Extension>>;
}

struct Graph {
    name: String,
    nodes: Vec<Node>,
    output: NodeId,
    preprocessing: Option<Preprocessing>,
    labels: Option<Labels>,
    pretrained: bool,
    /// Whether the model is a `Sequential`. Keras does not count the input layer of those.
    is_sequential: bool,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) layer: Arc<dyn Layer>,
    pub(crate) config: Option<LayerConfig>,
    inputs: Vec<NodeId>,
}

impl Node {
    /// Indices of the input layers.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().map(|id| id.0)
    }
}

/// Handle of a layer in a [`ModelBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(usize);

/// Builds models with branches, like Keras's functional API.
///
/// ```
/// use headstart::prelude::*;
/// let mut builder = ModelBuilder::new("residual", &[8])?;
/// let input = builder.input();
/// let branch = builder.add("branch", Dense::new(8).activation(Relu), &[input])?;
/// let sum = builder.add("sum", Add, &[input, branch])?;
/// let model = builder.finish(sum);
/// assert_eq!(model.output_shape(), [8]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct ModelBuilder {
    name: String,
    nodes: Vec<Node>,
    random: ChaCha8Rng,
    device: Device,
    preprocessing: Option<Preprocessing>,
    labels: Option<Labels>,
    pretrained: bool,
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
        if input_shape.is_empty() || input_shape.contains(&0) {
            return Err(Error::shape(format!("{name}'s input"), "sizes of at least 1", input_shape, ""));
        }
        let layer = Arc::new(InputLayer { shape: input_shape.to_vec() });
        let input = Node { name: "input".into(), layer, config: None, inputs: Vec::new() };
        let (name, nodes) = (name.into(), vec![input]);
        Ok(ModelBuilder {
            name,
            nodes,
            random,
            device: device(),
            preprocessing: None,
            labels: None,
            pretrained: false,
            is_sequential: false,
        })
    }

    /// Sets whether the model is a `Sequential`.
    pub(crate) fn sequential(self, is_sequential: bool) -> ModelBuilder {
        ModelBuilder { is_sequential, ..self }
    }

    /// The input layer.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Adds a layer that takes the outputs of `inputs`. An empty name is replaced by the layer's default name,
    /// with a number if it is taken: `dense`, `dense_1`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the layer does not accept inputs of those shapes; [`Error::Argument`] if the name is
    /// taken, or the number of inputs is wrong.
    // Not `impl Into<LayerSpec>`: the compiler's message for it does not explain what a layer is.
    pub fn add<L>(&mut self, name: &str, layer: L, inputs: &[NodeId]) -> Result<NodeId>
    where
        LayerSpec: From<L>,
    {
        self.add_spec(name, LayerSpec::from(layer).as_build(), inputs)
    }

    pub(crate) fn add_spec(&mut self, name: &str, spec: &dyn Build, inputs: &[NodeId]) -> Result<NodeId> {
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        let name = match name {
            "" => {
                let numbered = (1..).map(|n| format!("{}_{n}", spec.stem()));
                let mut names = std::iter::once(spec.stem().to_owned()).chain(numbered);
                names.find(|name| !taken(name)).expect("the numbers do not end")
            }
            name if taken(name) => {
                let expected = "a name that no other layer has".into();
                return Err(Error::Argument { name: "name", expected, found: name.into() });
            }
            name => name.to_owned(),
        };
        let refuse = |expected: &str, found: String| {
            Err(Error::Argument { name: "inputs", expected: format!("{expected} for `{name}`"), found })
        };
        if inputs.is_empty() || inputs.len() > 1 && !spec.takes_many() {
            let expected = if spec.takes_many() { "at least one input" } else { "one input" };
            return refuse(expected, inputs.len().to_string());
        }
        if let Some(NodeId(place)) = inputs.iter().find(|id| id.0 >= self.nodes.len()) {
            let found = format!("layer {place}, where there are {}", self.nodes.len());
            return refuse("layers of the same builder", found);
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|id| self.nodes[id.0].layer.output_shape()).collect();
        let (random, device) = (&mut self.random, &self.device);
        let layer = spec.build(Context { name: &name, inputs: &shapes, random, device })?;
        self.nodes.push(Node { name, layer, config: spec.config(), inputs: inputs.to_vec() });
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Sets metadata: the preprocessing of images, the classes of the outputs, and whether the weights are
    /// pretrained.
    pub(crate) fn describe(
        &mut self,
        preprocessing: Preprocessing,
        labels: Option<Labels>,
        pretrained: bool,
    ) {
        (self.preprocessing, self.labels, self.pretrained) = (Some(preprocessing), labels, pretrained);
    }

    /// Returns the model, whose output is that of the given layer.
    ///
    /// # Panics
    /// If `output` is not a layer of this builder. Only an index out of range is detected.
    pub fn finish(self, output: NodeId) -> Model {
        assert!(output.0 < self.nodes.len(), "`finish` needs a layer of the same builder");
        let ModelBuilder { name, nodes, preprocessing, labels, pretrained, is_sequential, .. } = self;
        let graph = Graph { name, nodes, output, preprocessing, labels, pretrained, is_sequential };
        Model { graph: Arc::new(graph).into(), extension: None }
    }
}

impl Model {
    /// The model's name: `vgg16`, `sequential`, …
    pub fn name(&self) -> &str {
        &self.graph.name
    }

    /// The shape of one input, without the batch dimension.
    pub fn input_shape(&self) -> &[usize] {
        self.graph.nodes[0].layer.output_shape()
    }

    /// The shape of one output, without the batch dimension.
    pub fn output_shape(&self) -> &[usize] {
        self.graph.nodes[self.graph.output.0].layer.output_shape()
    }

    /// All parameters, in layer order.
    pub fn params(&self) -> Vec<Param> {
        self.nodes().iter().flat_map(|node| node.layer.params()).collect()
    }

    /// The parameters that training changes.
    pub fn trainable_params(&self) -> Vec<Param> {
        self.params().into_iter().filter(Param::is_trainable).collect()
    }

    /// Preprocessing of the images for this model, or for the first nested model that defines one.
    pub(crate) fn preprocessing(&self) -> Option<Preprocessing> {
        let inside = || self.nodes().iter().find_map(|node| node.layer.model()?.preprocessing());
        self.graph.preprocessing.or_else(inside)
    }

    /// Preprocessing set on this model itself, without nested models.
    pub(crate) fn own_preprocessing(&self) -> Option<Preprocessing> {
        self.graph.preprocessing
    }

    /// Whether the model was built by `sequential!`.
    pub(crate) fn is_sequential(&self) -> bool {
        self.graph.is_sequential
    }

    /// Index of the output node.
    pub(crate) fn output_node(&self) -> usize {
        self.graph.output.0
    }

    /// Whether the model was created with pretrained weights.
    pub(crate) fn is_pretrained(&self) -> bool {
        self.graph.pretrained
    }

    /// The classes of the outputs, if known.
    pub(crate) fn labels(&self) -> Option<Labels> {
        self.graph.labels
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.graph.nodes
    }

    /// The layers in Keras's order: by decreasing distance from the output, then in the order in which they were
    /// added (`keras/src/ops/function.py`, `map_graph`).
    pub(crate) fn nodes_by_depth(&self) -> Vec<&Node> {
        let nodes = self.nodes();
        let mut depths = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate().rev() {
            for input in node.inputs() {
                depths[input] = depths[input].max(depths[at] + 1);
            }
        }
        let mut order: Vec<usize> = (1..nodes.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(depths[at]));
        order.into_iter().map(|at| &nodes[at]).collect()
    }

    pub(crate) fn check_input(&self, batch: &Tensor) -> Result<()> {
        check_device(&format!("input of `{}`", self.name()), batch)?;
        let expected = self.input_shape();
        if batch.rank() > 0 && &batch.dims()[1..] == expected {
            if batch.dims()[0] == 0 {
                let place = format!("input of `{}`", self.name());
                return Err(Error::shape(place, "at least one sample", batch.dims(), "the batch is empty"));
            }
            return Ok(());
        }
        let sizes = expected.iter().map(|n| format!(", {n}")).collect::<String>();
        let hint = if batch.dims() == expected {
            "this is one sample; add the batch dimension with `unsqueeze(0)?`"
        } else if expected.len() == 3 && matches!(batch.dims(), [_, _, _, 1 | 3]) {
            "images are channels first here, [batch, channels, height, width]: `x.permute((0, 3, 1, 2))?`"
        } else if matches!((expected, batch.dims()), ([3, ..], [_, 1, _, _])) {
            "these are grey images and the model takes colour: `x.repeat((1, 3, 1, 1))?`"
        } else if matches!((expected, batch.dims()), ([1, ..], [_, 3, _, _])) {
            "these are colour images and the model takes grey: `x.mean_keepdim(1)?`"
        } else if matches!((expected, batch.dims()), ([_, height, width], [_, h, w]) if h == height && w == width)
        {
            "grey images need a dimension of channels: `x.unsqueeze(1)?`, and for colour `.repeat((1, 3, 1, 1))?`"
        } else {
            "make the data of this shape, or build the model with the data's `input_shape`"
        };
        Err(Error::shape(
            format!("input of `{}`", self.name()),
            format!("[batch{sizes}]"),
            batch.dims(),
            hint,
        ))
    }
}

impl Clone for Model {
    fn clone(&self) -> Model {
        let extension = self.extension.as_ref().and_then(|extension| extension.for_clone());
        Model { graph: Arc::clone(&self.graph).into(), extension }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({:?}, {:?} -> {:?})", self.name(), self.input_shape(), self.output_shape())
    }
}

impl Build for Model {
    fn stem(&self) -> &str {
        self.name()
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        if context.inputs[0] != self.input_shape() {
            let expected = format!("{:?}", self.input_shape());
            return Err(Error::shape(context.name, expected, context.inputs[0], ""));
        }
        Ok(Arc::new(Nested(self.clone())))
    }

    fn input_shape(&self) -> Option<Vec<usize>> {
        Some(self.input_shape().to_vec())
    }
}

/// A model used as a layer of another model.
struct Nested(Model);

impl Layer for Nested {
    fn kind(&self) -> &'static str {
        "Model"
    }

    fn forward(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.0.forward(inputs[0], mode)
    }

    fn last_activation(&self) -> Activation {
        self.0.last_activation()
    }

    fn forward_linear(&self, inputs: &[&Tensor], mode: Mode) -> Result<Tensor> {
        self.0.forward_linear(inputs[0], mode)
    }

    fn output_shape(&self) -> &[usize] {
        self.0.output_shape()
    }

    fn params(&self) -> Vec<Param> {
        self.0.params()
    }

    fn model(&self) -> Option<&Model> {
        Some(&self.0)
    }

    fn is_random(&self) -> bool {
        self.0.nodes().iter().any(|node| node.layer.is_random())
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
