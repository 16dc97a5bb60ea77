//! The importer: visits the nodes of an ONNX graph and builds the model.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;

use super::attention_nodes::{AttentionNodes, Search};
use super::file::OnnxFile;
use super::function::{Binary, ElementwiseFunction, Function, Term};
use super::layer_names::cleaned;
use super::tensor::{Constant, StoredTensor};
use super::view::{Value, View};
use crate::check::check_memory;
use crate::nn::{
    Add, Build, Flatten, Layer, Model, ModelBuilder, Multiply, NodeId, Permute, Rescaling, Reshape,
};
use crate::{device, random};

/// Largest number of layers (20,000: as many as a file may have nodes).
const MAX_LAYERS: usize = 20_000;
/// Largest number of values of all constants that are decoded or computed (2³¹: VGG16 has 2²⁷ weights).
const MAX_CONSTANT_VALUES: usize = 1 << 31;
/// Names that exporters give to every graph.
const COMMON_NAMES: [&str; 6] = ["", "main", "main_graph", "model", "tf2onnx", "torch_jit"];

/// State of an import. The functions return what is wrong with a node; [`Importer::run`] adds which node it is.
pub(super) struct Importer<'a> {
    pub(super) file: &'a OnnxFile<'a>,
    folder: &'a Path,
    builder: ModelBuilder,
    pub(super) values: HashMap<&'a str, Value>,
    /// Batch size, if the file fixes it.
    pub(super) batch: Option<i64>,
    /// For each value, the nodes that read it. A node that reads it twice occurs twice.
    pub(super) readers: HashMap<&'a str, Vec<usize>>,
    /// For each value, the node that computes it.
    pub(super) producers: HashMap<&'a str, usize>,
    /// Nodes by name.
    pub(super) by_name: HashMap<&'a str, Vec<usize>>,
    /// Whether a node leads to an output.
    is_live: Vec<bool>,
    /// Nodes that another node's layer computes too.
    pub(super) absorbed: HashSet<usize>,
    /// Self-attention, by the index of its last node.
    attentions: HashMap<usize, AttentionNodes<'a>>,
    layer_names: HashSet<String>,
    /// For each name in use, the last number that was appended to make a name unique.
    numbers: HashMap<String, usize>,
    /// Number of values of constants that were decoded or computed.
    constant_values: Cell<usize>,
    pub(super) has_channels_last_input: bool,
}

impl<'a> Importer<'a> {
    pub(super) fn new(file: &'a OnnxFile<'a>, folder: &'a Path, stem: &str) -> Result<Importer<'a>, String> {
        let producers: HashMap<&str, usize> = file
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(index, node)| node.outputs.iter().map(move |output| (*output, index)))
            .filter(|(output, _)| !output.is_empty())
            .collect();
        let mut is_live = vec![false; file.nodes.len()];
        let mut open: Vec<&str> = file.outputs.clone();
        while let Some(value) = open.pop() {
            if let Some(&index) = producers.get(value)
                && !std::mem::replace(&mut is_live[index], true)
            {
                open.extend(&file.nodes[index].inputs);
            }
        }
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in file.nodes.iter().enumerate().filter(|(index, _)| is_live[*index]) {
            node.inputs.iter().for_each(|input| readers.entry(input).or_default().push(index));
            by_name.entry(cleaned(node.name)).or_default().push(index);
        }
        let first = file.inputs.first().ok_or("expected an input, found none")?;
        let mut importer = Importer {
            file,
            folder,
            builder: ModelBuilder::with_random("placeholder", &[1], random::seeded(0)).map_err(text)?,
            values: HashMap::new(),
            batch: None,
            readers,
            producers,
            by_name,
            is_live,
            absorbed: HashSet::new(),
            attentions: HashMap::new(),
            layer_names: HashSet::new(),
            numbers: HashMap::new(),
            constant_values: Cell::new(0),
            has_channels_last_input: false,
        };
        let name = if COMMON_NAMES.contains(&file.name) { stem } else { file.name };
        let (shape, order) = importer.input_shape(first)?;
        // A fixed seed: the initial weights are overwritten.
        let builder = ModelBuilder::with_random(name, &shape, random::seeded(0)).map_err(text)?;
        importer.builder = builder.input_name(first.name).map_err(text)?;
        importer.add_input(first.name, importer.builder.input(), &shape, order);
        for input in &file.inputs[1..] {
            let (shape, order) = importer.input_shape(input)?;
            let node = importer.builder.add_input(input.name, &shape).map_err(text)?;
            importer.add_input(input.name, node, &shape, order);
        }
        importer.find_attentions();
        Ok(importer)
    }

    fn add_input(&mut self, name: &'a str, node: NodeId, shape: &[usize], order: Vec<usize>) {
        self.layer_names.insert(name.to_owned());
        self.values.insert(name, Value::View(View { order, ..View::of(node, shape) }));
    }

