//! Serialisable description of a model: its layers and how they are connected.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::builder::INPUT;
use super::{
    Activation, Add, Affine, AveragePooling2D, BatchNormalization, Build, ClassToken, Concatenate, Conv2D,
    Dense, Dropout, FirstToken, Flatten, GlobalAveragePooling1D, GlobalAveragePooling2D, GlobalMaxPooling2D,
    GlobalResponseNormalization, GroupNormalization, Labels, LayerNormalization, LayerScale, MaxPooling2D,
    Model, ModelBuilder, MultiHeadAttention, Multiply, Node, NodeId, Permute, PositionEmbedding,
    Preprocessing, Rescaling, Reshape, SeparableConv2D, StochasticDepth, ZeroPadding2D,
};
use crate::{Error, Result, random};

/// Description of one of the library's layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "class_name", content = "config")]
#[allow(missing_docs)]
pub enum LayerConfig {
    Activation(Activation),
    Add(Add),
    Affine(Affine),
    AveragePooling2D(AveragePooling2D),
    BatchNormalization(BatchNormalization),
    ClassToken(ClassToken),
    Concatenate(Concatenate),
    Conv2D(Conv2D),
    Dense(Dense),
    Dropout(Dropout),
    FirstToken(FirstToken),
    Flatten(Flatten),
    GlobalAveragePooling1D(GlobalAveragePooling1D),
    GlobalAveragePooling2D(GlobalAveragePooling2D),
    GlobalMaxPooling2D(GlobalMaxPooling2D),
    GlobalResponseNormalization(GlobalResponseNormalization),
    GroupNormalization(GroupNormalization),
    LayerNormalization(LayerNormalization),
    LayerScale(LayerScale),
    MaxPooling2D(MaxPooling2D),
    Model(Box<Description>),
    MultiHeadAttention(MultiHeadAttention),
    Multiply(Multiply),
    Permute(Permute),
    PositionEmbedding(PositionEmbedding),
    Rescaling(Rescaling),
    Reshape(Reshape),
    SeparableConv2D(SeparableConv2D),
    StochasticDepth(StochasticDepth),
    ZeroPadding2D(ZeroPadding2D),
}

