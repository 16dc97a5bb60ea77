//! A whole model in one file: weights, architecture and training configuration.
//!
//! The file is `.safetensors`. Its metadata holds, under `headstart`, a readable JSON description, from
//! which [`Model::load`] builds the model.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Compiled, CompiledConfig};
use crate::nn::{Activation, AdapterSizes, Description, Lora, Model, Param};
use crate::weights::{
    OPTIMIZER, check_extension, format_of, network_metadata, read_file, read_metadata, save_tensors,
};
use crate::{Error, Result};

/// Version of the description's format.
const FORMAT: u32 = 2;
const KEY: &str = "headstart";

/// The description of the model, stored beside the weights.
#[derive(Serialize, Deserialize)]
struct Metadata {
    format: u32,
    version: String,
    model: Description,
    frozen: Vec<String>,
    #[serde(rename = "at_rest")]
    in_inference_mode: Vec<String>,
    /// Rank and alpha of each adapter, by the path of the adapted parameter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    lora: BTreeMap<String, AdapterSizes>,
    /// The class names of the data of the last training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    class_names: Vec<String>,
    /// Missing in files of format 1.
    #[serde(default)]
    compiled: Option<CompiledConfig>,
    /// The function that converts outputs to probabilities, if a loss determined it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    probability_function: Option<Activation>,
}

impl Model {
    /// Writes the whole model into a `.safetensors` file, atomically.
    ///
    /// The file holds the layers and their connections, the weights, and what is frozen. For a compiled
    /// model, it also holds the optimizer with its state, the loss and the metrics, so that training
    /// resumes exactly. A custom optimizer, loss or metric is not saved.
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
    /// [`Error::Io`] if the file cannot be written; [`Error::Argument`] if the extension is that of another
    /// format, such as `.keras`, or the model contains a custom layer. For such a model, use
    /// [`Model::save_weights`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.check_outside_fit("save")?;
        check_extension(path.as_ref())?;
        let state = self.training_state();
        self.save_compiled(state.and_then(|state| state.compiled.as_ref()), path.as_ref())
    }

    /// Like [`Model::save`], with a given training configuration: during `fit`, the model does not hold
    /// it.
    pub(crate) fn save_compiled(&self, compiled: Option<&Compiled>, path: &Path) -> Result<()> {
        let named = self.named_params();
        let paths = |is: &dyn Fn(&Param) -> bool| {
            named.iter().filter(|(_, param)| is(param)).map(|(path, _)| path.clone()).collect()
        };
        let metadata = Metadata {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model: self.describe()?,
            frozen: paths(&|param| !param.is_statistic() && !param.is_trainable()),
            in_inference_mode: paths(&Param::is_in_inference_mode),
            lora: named.iter().filter_map(|(path, param)| Some((path.clone(), param.lora()?))).collect(),
            class_names: self.trained_classes().to_vec(),
            compiled: compiled.and_then(|compiled| compiled.config(&named)),
            probability_function: self.stated_probability_function(),
        };
        let text = serde_json::to_string(&metadata).map_err(|error| Error::io(path)(error.into()))?;
        let mut tensors: Vec<(String, Tensor)> =
            named.iter().map(|(path, param)| (path.clone(), param.variable().as_detached_tensor())).collect();
        if let Some(compiled) = compiled.filter(|_| metadata.compiled.is_some()) {
            let state = compiled.optimizer.state(&named)?;
            tensors.extend(state.into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
        }
        let mut metadata = network_metadata(self);
        metadata.insert(KEY.to_owned(), text);
        save_tensors(tensors, metadata, path)
    }

    /// Loads the model that [`Model::save`] wrote, compiled if it was compiled when saved.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] if it is damaged, contains only
    /// weights, or was written by a later version.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_from(path.as_ref())
    }

    fn load_from(path: &Path) -> Result<Model> {
        let refuse = |problem: String| Error::weights(path, "a saved model", vec![problem]);
        let format = format_of(path)?;
        if format != ".safetensors" {
            let library = if format == ".pth" { "PyTorch" } else { "Keras" };
            return Err(refuse(format!(
                "expected a file of `model.save(path)`, found a {format} file of {library}; build the model and call \
                 `load_weights`, or build one of the library's networks with `Weights::file(path)`"
            )));
        }
        let metadata = read_metadata(path)?;
        let text = metadata.get(KEY).ok_or_else(|| {
            refuse("the file contains only weights; build the model and call `load_weights`".into())
        })?;
        let metadata: Metadata = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if metadata.format > FORMAT {
            let (format, version) = (metadata.format, &metadata.version);
            return Err(refuse(format!(
                "expected format {FORMAT} or older, found {format}, of headstart {version}"
            )));
        }
        let mut model = metadata.model.build()?;
        for (path, param) in model.named_params() {
            // A shared parameter has several paths.
            if let Some(&(rank, alpha)) = metadata.lora.get(&path).filter(|_| param.lora().is_none()) {
                param.enable_lora(Lora::new(rank).alpha(alpha))?;
            }
        }
        model.load_weights(path)?;
        let (frozen, in_inference_mode): (HashSet<_>, HashSet<_>) =
            (metadata.frozen.into_iter().collect(), metadata.in_inference_mode.into_iter().collect());
        for (path, param) in model.named_params() {
            if !param.is_statistic() {
                param.set_trainable(!frozen.contains(&path));
            }
            param.set_inference_mode(in_inference_mode.contains(&path));
        }
        if let Some(compiled) = metadata.compiled {
            let tensors = read_file(path)?;
            let state = tensors
                .into_iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix(OPTIMIZER)?.to_owned(), tensor)));
            let compiled = compiled.build(&model.named_params(), &state.collect())?;
            model.set_compiled(compiled);
        }
        // A custom loss is not saved, nor the loss of a nested model.
        if let Some(function) = metadata.probability_function {
            model.training_state_mut().probability_function = Some(function);
        }
        if !metadata.class_names.is_empty() {
            model.training_state_mut().class_names = metadata.class_names;
        }
        Ok(model)
    }
}