    /// Finds the self-attention of the graph. Its nodes are absorbed by the last one.
    fn find_attentions(&mut self) {
        let search = Search::new(self.file, &self.producers, &self.readers);
        let mut found = search.all();
        found.retain(|last, _| self.is_live[*last]);
        let inner: Vec<_> = found.values().map(|attention| search.inner(attention)).collect();
        inner.into_iter().for_each(|nodes| self.absorbed.extend(nodes));
        self.attentions = found;
    }

    /// Imports all nodes and returns the model.
    pub(super) fn run(mut self) -> Result<Model, String> {
        let file = self.file;
        for (index, node) in file.nodes.iter().enumerate() {
            if self.is_live[index] && !self.absorbed.contains(&index) {
                let added = match self.attentions.remove(&index) {
                    Some(attention) => self.add_attention(&attention),
                    None => self.add(index),
                };
                added.map_err(|problem| {
                    let name = if node.name.is_empty() { node.output() } else { node.name };
                    format!("node {index}, `{name}`, of the operator {}: {problem}", node.operator())
                })?;
            }
        }
        let mut outputs = Vec::new();
        for &name in &file.outputs {
            let found = self.output(name).map_err(|problem| format!("output `{name}`: {problem}"))?;
            outputs.push((name, found));
        }
        match outputs.as_slice() {
            [(_, output)] => self.builder.finish(*output),
            _ => self.builder.finish_many(&outputs),
        }
        .map_err(text)
    }

    fn output(&mut self, name: &'a str) -> Result<NodeId, String> {
        let view = self.view(name)?;
        if self.has_channels_last_input && view.is_channels_last() {
            return Ok(self.layer_output(name)?.node);
        }
        Ok(self.ordered_output(name)?.node)
    }

    // Values.

