//! Where a network's weights come from, and putting them in their places.

mod stored;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::models::TensorStem;
use crate::nn::{Model, Param};
use crate::{Error, Result};

pub(crate) use stored::save;

/// Where a network's weights come from.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Drawn from a seed, as Keras draws them: the beginning of training from scratch.
    Random(u64),
    /// A `.safetensors` file with torchvision's or timm's names.
    File(PathBuf),
    /// Tensors at hand, with the names of such a file.
    Tensors(HashMap<String, Tensor>),
}

impl Weights {
    /// The weights in a `.safetensors` file.
    pub fn file(path: impl AsRef<Path>) -> Weights {
        Weights::File(path.as_ref().to_owned())
    }
}

/// Fills a model in; the weights stay as they were unless every tensor fits.
pub(crate) fn fill(
    model: &Model,
    stems: &[TensorStem],
    aliases: &[(&str, &str)],
    weights: &Weights,
) -> Result<()> {
    match weights {
        Weights::Random(_) => Ok(()),
        Weights::Tensors(tensors) => assign(model, stems, aliases, tensors, Path::new("the given tensors")),
        Weights::File(path) => assign(model, stems, aliases, &tensors_in(path, model.name())?, path),
    }
}

/// The tensors in a `.safetensors` file that is meant for a network.
fn tensors_in(path: &Path, network: &str) -> Result<HashMap<String, Tensor>> {
    // Opened first, so that a missing file is told by its name.
    std::fs::File::open(path).map_err(Error::io(path))?;
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| {
        let problem = format!("expected a .safetensors file, found something else: {error}");
        Error::weights(path, network, vec![problem])
    })
}

fn assign(
    model: &Model,
    stems: &[TensorStem],
    aliases: &[(&str, &str)],
    tensors: &HashMap<String, Tensor>,
    path: &Path,
) -> Result<()> {
    let layers: HashMap<String, _> = model.layers().into_iter().collect();
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for TensorStem { layer, stem } in stems {
        let alias = aliases.iter().find(|(ours, _)| ours == stem).map(|(_, theirs)| *theirs);
        for param in layers[layer].params() {
            let name = |stem: &str| format!("{stem}.{}", suffix(&param));
            let tensor = tensors.get(&name(stem)).or_else(|| tensors.get(&name(alias?)));
            match tensor.map(|tensor| fit(tensor, &param)) {
                Some(Ok(value)) => found.push((param, value)),
                Some(Err(problem)) => problems.push(format!("`{}` ({layer}): {problem}", name(stem))),
                None => problems.push(format!(
                    "`{}` ({layer}) is missing: expected shape {:?}",
                    name(stem),
                    param.var().dims()
                )),
            }
        }
    }
    if problems.is_empty() {
        return found.iter().try_for_each(|(param, value)| param.set(value));
    }
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let shown = names[..names.len().min(4)].join(", ");
    problems.push(format!("there are {} tensors: {shown}, …", names.len()));
    Err(Error::weights(path, model.name(), problems))
}

/// The tensor in the parameter's shape; a dense layer may be written as a convolution, as timm does.
fn fit(tensor: &Tensor, param: &Param) -> Result<Tensor, String> {
    let expected = param.var().dims();
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
