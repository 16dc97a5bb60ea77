//! Models: a list of layers in execution order, each with the indices of its input layers.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::execution_plan::PlanCache;
use super::gpu_network::Executors;
use super::{ClassLayout, Labels, Layer, LayerConfig, Param, Preprocessing};
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

pub(super) struct Graph {
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
    /// Indices of the input layers.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<Output>,
    pub(super) preprocessing: Option<Preprocessing>,
    pub(super) labels: Option<Labels>,
    pub(super) pretrained: bool,
    /// Whether the network has the padding and epsilon of Keras's networks, which differ from timm's for some networks.
    pub(super) of_keras: bool,
    /// Whether the model is a `Sequential`. Keras does not count the input layer of those.
    pub(super) is_sequential: bool,
    pub(super) plans: PlanCache,
    pub(super) executors: Executors,
}

/// A named output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) name: String,
    /// Index of the node that computes it.
    pub(crate) node: usize,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) layer: Arc<dyn Layer>,
    pub(crate) config: Option<LayerConfig>,
    pub(super) inputs: Vec<usize>,
}

impl Node {
    /// Indices of the input layers.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().copied()
    }
}

impl From<Graph> for Model {
    fn from(graph: Graph) -> Model {
        Model { graph: Arc::new(graph).into(), extension: None }
    }
}

impl Model {
    /// The model's name: `vgg16`, `sequential`, …
    pub fn name(&self) -> &str {
        &self.graph.name
    }

    /// The shape of one sample, without the batch dimension. With several inputs: that of the first.
    pub fn input_shape(&self) -> &[usize] {
        self.graph.nodes[self.graph.inputs[0]].layer.output_shape()
    }

    /// The shape of one output, without the batch dimension. With several outputs: that of the first.
    pub fn output_shape(&self) -> &[usize] {
        self.graph.nodes[self.output_node()].layer.output_shape()
    }

    /// Where one output has its classes.
    pub(crate) fn class_layout(&self) -> ClassLayout {
        ClassLayout::of(self.output_shape())
    }

    /// The names of the inputs, in order.
    pub fn input_names(&self) -> Vec<String> {
        self.graph.inputs.iter().map(|&node| self.graph.nodes[node].name.clone()).collect()
    }

    /// The names of the outputs, in order. The output of a model with a single one has its layer's name.
    pub fn output_names(&self) -> Vec<String> {
        self.graph.outputs.iter().map(|output| output.name.clone()).collect()
    }

    /// All parameters, in layer order. A parameter of a layer that occurs several times is listed once.
    pub fn params(&self) -> Vec<Param> {
        let mut seen = HashSet::new();
        let all = self.nodes().iter().flat_map(|node| node.layer.params());
        all.filter(|param| seen.insert(param.identity())).collect()
    }

    /// The parameters that training changes.
    pub fn trainable_params(&self) -> Vec<Param> {
        self.params().into_iter().filter(Param::is_trainable).collect()
    }

