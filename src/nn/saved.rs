//! A whole model in one file: its weights, and in words what it is.
//!
//! The file is `.safetensors`; its metadata holds, under `headstart`, a JSON description that a
//! person can read and [`Model::load`] builds the model from.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Activation, Add, AveragePooling2D, BatchNormalization, Build, Conv2D, Dense, Dropout, Flatten,
    GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D, Model, ModelBuilder, Multiply, Node, NodeId,
    Param, Rescaling, Reshape,
};
use crate::models::{Labels, Preprocessing};
use crate::train::{Compiled, CompiledConfig};
use crate::weights::{OPTIMIZER, read_about, read_file, save_tensors};
use crate::{Error, Result, random};

/// Of the description; a later one may say more.
const FORMAT: u32 = 2;
const KEY: &str = "headstart";

/// A layer of ours, as it is described before it is built.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "class_name", content = "config")]
#[allow(missing_docs)]
pub enum LayerConfig {
    Activation(Activation),
    Add(Add),
    AveragePooling2D(AveragePooling2D),
    BatchNormalization(BatchNormalization),
    Conv2D(Conv2D),
    Dense(Dense),
    Dropout(Dropout),
    Flatten(Flatten),
    GlobalAveragePooling2D(GlobalAveragePooling2D),
    GlobalMaxPooling2D(GlobalMaxPooling2D),
    MaxPooling2D(MaxPooling2D),
    Model(Box<Description>),
    Multiply(Multiply),
    Rescaling(Rescaling),
    Reshape(Reshape),
}

/// A model in words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    name: String,
    input_shape: Vec<usize>,
    layers: Vec<LayerDescription>,
    output: String,
    preprocessing: Option<Preprocessing>,
    labels: Option<Labels>,
    pretrained: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LayerDescription {
    name: String,
    #[serde(flatten)]
    config: LayerConfig,
    inputs: Vec<String>,
}

/// What stands in the file beside the weights.
#[derive(Serialize, Deserialize)]
struct About {
    format: u32,
    version: String,
    model: Description,
    frozen: Vec<String>,
    at_rest: Vec<String>,
    /// Not in files of format 1.
    #[serde(default)]
    compiled: Option<CompiledConfig>,
}

