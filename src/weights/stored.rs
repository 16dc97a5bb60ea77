//! A model's own weights in a file: Keras's `save_weights` and `load_weights`, as `.safetensors`.
//!
//! A tensor's name is the way to it: `vgg16/block1_conv1/kernel`, models inside first.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::formats;
use crate::data::write_whole_with;
use crate::nn::{Model, Param};
use crate::{Error, Result};

/// Before the names of what an optimizer remembers, in a file with the weights.
pub(crate) const OPTIMIZER: &str = "optimizer/";

impl Model {
    /// Writes every weight and statistic into a `.safetensors` file, whole or not at all.
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
    /// [`Error::Io`] if the file cannot be written.
    pub fn save_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        save(&self.named_params(), HashMap::new(), path.as_ref())
    }

    /// Puts back what [`Model::save_weights`] wrote of a model of the same form, or Keras's
    /// `save_weights` or `save` into a `.h5` file. The weights stay as they were unless every tensor
    /// fits.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Weights`] with the tensors that are
    /// missing, misshapen or of no use to this model.
    pub fn load_weights(&self, path: impl AsRef<Path>) -> Result<()> {
        self.load_weights_of(path.as_ref(), true)
    }

    /// The same for a file that need not hold every tensor, unless `all` are asked for.
    pub(crate) fn load_weights_of(&self, path: &Path, all: bool) -> Result<()> {
        let tensors = formats::read_for(path, self)?;
        let params = self.named_params();
        let mut problems = Vec::new();
        for (name, param) in &params {
            let expected = param.variable().dims();
            match tensors.get(name).map(Tensor::dims) {
                Some(found) if found == expected => {}
                Some(found) => {
                    problems.push(format!("`{name}`: expected shape {expected:?}, found {found:?}"))
                }
                None if all => problems.push(format!("`{name}` is missing: expected shape {expected:?}")),
                None => {}
            }
        }
        let mut unknown: Vec<&String> =
            tensors.keys().filter(|name| !params.iter().any(|(known, _)| known == *name)).collect();
        // What a saved model's optimizer remembers.
        unknown.retain(|name| !name.starts_with(OPTIMIZER));
        unknown.sort_unstable();
        problems.extend(unknown.iter().map(|name| format!("`{name}` is not in this model")));
        if !problems.is_empty() {
            return Err(Error::weights(path, self.name(), problems));
        }
        let found = params.iter().filter_map(|(name, param)| Some((tensors.get(name)?, param)));
        found.into_iter().try_for_each(|(tensor, param)| param.set(tensor))
    }

    /// Every parameter with the way to it.
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

/// What is read of a `.safetensors` file's header.
#[derive(serde::Deserialize)]
struct Header {
    #[serde(default, rename = "__metadata__")]
    about: HashMap<String, String>,
}

/// The words that [`save`] wrote about the parameters in a file.
pub(crate) fn read_about(path: &Path) -> Result<HashMap<String, String>> {
    let mut file = std::fs::File::open(path).map_err(Error::io(path))?;
    let whole = file.metadata().map_err(Error::io(path))?.len();
    let refuse = |problem: &str| Error::weights(path, "a saved model", vec![problem.to_owned()]);
    // The header's length, then the header.
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| refuse("the file is no .safetensors file"))?;
    let length = u64::from_le_bytes(length);
    if length > whole {
        return Err(refuse("the file is no .safetensors file, or damaged"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(Error::io(path))?;
    let header: Header = serde_json::from_slice(&header).map_err(|error| refuse(&error.to_string()))?;
    Ok(header.about)
}

/// Writes parameters, and words about them, into a file, whole or not at all.
pub(crate) fn save(params: &[(String, Param)], about: HashMap<String, String>, path: &Path) -> Result<()> {
    let tensors = params.iter().map(|(name, param)| (name.clone(), param.variable().as_detached_tensor()));
    save_tensors(tensors.collect(), about, path)
}

/// The same for tensors.
pub(crate) fn save_tensors(
    tensors: Vec<(String, Tensor)>,
    about: HashMap<String, String>,
    path: &Path,
) -> Result<()> {
    let tensors: Vec<(String, Tensor)> = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?)))
        .collect::<Result<_>>()?;
    write_whole_with(path, |temporary| {
        let about = (!about.is_empty()).then_some(about);
        safetensors::serialize_to_file(tensors, about, temporary).map_err(std::io::Error::other)
    })
}
