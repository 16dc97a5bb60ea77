//! Saving and loading of a model's weights: Keras's `save_weights` and `load_weights`, as `.safetensors`.
//!
//! The name of a tensor is its path: `vgg16/block1_conv1/kernel`, with nested models first.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::formats::WeightFile;
use super::mismatch::{self, Skipped};
use super::origin::network_metadata;
use crate::files::write_whole_with;
use crate::nn::{Model, Param};
use crate::{Error, Result};

/// Name prefix of the optimizer's state in a file with weights.
pub(crate) const OPTIMIZER: &str = "optimizer/";

impl Model {
    /// Saves all weights and statistics to a `.safetensors` file, which is written atomically. Adapters of
    /// [`Model::enable_lora`] are merged into their kernels, so a model without adapters can load the file.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("head.safetensors");
    /// let model = sequential![Input::new(4), Dense::new(2)]?;
    /// model.save_weights(&path)?;
    /// let other = sequential![Input::new(4), Dense::new(2)]?;
    /// other.load_weights(&path)?;
    /// let x = random_uniform((1, 4), 0.0, 1.0)?;
    /// assert_eq!(model.predict(&x)?, other.predict(&x)?);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the extension is that of another format, such as `.h5`; [`Error::Io`] if the file
    /// cannot be written.
    pub fn save_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        check_extension(path.as_ref())?;
        let params = self.named_params().into_iter().filter(|(_, param)| !param.is_adapter());
        let tensors = params.map(|(name, param)| Ok((name, param.merged()?))).collect::<Result<_>>()?;
        save_tensors(tensors, network_metadata(self), path.as_ref())
    }

    /// Loads weights into a model with the same layers, from a file of [`Model::save_weights`], or from a `.h5`,
    /// `.weights.h5` or `.keras` file of Keras. Unless every tensor fits, the weights do not change.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] with the tensors that are missing, have the wrong
    /// shape, or are not in this model.
    pub fn load_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        self.load_weights_of(path.as_ref(), true)
    }

    /// Like [`Model::load_weights`], but skips layers whose weights are missing or have another shape, and prints them:
    /// Keras's `load_weights(path, skip_mismatch=True)`. Use it for a file that was saved with another number of
    /// classes. Tensors that only the file has are skipped too.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("ten.safetensors");
    /// let build = |classes: usize| sequential![Input::new(4), Dense::new(8).activation(Relu), Dense::new(classes)];
    /// build(10)?.save_weights(&path)?;
    /// let model = build(3)?;
    /// model.load_weights_skip_mismatch(&path)?;
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Model::load_weights`]; a mismatch is an error only if no layer fits.
    pub fn load_weights_skip_mismatch(&self, path: impl AsRef<Path>) -> Result<()> {
        self.load_matching(path.as_ref())
    }

    fn load_matching(&self, path: &Path) -> Result<()> {
        let tensors = WeightFile::open(path, self.name())?.read_for(self)?;
        let layer = |name: &str| name.rsplit_once('/').map_or(String::new(), |(layer, _)| layer.to_owned());
        let (mut found, mut skipped) = (Vec::new(), Vec::new());
        let params = self.named_params();
        let is_expected =
            |(name, param): &&(String, Param)| !param.is_adapter() || tensors.contains_key(name);
        for (name, param) in params.iter().filter(is_expected) {
            match Self::problem(name, param, &tensors, true) {
                Some(problem) => skipped.push(Skipped { layer: layer(name), problem }),
                None => found.push((layer(name), param.clone(), tensors[name].clone())),
            }
        }
        let surplus = unknown_tensors(&tensors, &params);
        skipped.extend(surplus.into_iter().map(|problem| Skipped { layer: String::new(), problem }));
        mismatch::set_others(found, &skipped, self, path)
    }

    /// Why a parameter cannot be loaded: its tensor has the wrong shape, or, if `all`, is missing.
    fn problem(name: &str, param: &Param, tensors: &HashMap<String, Tensor>, all: bool) -> Option<String> {
        let expected = param.variable().dims();
        match tensors.get(name).map(Tensor::dims) {
            Some(found) if found == expected => None,
            Some(found) => Some(format!("`{name}`: expected shape {expected:?}, found {found:?}")),
            None => (all && !param.is_adapter())
                .then(|| format!("`{name}` is missing: expected shape {expected:?}")),
        }
    }

    /// Loads weights. Unless `all`, tensors may be missing.
    pub(crate) fn load_weights_of(&self, path: &Path, all: bool) -> Result<()> {
        let tensors = WeightFile::open(path, self.name())?.read_for(self)?;
        let params = self.named_params();
        let problems = params.iter().filter_map(|(name, param)| Self::problem(name, param, &tensors, all));
        let problems: Vec<String> = problems.chain(unknown_tensors(&tensors, &params)).collect();
        if !problems.is_empty() {
            return Err(Error::weights(path, self.name(), problems));
        }
        // In a file without adapters, the kernels are complete, so the adapters become zero.
        if !params.iter().any(|(name, param)| param.is_adapter() && tensors.contains_key(name)) {
            let loaded = params.iter().filter(|(name, _)| tensors.contains_key(name));
            loaded.into_iter().try_for_each(|(_, param)| param.reset_adapter())?;
        }
        let found = params.iter().filter_map(|(name, param)| Some((tensors.get(name)?, param)));
        found.into_iter().try_for_each(|(tensor, param)| param.load(tensor))
    }

    /// All parameters with their paths.
    pub(crate) fn named_params(&self) -> Vec<(String, Param)> {
        let mut named = Vec::new();
        for node in &self.nodes()[1..] {
            let inside: Vec<(String, Param)> = match node.layer.model() {
                Some(model) => model.named_params(),
                None => node.layer.params().into_iter().map(|p| (p.name().to_owned(), p)).collect(),
            };
            named.extend(inside.into_iter().map(|(name, param)| (format!("{}/{name}", node.name), param)));
        }
        named
    }
}

/// Descriptions of the tensors without a parameter. The optimizer's state is ignored.
fn unknown_tensors(tensors: &HashMap<String, Tensor>, params: &[(String, Param)]) -> Vec<String> {
    let known: HashSet<&str> = params.iter().map(|(name, _)| &**name).collect();
    // Integers are counters, masks and indices.
    let is_unknown = |name: &&String| {
        !known.contains(&***name) && !name.starts_with(OPTIMIZER) && !tensors[*name].dtype().is_int()
    };
    let mut unknown: Vec<&String> = tensors.keys().filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown.iter().map(|name| format!("`{name}` is not in this model")).collect()
}

/// Checks that the extension of a file to be written is not that of another format: the content is always
/// safetensors.
pub(crate) fn check_extension(path: &Path) -> Result<()> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let format = match &*extension {
        "h5" | "hdf5" | "keras" => "Keras",
        "pt" | "pth" | "ckpt" | "pkl" => "PyTorch",
        "onnx" => "ONNX, which `model.export_onnx(path)` writes",
        "npy" | "npz" => "NumPy",
        _ => return Ok(()),
    };
    let expected = "a `.safetensors` file, the format that is written".into();
    Err(Error::Argument { name: "path", expected, found: format!("{}, a file of {format}", path.display()) })
}

/// Writes parameters and metadata to a file atomically.
pub(crate) fn save(params: &[(String, Param)], metadata: HashMap<String, String>, path: &Path) -> Result<()> {
    let tensors = params.iter().map(|(name, param)| (name.clone(), param.variable().as_detached_tensor()));
    save_tensors(tensors.collect(), metadata, path)
}

/// Like [`save`], for tensors.
pub(crate) fn save_tensors(
    tensors: Vec<(String, Tensor)>,
    metadata: HashMap<String, String>,
    path: &Path,
) -> Result<()> {
    let tensors: Vec<(String, Tensor)> = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
        .collect::<Result<_>>()?;
    write_whole_with(path, |temporary| {
        let metadata = (!metadata.is_empty()).then_some(metadata);
        safetensors::serialize_to_file(tensors, metadata, temporary).map_err(std::io::Error::other)
    })
}
