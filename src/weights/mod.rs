//! Where a network's weights come from, and putting them in their places.

mod flattened;
mod formats;
mod hub;
mod keras;
mod keras_names;
mod manifest;
mod mismatch;
mod pieces;
mod state_dict;
mod stored;
mod surplus;
mod zip;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use self::mismatch::Wrong;
use crate::data::SOURCES;
use crate::models::{Labels, Preprocessing, TensorStems};
use crate::nn::{Model, Param};
use crate::{Error, Result};

pub use hub::Hub;
pub use manifest::{Pretrained, named, pretrained};
pub(crate) use stored::{OPTIMIZER, read_about, save, save_tensors};

/// Where a network's weights come from.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Small ones that come with the library: the network at a quarter of its width, for pictures
    /// of 64 by 64, trained to tell apart what [`SOURCES`] draws. They need no network connection,
    /// and have never seen a cat or a dog.
    Demo,
    /// Those that Keras means by `weights='imagenet'`: trained on ImageNet's 1.2 million
    /// photographs, fetched once from the Hugging Face Hub.
    ImageNet,
    /// Others that are known by name, such as `resnet50.a1_in1k`; [`pretrained`] lists them.
    Named(String),
    /// Drawn from a seed, as Keras draws them: the beginning of training from scratch.
    Random(u64),
    /// A `.safetensors` file, or a `.pth` file of PyTorch's, with torchvision's or timm's names, or as
    /// [`Model::save_weights`] wrote it; or a `.h5`, `.weights.h5` or `.keras` file of Keras's. Of a checkpoint the
    /// model's tensors are taken (`state_dict`, `model`, …), and prefixes such as `module.` are removed.
    File(PathBuf),
    /// Tensors at hand, with the names of such a file.
    Tensors(HashMap<String, Tensor>),
}

impl Weights {
    /// The weights in a file.
    pub fn file(path: impl AsRef<Path>) -> Weights {
        Weights::File(path.as_ref().to_owned())
    }

    /// What a network is that the user says nothing else of.
    pub(crate) fn usual(&self) -> Usual {
        match self {
            Weights::Demo => Usual { side: 64, classes: SOURCES.len(), alpha: 0.25 },
            _ => Usual { side: 224, classes: 1000, alpha: 1.0 },
        }
    }

    /// Whether they were written by Keras.
    pub(crate) fn is_keras(&self) -> Result<bool> {
        match self {
            Weights::File(path) => formats::is_keras(path),
            _ => Ok(false),
        }
    }

    /// How they want their pictures, if they differ from what is usual for the network.
    pub(crate) fn preprocessing(&self, network: &str) -> Result<Option<Preprocessing>> {
        match self {
            Weights::ImageNet | Weights::Named(_) => Ok(Some(self.known(network)?.preprocessing())),
            Weights::File(path) => formats::preprocessing(path, network),
            _ => Ok(None),
        }
    }

    /// What a top of so many outputs says.
    pub(crate) fn labels(&self, classes: usize) -> Option<Labels> {
        match (self, classes) {
            (Weights::Random(_), _) => None,
            (Weights::Demo, _) => Some(Labels::Drawn),
            (_, 1000) => Some(Labels::ImageNet),
            _ => None,
        }
    }

    /// What the manifest says of them.
    fn known(&self, network: &str) -> Result<&'static Pretrained> {
        match self {
            Weights::Named(name) => {
                let known = named(name)?;
                match known.network == network {
                    true => Ok(known),
                    false => {
                        let expected = format!("weights for {network}");
                        let found = format!("{name}, which are for {}", known.network);
                        Err(Error::Argument { name: "pretrained weights", expected, found })
                    }
                }
            }
            _ => manifest::of_network(network),
        }
    }
}

/// The tensors in a `.safetensors`, `.pth` or `.h5` file, by their names.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened; [`Error::Weights`] if it is none of these, or damaged.
pub fn read_file(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    formats::read(path.as_ref(), "any network")
}

/// A network's sizes, which depend on the weights where the user does not say.
pub(crate) struct Usual {
    pub(crate) side: usize,
    pub(crate) classes: usize,
    pub(crate) alpha: f64,
}

