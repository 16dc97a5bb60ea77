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
mod tensor_names;
mod zip;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use self::formats::WeightFile;
use self::mismatch::{Skipped, Wrong};
use crate::data::SOURCES;
use crate::nn::{Labels, Model, Param, Preprocessing};
use crate::{Error, Result};

pub use hub::Hub;
pub use manifest::{Pretrained, named, pretrained};
pub(crate) use stored::{OPTIMIZER, read_about, save, save_tensors};
pub(crate) use tensor_names::TensorStems;

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
    pub(crate) fn defaults(&self) -> Defaults {
        match self {
            Weights::Demo => Defaults { side: 64, classes: SOURCES.len(), alpha: 0.25 },
            _ => Defaults { side: 224, classes: 1000, alpha: 1.0 },
        }
    }

    /// Opens the file that they are in, if they are in one of the user's.
    pub(crate) fn open(&self, network: &str) -> Result<OpenWeights> {
        let file = match self {
            Weights::File(path) => Some(WeightFile::open(path, network)?),
            _ => None,
        };
        Ok(OpenWeights { weights: self.clone(), file })
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

/// Weights whose file is open.
pub(crate) struct OpenWeights {
    weights: Weights,
    file: Option<WeightFile>,
}

impl OpenWeights {
    /// Whether Keras wrote them.
    pub(crate) fn is_keras(&self) -> bool {
        self.file.as_ref().is_some_and(WeightFile::is_keras)
    }

    /// How they want their images, if they differ from what is usual for the network.
    pub(crate) fn preprocessing(&self, network: &str) -> Result<Option<Preprocessing>> {
        match (&self.weights, &self.file) {
            (Weights::ImageNet | Weights::Named(_), _) => {
                Ok(Some(self.weights.known(network)?.preprocessing()))
            }
            (_, Some(file)) => file.preprocessing(),
            _ => Ok(None),
        }
    }

    /// The tensors for a model, and the place that they are from; `None` for random weights.
    fn read(&self, model: &Model, demo: Option<&[u8]>) -> Result<Option<(HashMap<String, Tensor>, PathBuf)>> {
        let network = model.name();
        Ok(Some(match (&self.weights, &self.file) {
            (_, Some(file)) => (file.read_for(model)?, file.path().to_owned()),
            (Weights::Random(_) | Weights::File(_), None) => return Ok(None),
            (Weights::Demo, _) => {
                let (expected, found) = ("one of vgg16, resnet50".into(), network.to_owned());
                let none = Error::Argument { name: "a network with demo weights", expected, found };
                let tensors = candle_core::safetensors::load_buffer(demo.ok_or(none)?, &Device::Cpu)?;
                (tensors, "the demo weights".into())
            }
            (Weights::Tensors(tensors), _) => (tensors.clone(), "the given tensors".into()),
            (Weights::ImageNet | Weights::Named(_), _) => {
                let path = Hub::from_environment()?.fetch(self.weights.known(network)?)?;
                (WeightFile::open(&path, network)?.read()?, path)
            }
        }))
    }
}

/// The tensors in a `.safetensors`, `.pth`, `.h5` or `.keras` file, by their names.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened; [`Error::Weights`] if it is none of these, or damaged.
pub fn read_file(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    WeightFile::open(path.as_ref(), "any network")?.read()
}

/// A network's sizes, which depend on the weights where the user does not say.
pub(crate) struct Defaults {
    pub(crate) side: usize,
    pub(crate) classes: usize,
    pub(crate) alpha: f64,
}

/// Where the tensors of a network belong.
pub(crate) struct Places {
    /// The network's layers.
    pub(crate) stems: Vec<TensorStems>,
    /// The layers of its top that were left out.
    pub(crate) omitted: Vec<TensorStems>,
}

/// Fills a model in. The weights stay as they were unless every tensor fits and has a place in the model or in the omitted
/// layers of its top. With `skip_mismatch` the layers that do not fit are skipped, and printed.
pub(crate) fn fill(
    model: &Model,
    places: &Places,
    demo: Option<&[u8]>,
    weights: &OpenWeights,
    skip_mismatch: bool,
) -> Result<()> {
    let Some((tensors, path)) = weights.read(model, demo)? else { return Ok(()) };
    let Assignment { found, used, wrong } = assign(model, &places.stems, &tensors);
    let surplus = surplus::problem(&tensors, &used, &places.omitted);
    if skip_mismatch {
        let mut skipped: Vec<Skipped> =
            wrong.into_iter().map(|Wrong { layer, problem, .. }| Skipped { layer, problem }).collect();
        skipped.extend(surplus.map(|problem| Skipped { layer: String::new(), problem }));
        let found = found.into_iter().map(|Found { layer, param, value }| (layer, param, value));
        return mismatch::set_others(found.collect(), &skipped, model, &path);
    }
    if wrong.is_empty() {
        return match surplus {
            Some(problem) => Err(Error::weights(&path, model.name(), vec![problem])),
            None => found.iter().try_for_each(|found| found.param.set(&found.value)),
        };
    }
    let problems = match mismatch::hint(&wrong, &tensors) {
        Some(hint) => vec![hint],
        None => {
            let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
            names.sort_unstable();
            let shown = names[..names.len().min(4)].join(", ");
            let all = format!("there are {} tensors: {shown}, …", names.len());
            wrong.into_iter().map(|wrong| wrong.problem).chain([all]).collect()
        }
    };
    Err(Error::weights(&path, model.name(), problems))
}

/// Which tensor belongs to which parameter.
struct Assignment {
    found: Vec<Found>,
    /// The names of the tensors that belong to a parameter.
    used: HashSet<String>,
    wrong: Vec<Wrong>,
}

/// A parameter with its value in a file.
struct Found {
    layer: String,
    param: Param,
    value: Tensor,
}

fn assign(model: &Model, stems: &[TensorStems], tensors: &HashMap<String, Tensor>) -> Assignment {
    let layers: HashMap<String, _> = model.layers().into_iter().collect();
    let mut assignment = Assignment { found: Vec::new(), used: HashSet::new(), wrong: Vec::new() };
    for TensorStems { layer, stems } in stems {
        for param in layers[layer].params() {
            let name = format!("{}.{}", stems[0], suffix(&param));
            let others = stems[1..].iter().map(|stem| format!("{stem}.{}", suffix(&param)));
            let own = format!("{layer}/{}", param.name());
            let names = std::iter::once(name.clone()).chain(others).chain([own]);
            let tensor = names.into_iter().find_map(|name| tensors.get_key_value(&name));
            assignment.used.extend(tensor.map(|(name, _)| name.clone()));
            let tensor = tensor.map(|(_, tensor)| tensor);
            let expected = param.variable().dims().to_vec();
            let problem = match tensor.map(|tensor| fit(tensor, &param)) {
                Some(Ok(value)) => {
                    assignment.found.push(Found { layer: layer.clone(), param, value });
                    continue;
                }
                Some(Err(problem)) => format!("`{name}` ({layer}): {problem}"),
                None => format!("`{name}` ({layer}) is missing: expected shape {expected:?}"),
            };
            let found = tensor.map(|tensor| tensor.dims().to_vec());
            assignment.wrong.push(Wrong { layer: layer.clone(), found, expected, problem });
        }
    }
    assignment
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
