//! Sources of a network's weights, and loading them.

mod flattened;
mod formats;
mod header;
mod hub;
mod keras;
mod keras_names;
mod manifest;
mod mismatch;
mod origin;
mod pickle;
mod pieces;
mod positions;
mod prefix;
mod repository;
mod state_dict;
mod stored;
mod surplus;
mod tensor_names;
mod torch_tensor;
mod zip;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use self::formats::WeightFile;
use self::mismatch::{Mismatch, Skipped};
use self::repository::Repository;
use crate::data::SOURCES;
use crate::nn::{Labels, Model, Param, Preprocessing};
use crate::{Error, Result};

pub(crate) use header::read_metadata;
pub use hub::Hub;
pub use manifest::{Pretrained, named, pretrained};
pub(crate) use origin::network_metadata;
pub(crate) use stored::{OPTIMIZER, check_extension, save, save_tensors};
pub(crate) use tensor_names::TensorStems;

/// Source of a network's weights.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Small weights that are part of the library, for a network with a quarter of the channels and images of
    /// 64x64 pixels. They are trained to classify the drawings of [`SOURCES`]. They need no network connection.
    /// Cats and dogs are not among their classes.
    Demo,
    /// Keras's `weights='imagenet'`: trained on ImageNet's 1.2 million photographs, downloaded once from the Hugging
    /// Face Hub. [`Weights::Named`] selects others: `Weights::named("resnet50.a1_in1k")` are more accurate weights of
    /// ResNet50.
    ImageNet,
    /// Other weights by timm's name, such as `resnet50.a1_in1k`. Those that [`pretrained`] lists are verified by their
    /// hash; others are those of the repository `timm/NAME` on the Hub, as with [`Weights::Hub`].
    Named(String),
    /// Weights of a repository on the Hub in timm's form, by owner and name, such as `timm/convnext_tiny.in12k`; or of
    /// a folder with such a repository's files. The preprocessing, the size of the images and the number of classes are
    /// those of its `config.json`.
    Hub(String),
    /// Random weights from this seed, with Keras's initializers, to train from scratch.
    Random(u64),
    /// A weight file: `.safetensors` or PyTorch's `.pth`, with the names of torchvision, timm or
    /// [`Model::save_weights`]; or Keras's `.h5`, `.weights.h5` or `.keras`. The model's tensors are taken out of a
    /// checkpoint (`state_dict`, `model`, …), and prefixes such as `module.` are removed. A `config.json` of the same
    /// network beside a `model.safetensors` or `pytorch_model.bin` is read as with [`Weights::Hub`].
    File(PathBuf),
    /// Tensors in memory, named as in such a file.
    Tensors(HashMap<String, Tensor>),
}

impl Weights {
    /// Weights from a file.
    pub fn file(path: impl AsRef<Path>) -> Weights {
        Weights::File(path.as_ref().to_owned())
    }

    /// Weights by timm's name: see [`Weights::Named`].
    pub fn named(name: &str) -> Weights {
        Weights::Named(name.to_owned())
    }

    /// Weights of a repository on the Hub, or of a folder: see [`Weights::Hub`].
    pub fn hub(repository: &str) -> Weights {
        Weights::Hub(repository.to_owned())
    }

    /// Opens the weight file, for [`Weights::File`].
    pub(crate) fn open(&self, network: &str) -> Result<OpenWeights> {
        let file = match self {
            Weights::File(path) => Some(WeightFile::open(path, network)?),
            _ => None,
        };
        let repository = match self {
            Weights::File(path) if !file.as_ref().map_or(Ok(true), WeightFile::has_description)? => {
                Repository::beside(path, network)?
            }
            Weights::Hub(repository) => Some(Repository::open(repository, network)?),
            Weights::Named(name) if named(name).is_err() && is_name_for(name, network) => {
                Some(Repository::open(&format!("timm/{name}"), network)?)
            }
            _ => None,
        };
        Ok(OpenWeights { weights: self.clone(), file, repository })
    }

    /// Class labels of a top with this number of outputs, if known.
    pub(crate) fn labels(&self, classes: usize) -> Option<Labels> {
        match (self, classes) {
            (Weights::Random(_), _) => None,
            (Weights::Demo, _) => Some(Labels::Drawn),
            (_, 1000) => Some(Labels::ImageNet),
            _ => None,
        }
    }

    /// Entry of the manifest.
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

/// Whether a name such as `convnext_tiny.in12k` begins with the network's.
fn is_name_for(name: &str, network: &str) -> bool {
    name.split_once('.').is_some_and(|(architecture, tag)| {
        repository::plain(architecture) == repository::plain(network) && !tag.is_empty()
    })
}

/// The format of a weight file, by its content: `.safetensors`, `.pth`, `.h5` or `.keras`.
pub(crate) fn format_of(path: &Path) -> Result<&'static str> {
    Ok(WeightFile::open(path, "a saved model")?.format())
}