/// Description of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    name: String,
    input_shape: Vec<usize>,
    layers: Vec<LayerDescription>,
    output: String,
    preprocessing: Option<Preprocessing>,
    labels: Option<Labels>,
    pretrained: bool,
    /// Missing in older files, where the name `sequential` decides.
    #[serde(default)]
    sequential: Option<bool>,
    /// All inputs, if there are several or the only one has another name than `input`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<InputDescription>,
    /// All outputs, if there are several or the only one has another name than its layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<OutputDescription>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InputDescription {
    name: String,
    shape: Vec<usize>,
    /// Number of layers and inputs that were added before it.
    position: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct OutputDescription {
    name: String,
    layer: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LayerDescription {
    name: String,
    #[serde(flatten)]
    config: LayerConfig,
    inputs: Vec<String>,
}

impl Model {
    /// Describes the model.
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has a custom layer.
    pub(crate) fn describe(&self) -> Result<Description> {
        let nodes = self.nodes();
        let name = |at: usize| nodes[at].name.clone();
        let layer = |node: &Node| {
            let config = match (&node.config, node.layer.model()) {
                (Some(config), _) => config.clone(),
                (None, Some(model)) => LayerConfig::Model(Box::new(model.describe()?)),
                (None, None) => {
                    let expected = "layers of headstart's; for others use `save_weights`".into();
                    let found = format!("`{}`, of type {}", node.name, node.layer.kind());
                    return Err(Error::Argument { name: "a model to be saved", expected, found });
                }
            };
            Ok(LayerDescription {
                name: node.name.clone(),
                config,
                inputs: node.inputs().map(name).collect(),
            })
        };
        let is_input = |index: &usize| self.input_nodes().contains(index);
        let inputs: Vec<InputDescription> = self
            .input_nodes()
            .iter()
            .map(|&input| InputDescription {
                name: name(input),
                shape: nodes[input].layer.output_shape().to_vec(),
                position: input,
            })
            .collect();
        let outputs: Vec<OutputDescription> = self
            .outputs()
            .iter()
            .map(|output| OutputDescription { name: output.name.clone(), layer: name(output.node) })
            .collect();
        let layers = (0..nodes.len()).filter(|index| !is_input(index)).map(|index| layer(&nodes[index]));
        Ok(Description {
            name: self.name().to_owned(),
            input_shape: self.input_shape().to_vec(),
            layers: layers.collect::<Result<_>>()?,
            output: name(self.output_node()),
            preprocessing: self.own_preprocessing(),
            labels: self.labels(),
            pretrained: self.is_pretrained(),
            sequential: Some(self.is_sequential()),
            inputs: match inputs.as_slice() {
                [input] if input.name == INPUT => Vec::new(),
                _ => inputs,
            },
            outputs: match outputs.as_slice() {
                [output] if output.name == output.layer => Vec::new(),
                _ => outputs,
            },
        })
    }
}

impl Description {
    /// Builds the model with placeholder weights, which are then loaded from a file.
    pub(crate) fn build(self) -> Result<Model> {
        // A fixed seed: the initial weights are overwritten.
        let builder = ModelBuilder::with_random(&self.name, &self.input_shape, random::seeded(0))?;
        let mut builder = builder.sequential(self.sequential.unwrap_or(self.name == "sequential"));
        let mut ids: HashMap<String, NodeId> = HashMap::new();
        let mut inputs = self.inputs.into_iter().peekable();
        if let Some(first) = inputs.next() {
            builder = builder.input_name(&first.name)?;
            ids.insert(first.name, builder.input());
        } else {
            ids.insert(INPUT.to_owned(), builder.input());
        }
        let known = |ids: &HashMap<String, NodeId>, name: &str| {
            ids.get(name).copied().ok_or_else(|| Error::UnknownLayer {
                model: self.name.clone(),
                name: name.to_owned(),
                known: ids.keys().cloned().collect::<Vec<_>>().join(", "),
                hint: String::new(),
            })
        };
        for layer in self.layers {
            while let Some(input) = inputs.next_if(|input| input.position == ids.len()) {
                let id = builder.add_input(&input.name, &input.shape)?;
                ids.insert(input.name, id);
            }
            let inputs =
                layer.inputs.iter().map(|name| known(&ids, name)).collect::<Result<Vec<NodeId>>>()?;
            let id = match layer.config {
                LayerConfig::Model(description) => {
                    builder.add_spec(&layer.name, &description.build()?, &inputs)?
                }
                config => builder.add_spec(&layer.name, config.spec(), &inputs)?,
            };
            ids.insert(layer.name, id);
        }
        if let Some(preprocessing) = self.preprocessing {
            builder.describe(preprocessing, self.labels, self.pretrained);
        }
        if self.outputs.is_empty() {
            return builder.finish(known(&ids, &self.output)?);
        }
        let outputs =
            self.outputs.iter().map(|output| Ok((output.name.as_str(), known(&ids, &output.layer)?)));
        builder.finish_many(&outputs.collect::<Result<Vec<_>>>()?)
    }
}

impl LayerConfig {
    fn spec(&self) -> &dyn Build {
        match self {
            LayerConfig::Activation(layer) => layer,
            LayerConfig::Add(layer) => layer,
            LayerConfig::Affine(layer) => layer,
            LayerConfig::AveragePooling2D(layer) => layer,
            LayerConfig::BatchNormalization(layer) => layer,
            LayerConfig::ClassToken(layer) => layer,
            LayerConfig::Concatenate(layer) => layer,
            LayerConfig::Conv2D(layer) => layer,
            LayerConfig::Dense(layer) => layer,
            LayerConfig::Dropout(layer) => layer,
            LayerConfig::FirstToken(layer) => layer,
            LayerConfig::Flatten(layer) => layer,
            LayerConfig::GlobalAveragePooling1D(layer) => layer,
            LayerConfig::GlobalAveragePooling2D(layer) => layer,
            LayerConfig::GlobalMaxPooling2D(layer) => layer,
            LayerConfig::GlobalResponseNormalization(layer) => layer,
            LayerConfig::GroupNormalization(layer) => layer,
            LayerConfig::LayerNormalization(layer) => layer,
            LayerConfig::LayerScale(layer) => layer,
            LayerConfig::MaxPooling2D(layer) => layer,
            LayerConfig::Model(_) => unreachable!("a model is built from its own description"),
            LayerConfig::MultiHeadAttention(layer) => layer,
            LayerConfig::Multiply(layer) => layer,
            LayerConfig::Permute(layer) => layer,
            LayerConfig::PositionEmbedding(layer) => layer,
            LayerConfig::Rescaling(layer) => layer,
            LayerConfig::Reshape(layer) => layer,
            LayerConfig::SeparableConv2D(layer) => layer,
            LayerConfig::StochasticDepth(layer) => layer,
            LayerConfig::ZeroPadding2D(layer) => layer,
        }
    }
}