/// Fills a model in; the weights stay as they were unless every tensor fits, and has a place in the model or in the
/// layers of its top that were left out.
pub(crate) fn fill(
    model: &Model,
    stems: &[TensorStems],
    omitted: &[TensorStems],
    demo: Option<&[u8]>,
    weights: &Weights,
) -> Result<()> {
    let network = model.name();
    let (tensors, place) = match weights {
        Weights::Random(_) => return Ok(()),
        Weights::Demo => {
            let (expected, found) = ("one of vgg16, resnet50".into(), network.to_owned());
            let none = Error::Argument { name: "a network with demo weights", expected, found };
            (
                candle_core::safetensors::load_buffer(demo.ok_or(none)?, &Device::Cpu)?,
                "the demo weights".into(),
            )
        }
        Weights::Tensors(tensors) => (tensors.clone(), "the given tensors".into()),
        Weights::File(path) => (formats::read_for(path, model)?, path.clone()),
        Weights::ImageNet | Weights::Named(_) => {
            let path = Hub::from_environment()?.fetch(weights.known(network)?)?;
            (formats::read(&path, network)?, path)
        }
    };
    assign(model, stems, omitted, &tensors, &place)
}

fn assign(
    model: &Model,
    stems: &[TensorStems],
    omitted: &[TensorStems],
    tensors: &HashMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    let layers: HashMap<String, _> = model.layers().into_iter().collect();
    let mut found = Vec::new();
    let mut used = HashSet::new();
    let mut problems = Vec::new();
    let mut wrong = Vec::new();
    for TensorStems { layer, stems } in stems {
        for param in layers[layer].params() {
            let name = format!("{}.{}", stems[0], suffix(&param));
            let others = stems[1..].iter().map(|stem| format!("{stem}.{}", suffix(&param)));
            let own = format!("{layer}/{}", param.name());
            let names = std::iter::once(name.clone()).chain(others).chain([own]);
            let tensor = names.into_iter().find_map(|name| tensors.get_key_value(&name));
            used.extend(tensor.map(|(name, _)| name.clone()));
            let tensor = tensor.map(|(_, tensor)| tensor);
            let fitted = tensor.map(|tensor| fit(tensor, &param));
            if !matches!(fitted, Some(Ok(_))) {
                let found = tensor.map(|tensor| tensor.dims().to_vec());
                let expected = param.variable().dims().to_vec();
                wrong.push(Wrong { layer: layer.clone(), found, expected });
            }
            match fitted {
                Some(Ok(value)) => found.push((param, value)),
                Some(Err(problem)) => problems.push(format!("`{name}` ({layer}): {problem}")),
                None => problems.push(format!(
                    "`{name}` ({layer}) is missing: expected shape {:?}",
                    param.variable().dims()
                )),
            }
        }
    }
    if problems.is_empty() {
        if let Some(problem) = surplus::problem(tensors, &used, omitted) {
            return Err(Error::weights(path, model.name(), vec![problem]));
        }
        return found.iter().try_for_each(|(param, value)| param.set(value));
    }
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let shown = names[..names.len().min(4)].join(", ");
    problems.push(format!("there are {} tensors: {shown}, …", names.len()));
    if let Some(hint) = mismatch::hint(&wrong, tensors) {
        problems = vec![hint];
    }
    Err(Error::weights(path, model.name(), problems))
}

/// The tensor in the parameter's shape; a dense layer may be written as a convolution, as timm does.
fn fit(tensor: &Tensor, param: &Param) -> Result<Tensor, String> {
    let expected = param.variable().dims();
    let same_rows = tensor.dims().first() == expected.first();
    if tensor.dims() == expected {
        Ok(tensor.clone())
    } else if same_rows && expected.len() == 2 && tensor.elem_count() == param.count() {
        tensor.reshape(expected).map_err(|error| error.to_string())
    } else {
        Err(format!("expected shape {expected:?}, found {:?}", tensor.dims()))
    }
}

/// What PyTorch calls Keras's parameter.
fn suffix(param: &Param) -> &str {
    match param.name() {
        "kernel" | "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        other => other,
    }
}