    /// Copies of the values of all parameters, in the order of [`Model::params`]. Training does not change them;
    /// [`Model::set_weights`] puts them back:
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let model = sequential![Input::new(4), Dense::new(1)]?;
    /// let initial = model.weights()?;
    /// // Train on one fold, then begin again with the same weights for the next.
    /// model.set_weights(&initial)?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn weights(&self) -> Result<Vec<Tensor>> {
        self.params().iter().map(Param::copy).collect()
    }

    /// Replaces the values of all parameters, in the order of [`Model::params`]. After an error no value is changed.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number of tensors; [`Error::Shape`] if a shape differs.
    pub fn set_weights(&self, weights: &[Tensor]) -> Result<()> {
        let params = self.params();
        if params.len() != weights.len() {
            return Err(Error::Argument {
                name: "weights",
                expected: format!("{} tensors, as many as `{}` has parameters", params.len(), self.name()),
                found: weights.len().to_string(),
            });
        }
        let mut pairs = params.iter().zip(weights).enumerate();
        if let Some((at, (param, value))) =
            pairs.find(|(_, (param, value))| param.variable().dims() != value.dims())
        {
            let place = format!("tensor {at} of `weights`, for parameter `{}`", param.name());
            return Err(Error::shape(place, format!("{:?}", param.variable().dims()), value.dims(), ""));
        }
        params.iter().zip(weights).try_for_each(|(param, value)| param.set(value))
    }

    /// Preprocessing of the images for this model, or for the first nested model that defines one.
    pub(crate) fn preprocessing(&self) -> Option<Preprocessing> {
        let inside = || self.nodes().iter().find_map(|node| node.layer.model()?.preprocessing());
        self.graph.preprocessing.or_else(inside)
    }

    fn preprocessing_known(&self) -> Result<Preprocessing> {
        self.preprocessing().ok_or_else(|| Error::Argument {
            name: "preprocess",
            expected: "a network with weights, such as `Vgg16::new(Weights::Demo)` builds".into(),
            found: format!("`{}`, made of layers", self.name()),
        })
    }

    /// Preprocesses images `[N, 3, H, W]`, from 0 to 255, as for the training of this model's weights, or of a nested
    /// model's. If layers before the nested model do that, such as `Rescaling`, the images stay as they are.
    ///
    /// # Errors
    /// [`Error::Argument`] if neither the model nor a nested one defines a preprocessing; [`Error::Shape`] if the
    /// images do not have three channels.
    pub fn preprocess(&self, images: &Tensor) -> Result<Tensor> {
        match self.preprocessing_outside()? {
            Some(preprocessing) => preprocessing.apply(images),
            None => Ok(images.to_dtype(DType::F32)?),
        }
    }

    /// The preprocessing that images need before this model. `None`: its layers preprocess them.
    pub(crate) fn preprocessing_outside(&self) -> Result<Option<Preprocessing>> {
        let preprocessing = self.preprocessing_known()?;
        Ok((!self.preprocesses_itself()).then_some(preprocessing))
    }

    /// Whether layers before the nested model that defines the preprocessing change the scale of the images.
    fn preprocesses_itself(&self) -> bool {
        fn rescales(node: &Node) -> bool {
            match (node.layer.model(), &node.config) {
                (Some(inside), _) => inside.nodes().iter().any(rescales),
                (None, Some(LayerConfig::Affine(_))) => true,
                (None, Some(LayerConfig::Rescaling(_))) => true,
                (None, _) => false,
            }
        }
        let found = self.nodes().iter().find_map(|node| {
            let inside = node.layer.model()?;
            inside.preprocessing().map(|_| (node, inside))
        });
        let Some((node, inside)) = found.filter(|_| self.own_preprocessing().is_none()) else { return false };
        let mut before = node.inputs().next();
        while let Some(index) = before {
            if rescales(&self.nodes()[index]) {
                return true;
            }
            before = self.nodes()[index].inputs().next();
        }
        inside.preprocesses_itself()
    }

    /// Preprocessing set on this model itself, without nested models.
    pub(crate) fn own_preprocessing(&self) -> Option<Preprocessing> {
        self.graph.preprocessing
    }

    /// Whether the model was built by `sequential!`.
    pub(crate) fn is_sequential(&self) -> bool {
        self.graph.is_sequential
    }

    /// Index of the first output's node.
    pub(crate) fn output_node(&self) -> usize {
        self.graph.outputs[0].node
    }

    /// Indices of the input nodes.
    pub(crate) fn input_nodes(&self) -> &[usize] {
        &self.graph.inputs
    }

    pub(crate) fn outputs(&self) -> &[Output] {
        &self.graph.outputs
    }

    pub(super) fn plans(&self) -> &PlanCache {
        &self.graph.plans
    }

    pub(super) fn executors(&self) -> &Executors {
        &self.graph.executors
    }

    /// The inputs and outputs in words: "2 inputs (`image`, `age`) and 1 output (`dense`)".
    pub(crate) fn interface(&self) -> String {
        let list = |names: Vec<String>, noun: &str| {
            let plural = if names.len() == 1 { "" } else { "s" };
            format!("{} {noun}{plural} (`{}`)", names.len(), names.join("`, `"))
        };
        format!("{} and {}", list(self.input_names(), "input"), list(self.output_names(), "output"))
    }

    /// Checks that the model has one input and one output, which `what` needs.
    pub(crate) fn check_single(&self, what: &str) -> Result<()> {
        self.refuse_several(what, "use `predict_many` or `forward_many` for several")
    }

    /// As [`Model::check_single`], for functions that train the model.
    pub(crate) fn check_single_to_train(&self, what: &str) -> Result<()> {
        self.refuse_several(
            what,
            "train several with `value_and_gradients`, `forward_many` and `Optimizer::step`",
        )
    }

    fn refuse_several(&self, what: &str, instead: &str) -> Result<()> {
        if self.input_nodes().len() == 1 && self.outputs().len() == 1 {
            return Ok(());
        }
        Err(Error::Argument {
            name: "the model",
            expected: format!(
                "one input and one output for `{what}`; {instead}, or use `up_to` for the model up to one layer"
            ),
            found: format!("`{}` with {}", self.name(), self.interface()),
        })
    }

    /// Whether the model was created with pretrained weights.
    pub(crate) fn is_pretrained(&self) -> bool {
        self.graph.pretrained
    }

    /// Whether the network has the form of Keras's weights.
    pub(crate) fn is_of_keras(&self) -> bool {
        self.graph.of_keras
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
        self.indices_by_depth().into_iter().map(|index| &self.nodes()[index]).collect()
    }

    /// The indices of [`Model::nodes_by_depth`].
    pub(super) fn indices_by_depth(&self) -> Vec<usize> {
        let nodes = self.nodes();
        let mut depths = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate().rev() {
            for input in node.inputs() {
                depths[input] = depths[input].max(depths[at] + 1);
            }
        }
        let mut order: Vec<usize> = (1..nodes.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(depths[at]));
        order
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

/// For each node, whether it is one of `ends` or leads to one.
pub(super) fn ancestors(nodes: &[Node], ends: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut leads = vec![false; nodes.len()];
    ends.into_iter().for_each(|end| leads[end] = true);
    for (index, node) in nodes.iter().enumerate().rev() {
        if leads[index] {
            node.inputs().for_each(|input| leads[input] = true);
        }
    }
    leads
}