/// Weights with an open file.
pub(crate) struct OpenWeights {
    weights: Weights,
    file: Option<WeightFile>,
    /// The repository, unless the manifest lists the weights.
    repository: Option<Repository>,
}

impl OpenWeights {
    /// timm's name of the network that the weights were published for. `None`: they were not published, as those of a
    /// file.
    pub(crate) fn published_for(&self, network: &str) -> Result<Option<&str>> {
        if let Some(repository) = &self.repository {
            return Ok(Some(&repository.pretrained.network));
        }
        match self.weights {
            Weights::ImageNet | Weights::Named(_) => Ok(self.weights.known(network)?.name.split('.').next()),
            _ => Ok(None),
        }
    }

    /// The path of a file from PyTorch or in safetensors that has no metadata about its network, also not beside it.
    pub(crate) fn path_without_origin(&self) -> Result<Option<&Path>> {
        match &self.file {
            Some(file) if self.repository.is_none() && !file.has_description()? => Ok(Some(file.path())),
            _ => Ok(None),
        }
    }

    /// Whether the file's network has the form of Keras's.
    pub(crate) fn has_form_of_keras(&self, network: &str) -> Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        if file.has_description()? {
            return file.has_form_of_keras();
        }
        // timm's names of files: `tf_efficientnet_b0_ns-c0e6a31c.pth`.
        let name = file.path().file_name().unwrap_or_default().to_string_lossy();
        Ok(name.starts_with(&format!("tf_{network}")))
    }

    /// Default sizes of a network with these weights.
    pub(crate) fn defaults(&self) -> Defaults {
        let pretrained = self.repository.as_ref().map(|repository| &repository.pretrained);
        match self.weights {
            Weights::Demo => Defaults { side: Some(64), classes: SOURCES.len(), alpha: 0.25 },
            _ => Defaults {
                side: pretrained.and_then(|pretrained| pretrained.side),
                classes: pretrained.and_then(|pretrained| pretrained.classes).unwrap_or(1000),
                alpha: 1.0,
            },
        }
    }

    /// Preprocessing of images, if it differs from the network's default.
    pub(crate) fn preprocessing(&self, network: &str) -> Result<Option<Preprocessing>> {
        if let Some(repository) = &self.repository {
            return Ok(Some(repository.pretrained.preprocessing()));
        }
        match (&self.weights, &self.file) {
            (Weights::ImageNet | Weights::Named(_), _) => {
                Ok(Some(self.weights.known(network)?.preprocessing()))
            }
            (_, Some(file)) => file.preprocessing(),
            _ => Ok(None),
        }
    }

    /// The tensors for a model, and the path that they come from; `None` for random weights.
    fn read(&self, model: &Model, demo: Option<&[u8]>) -> Result<Option<(HashMap<String, Tensor>, PathBuf)>> {
        let network = model.name();
        if let (Some(repository), None) = (&self.repository, &self.file) {
            let path = repository.file()?;
            return Ok(Some((WeightFile::open(&path, network)?.read()?, path)));
        }
        Ok(Some(match (&self.weights, &self.file) {
            (_, Some(file)) => (file.read_for(model)?, file.path().to_owned()),
            (Weights::Random(_) | Weights::File(_) | Weights::Hub(_), None) => return Ok(None),
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

/// Reads the tensors of a `.safetensors`, `.pth`, `.h5` or `.keras` file, by name.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened; [`Error::Weights`] if its format is unknown or it is damaged.
pub fn read_file(path: impl AsRef<Path>) -> Result<HashMap<String, Tensor>> {
    WeightFile::open(path.as_ref(), "any network")?.read()
}

/// Sizes of a network that depend on the weights if the user does not set them.
pub(crate) struct Defaults {
    /// `None`: the network's own.
    pub(crate) side: Option<usize>,
    pub(crate) classes: usize,
    pub(crate) alpha: f64,
}

/// Names of a network's tensors in files.
pub(crate) struct TensorNames {
    /// The network's layers.
    pub(crate) stems: Vec<TensorStems>,
    /// The layers of the omitted top.
    pub(crate) omitted: Vec<TensorStems>,
}

/// Loads a model's weights. Unless every tensor fits a parameter of the model or of its omitted top, the weights do not
/// change. With `skip_mismatch`, layers that do not fit are skipped and printed.
pub(crate) fn fill(
    model: &Model,
    names: &TensorNames,
    demo: Option<&[u8]>,
    weights: &OpenWeights,
    skip_mismatch: bool,
) -> Result<()> {
    let Some((tensors, path)) = weights.read(model, demo)? else { return Ok(()) };
    let tensors = prefix::without_prefix(tensors, &names.stems, &path);
    let Assignment { found, used, wrong } = assign(model, &names.stems, &tensors);
    let surplus = surplus::problem(&tensors, &used, &names.omitted);
    if skip_mismatch {
        let mut skipped: Vec<Skipped> =
            wrong.into_iter().map(|Mismatch { layer, problem, .. }| Skipped { layer, problem }).collect();
        skipped.extend(surplus.map(|problem| Skipped { layer: String::new(), problem }));
        let found = found.into_iter().map(|LoadedParam { layer, param, value }| (layer, param, value));
        return mismatch::set_others(found.collect(), &skipped, model, &path);
    }
    if wrong.is_empty() {
        return match surplus {
            Some(problem) => Err(Error::weights(&path, model.name(), vec![problem])),
            None => found.iter().try_for_each(|found| found.param.load(&found.value)),
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

/// Assignment of tensors to parameters.
struct Assignment {
    found: Vec<LoadedParam>,
    /// Names of the tensors that were assigned.
    used: HashSet<String>,
    wrong: Vec<Mismatch>,
}

/// A parameter and its value from a file.
struct LoadedParam {
    layer: String,
    param: Param,
    value: Tensor,
}

fn assign(model: &Model, stems: &[TensorStems], tensors: &HashMap<String, Tensor>) -> Assignment {
    let layers: HashMap<String, _> = model.layers().into_iter().collect();
    let mut assignment = Assignment { found: Vec::new(), used: HashSet::new(), wrong: Vec::new() };
    for TensorStems { layer, stems, grid } in stems {
        for param in layers[layer].params() {
            let name = format!("{}.{}", stems[0], suffix(&param));
            let others = stems[1..].iter().map(|stem| format!("{stem}.{}", suffix(&param)));
            let own = format!("{layer}/{}", param.name());
            // A parameter of a block without a layer of its own, such as `gamma`, is named by the stem alone.
            let names = std::iter::once(name.clone()).chain(others).chain(stems.clone()).chain([own]);
            let tensor = names.into_iter().find_map(|name| tensors.get_key_value(&name));
            assignment.used.extend(tensor.map(|(name, _)| name.clone()));
            let tensor = tensor.map(|(_, tensor)| tensor);
            let expected = param.variable().dims().to_vec();
            let problem = match tensor.map(|tensor| fit(tensor, &param, *grid)) {
                Some(Ok(value)) => {
                    assignment.found.push(LoadedParam { layer: layer.clone(), param, value });
                    continue;
                }
                Some(Err(problem)) => format!("`{name}` ({layer}): {problem}"),
                None => format!("`{name}` ({layer}) is missing: expected shape {expected:?}"),
            };
            let found = tensor.map(|tensor| tensor.dims().to_vec());
            assignment.wrong.push(Mismatch { layer: layer.clone(), found, expected, problem });
        }
    }
    assignment
}

/// Converts a tensor to the parameter's shape. A file may store a dense layer as a convolution or vice versa, an
/// embedding with a batch dimension, and positions for another grid.
fn fit(tensor: &Tensor, param: &Param, grid: Option<[usize; 2]>) -> Result<Tensor, String> {
    let expected = param.variable().dims();
    let without_ones = |dims: &[usize]| -> Vec<usize> { dims.iter().copied().filter(|n| *n != 1).collect() };
    let same_rows = tensor.dims().first() == expected.first();
    if tensor.dims() == expected {
        Ok(tensor.clone())
    } else if tensor.elem_count() == param.count()
        && (same_rows && expected.len() == 2 || without_ones(tensor.dims()) == without_ones(expected))
    {
        tensor.reshape(expected).map_err(|error| error.to_string())
    } else if let Some(grid) = grid {
        positions::resize(tensor, expected, grid)
    } else {
        Err(format!("expected shape {expected:?}, found {:?}", tensor.dims()))
    }
}

/// PyTorch's name of a parameter.
fn suffix(param: &Param) -> &str {
    match param.name() {
        "kernel" | "gamma" => "weight",
        "beta" => "bias",
        "moving_mean" => "running_mean",
        "moving_variance" => "running_var",
        "qkv_kernel" => "qkv.weight",
        "qkv_bias" => "qkv.bias",
        "output_kernel" => "proj.weight",
        "output_bias" => "proj.bias",
        other => other,
    }
}