impl Model {
    /// Writes the whole model into a `.safetensors` file, whole or not at all: its layers and how
    /// they are connected, its weights, what is frozen, and, if it was compiled, with what, and what the
    /// optimizer remembers: training goes on as if it had not been interrupted. An optimizer, a loss or a metric of your own
    /// is left out.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("model.safetensors");
    /// let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
    /// base.freeze();
    /// let model = sequential![base, Flatten, Dense::new(1).activation(Sigmoid)]?;
    /// model.save(&path)?;
    /// let same = Model::load(&path)?;
    /// let x = random_uniform((2, 3, 64, 64), -2.0, 2.0)?;
    /// assert_eq!(same.predict(&x)?, model.predict(&x)?);
    /// assert_eq!(same.summary().to_string(), model.summary().to_string());
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Argument`] if a layer of your own is in
    /// the model, of which [`Model::save_weights`] keeps the weights.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_compiled(self.compiled.as_ref(), path.as_ref())
    }

    /// The same, with what it is compiled with: `fit` has that in hand.
    pub(crate) fn save_compiled(&self, compiled: Option<&Compiled>, path: &Path) -> Result<()> {
        let named = self.named_params();
        let ways = |is: &dyn Fn(&Param) -> bool| {
            named.iter().filter(|(_, param)| is(param)).map(|(way, _)| way.clone()).collect()
        };
        let about = About {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model: self.describe()?,
            frozen: ways(&|param| !param.is_statistic() && !param.is_trainable()),
            at_rest: ways(&Param::is_at_rest),
            compiled: compiled.and_then(|compiled| compiled.config(&named)),
        };
        let text = serde_json::to_string(&about).map_err(|error| Error::io(path)(error.into()))?;
        let mut tensors: Vec<(String, Tensor)> =
            named.iter().map(|(way, param)| (way.clone(), param.variable().as_detached_tensor())).collect();
        if let Some(compiled) = compiled.filter(|_| about.compiled.is_some()) {
            let state = compiled.optimizer.state(&named)?;
            tensors.extend(state.into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        }
        save_tensors(tensors, HashMap::from([(KEY.to_owned(), text)]), path)
    }

    /// Builds the model that [`Model::save`] wrote, compiled if that one was.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it is damaged, holds weights
    /// alone, or was written by a later version.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_from(path.as_ref())
    }

    fn load_from(path: &Path) -> Result<Model> {
        let refuse = |problem: String| Error::weights(path, "a saved model", vec![problem]);
        let about = read_about(path)?;
        let text = about.get(KEY).ok_or_else(|| {
            refuse("the file holds weights alone; build the model and call `load_weights`".into())
        })?;
        let about: About = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if about.format > FORMAT {
            let (format, version) = (about.format, &about.version);
            return Err(refuse(format!(
                "expected format {FORMAT} or older, found {format}, of headstart {version}"
            )));
        }
        let mut model = about.model.build()?;
        model.load_weights(path)?;
        let (frozen, at_rest): (HashSet<_>, HashSet<_>) =
            (about.frozen.into_iter().collect(), about.at_rest.into_iter().collect());
        for (way, param) in model.named_params() {
            if !param.is_statistic() {
                param.set_trainable(!frozen.contains(&way));
            }
            param.set_at_rest(at_rest.contains(&way));
        }
        if let Some(compiled) = about.compiled {
            let tensors = read_file(path)?;
            let state = tensors
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix(OPTIMIZER)?.to_owned(), tensor)));
            let compiled = compiled.build(&model.named_params(), &state.collect())?;
            model.loss = Some(compiled.loss.clone());
            *model.compiled = Some(compiled);
        }
        Ok(model)
    }

    fn describe(&self) -> Result<Description> {
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
        Ok(Description {
            name: self.name().to_owned(),
            input_shape: self.input_shape().to_vec(),
            layers: nodes[1..].iter().map(layer).collect::<Result<_>>()?,
            output: name(self.output_node()),
            preprocessing: self.own_preprocessing(),
            labels: self.labels(),
            pretrained: self.is_pretrained(),
        })
    }
}

impl Description {
    fn build(self) -> Result<Model> {
        // The weights come from the file; what they begin as is of no account.
        let mut builder = ModelBuilder::with_random(&self.name, &self.input_shape, random::seeded(0))?;
        let mut ids: HashMap<String, NodeId> = HashMap::from([("input".to_owned(), builder.input())]);
        let known = |ids: &HashMap<String, NodeId>, name: &str| {
            ids.get(name).copied().ok_or_else(|| Error::UnknownLayer {
                model: self.name.clone(),
                name: name.to_owned(),
                known: ids.keys().cloned().collect::<Vec<_>>().join(", "),
                hint: String::new(),
            })
        };
        for layer in self.layers {
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
        Ok(builder.finish(known(&ids, &self.output)?))
    }
}

impl LayerConfig {
    fn spec(&self) -> &dyn Build {
        match self {
            LayerConfig::Activation(layer) => layer,
            LayerConfig::Add(layer) => layer,
            LayerConfig::AveragePooling2D(layer) => layer,
            LayerConfig::BatchNormalization(layer) => layer,
            LayerConfig::Conv2D(layer) => layer,
            LayerConfig::Dense(layer) => layer,
            LayerConfig::Dropout(layer) => layer,
            LayerConfig::Flatten(layer) => layer,
            LayerConfig::GlobalAveragePooling2D(layer) => layer,
            LayerConfig::GlobalMaxPooling2D(layer) => layer,
            LayerConfig::MaxPooling2D(layer) => layer,
            LayerConfig::Model(_) => unreachable!("a model is built from its own description"),
            LayerConfig::Multiply(layer) => layer,
            LayerConfig::Rescaling(layer) => layer,
            LayerConfig::Reshape(layer) => layer,
        }
    }
}