    /// A value, of an earlier node or of the file.
    pub(super) fn value(&self, name: &str) -> Result<Value, String> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        match self.file.initializers.get(name) {
            Some(tensor) => Ok(Value::Constant(Rc::new(self.decoded(tensor)?))),
            None if name.is_empty() => Err("an input is missing".into()),
            None => Err(format!("its input `{name}` is computed by no earlier node")),
        }
    }

    pub(super) fn set(&mut self, name: &'a str, value: Value) {
        self.values.insert(name, value);
    }

    /// A value that depends on the model's input.
    pub(super) fn view(&self, name: &str) -> Result<View, String> {
        match self.value(name)? {
            Value::View(view) => Ok(view),
            Value::Constant(_) => {
                Err(format!("its input `{name}`: expected a computed value, found a constant"))
            }
        }
    }

    /// A constant; `None` if the value depends on the model's input.
    pub(super) fn constant(&self, name: &str) -> Result<Option<Rc<Constant>>, String> {
        match self.value(name)? {
            Value::View(_) => Ok(None),
            Value::Constant(constant) => Ok(Some(constant)),
        }
    }

    /// A weight: a constant of the file.
    pub(super) fn weight(&self, name: &str) -> Result<Rc<Constant>, String> {
        let problem = || format!("its input `{name}`: expected a constant, found a computed value");
        self.constant(name)?.ok_or_else(problem)
    }

    /// The tensor of an attribute, decoded.
    pub(super) fn decoded(&self, tensor: &StoredTensor) -> Result<Constant, String> {
        let constant = tensor.decode(self.folder)?;
        self.count_values(&constant)?;
        Ok(constant)
    }

    /// Counts the values of a constant, so that a small file cannot cause endless work.
    pub(super) fn count_values(&self, constant: &Constant) -> Result<(), String> {
        let count = self.constant_values.get().saturating_add(constant.dims.iter().product());
        self.constant_values.set(count);
        match count <= MAX_CONSTANT_VALUES {
            true => Ok(()),
            false => Err(format!("expected constants of {MAX_CONSTANT_VALUES} values in all, found more")),
        }
    }

    /// The value as a layer computes it: only the order of its dimensions may differ.
    pub(super) fn layer_output(&mut self, name: &'a str) -> Result<View, String> {
        let mut view = self.view(name)?;
        if !view.function.is_identity() {
            let label = self.label(name);
            view.node = self.apply(&view.function, view.node, &label)?;
            view.function = Function::argument();
        }
        if *view.shape != *self.shape(view.node) {
            view.node = match view.shape.len() {
                1 => self.layer("", Flatten, &[view.node], &[])?,
                _ => self.layer("", Reshape::new(view.shape.clone()), &[view.node], &[])?,
            };
        }
        self.values.insert(name, Value::View(view.clone()));
        Ok(view)
    }

    /// The value as a layer computes it, with its dimensions in order.
    pub(super) fn ordered_output(&mut self, name: &'a str) -> Result<View, String> {
        let view = self.layer_output(name)?;
        if view.is_in_order() {
            return Ok(view);
        }
        let dims: Vec<usize> = view.order.iter().map(|axis| axis + 1).collect();
        let node = self.layer("", Permute::new(&dims), &[view.node], &[])?;
        let view = View::of(node, &view.dims());
        self.values.insert(name, Value::View(view.clone()));
        Ok(view)
    }

    /// Feature maps `[C, H, W]`.
    pub(super) fn maps(&mut self, name: &'a str) -> Result<(NodeId, [usize; 3]), String> {
        let view = self.ordered_output(name)?;
        match *view.shape {
            [channels, height, width] => Ok((view.node, [channels, height, width])),
            _ => Err(format!(
                "expected an input [batch, channels, height, width], found [batch, {:?}]",
                view.shape
            )),
        }
    }

    /// Adds the layers that compute a function.
    pub(super) fn apply(&mut self, function: &Function, node: NodeId, name: &str) -> Result<NodeId, String> {
        match function.recognise() {
            Some(ElementwiseFunction::Identity) => return Ok(node),
            Some(ElementwiseFunction::Rescaling { scale, offset }) => {
                return self.layer(name, Rescaling::new(scale).offset(offset), &[node], &[]);
            }
            Some(ElementwiseFunction::Activation(activation)) => {
                return self.layer(name, activation, &[node], &[]);
            }
            None => {}
        }
        let x = Function::argument;
        let is_number = |function: &Function| matches!(function.term(), Term::Number(_));
        match function.term().clone() {
            Term::Unary(operator, inner) if !inner.is_identity() => {
                let node = self.apply(&inner, node, "")?;
                self.apply(&Function::unary(operator, x()), node, name)
            }
            Term::Binary(operator, a, b) if is_number(&b) && !a.is_identity() => {
                let node = self.apply(&a, node, "")?;
                self.apply(&Function::binary(operator, x(), b), node, name)
            }
            Term::Binary(operator, a, b) if is_number(&a) && !b.is_identity() => {
                let node = self.apply(&b, node, "")?;
                self.apply(&Function::binary(operator, a, x()), node, name)
            }
            Term::Binary(operator, a, b) if !is_number(&a) && !is_number(&b) => {
                let operands = [self.apply(&a, node, "")?, self.apply(&b, node, "")?];
                self.merge(operator, operands, name)
            }
            _ => Err(format!("no layer computes this function of a value: {function}")),
        }
    }

    /// Adds the layer that merges two values of the same shape.
    pub(super) fn merge(
        &mut self,
        operator: Binary,
        [a, b]: [NodeId; 2],
        name: &str,
    ) -> Result<NodeId, String> {
        match operator {
            Binary::Add => self.layer(name, Add, &[a, b], &[]),
            Binary::Subtract => {
                let negative = self.layer("", Rescaling::new(-1.0), &[b], &[])?;
                self.layer(name, Add, &[a, negative], &[])
            }
            Binary::Multiply => self.layer(name, Multiply, &[a, b], &[]),
            Binary::Divide | Binary::Power => Err("expected a constant as one of the two operands".into()),
        }
    }

    // Layers.

    /// A layer of the model.
    pub(super) fn built(&self, node: NodeId) -> Arc<dyn Layer> {
        self.builder.layer(node).clone()
    }

    /// The output shape of a layer.
    pub(super) fn shape(&self, node: NodeId) -> &[usize] {
        self.builder.layer(node).output_shape()
    }

    /// Adds a layer with its weights, each with its values in the layout of the layer's parameter. A name that is taken
    /// gets a number; an empty one is replaced by the layer's default name.
    pub(super) fn layer<B: Build>(
        &mut self,
        name: &str,
        layer: B,
        inputs: &[NodeId],
        weights: &[Vec<f32>],
    ) -> Result<NodeId, String> {
        if self.layer_names.len() >= MAX_LAYERS {
            return Err(format!("expected at most {MAX_LAYERS} layers, found more"));
        }
        let name = if name.is_empty() { layer.default_name() } else { name };
        let mut unique = name.to_owned();
        while !self.layer_names.insert(unique.clone()) {
            let number = self.numbers.entry(name.to_owned()).or_default();
            *number += 1;
            unique = format!("{name}_{number}");
        }
        let node = self.builder.add_spec(&unique, &layer, inputs).map_err(text)?;
        let built = self.builder.layer(node).clone();
        check_memory("the output of a layer", built.output_shape()).map_err(text)?;
        let params = built.params();
        debug_assert_eq!(params.len(), weights.len());
        for (param, values) in params.iter().zip(weights) {
            let expected = param.variable().dims();
            if param.count() != values.len() {
                let found = values.len();
                return Err(format!("{}: expected shape {expected:?}, found {found} values", param.name()));
            }
            let value = Tensor::from_slice(values, expected, &device()).map_err(|error| error.to_string())?;
            param.load(&value).map_err(text)?;
        }
        Ok(node)
    }

    /// The only node that reads a value, unless the value is an output too.
    pub(super) fn only_reader(&self, value: &str) -> Option<usize> {
        let &[reader] = self.readers.get(value)?.as_slice() else { return None };
        (!self.file.outputs.contains(&value)).then_some(reader)
    }

    /// Marks a node as computed by another node's layer.
    pub(super) fn absorb(&mut self, index: usize) {
        self.absorbed.insert(index);
    }
}

/// An error as text, for [`crate::Error::Onnx`].
pub(super) fn text(error: crate::Error) -> String {
    error.to_string()
}
