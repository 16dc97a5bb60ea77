//! Weights of any repository in timm's form: `model.safetensors`, and `config.json` with the preprocessing.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Hub, Pretrained};
use crate::{Error, Result};

/// Name of the file that describes the weights.
const CONFIG: &str = "config.json";
/// Names of the files with the weights.
const FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Largest accepted description (1 MiB: timm's have a few kilobytes).
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// A repository on the Hub, or a folder with its files.
pub(super) struct Repository {
    pub(super) pretrained: Pretrained,
    folder: Option<PathBuf>,
}

impl Repository {
    /// Reads the description of a repository. `name` is the path of a folder, or owner and name on the Hub.
    pub(super) fn open(name: &str, network: &str) -> Result<Repository> {
        let folder = Path::new(name);
        let repository = if folder.is_dir() {
            let pretrained = read(&folder.join(CONFIG), name)?;
            Repository { pretrained, folder: Some(folder.to_owned()) }
        } else {
            Repository { pretrained: Hub::from_environment()?.describe(name)?, folder: None }
        };
        let found = &repository.pretrained.network;
        if plain(found) != plain(network) {
            let (expected, found) =
                (format!("weights for {network}"), format!("{name}, which are for {found}"));
            return Err(Error::Argument { name: "pretrained weights", expected, found });
        }
        Ok(repository)
    }

    /// The repository that a weight file is in, if it has the name of one and a description for this network beside it.
    pub(super) fn beside(file: &Path, network: &str) -> Result<Option<Repository>> {
        #[derive(Deserialize)]
        struct Architecture {
            architecture: String,
        }
        let is_weights = FILES.iter().any(|name| file.file_name().is_some_and(|found| found == *name));
        let Some(folder) = file.parent().filter(|_| is_weights) else { return Ok(None) };
        let path = folder.join(CONFIG);
        if !path.metadata().is_ok_and(|file| file.is_file() && file.len() <= MAX_CONFIG_BYTES) {
            return Ok(None);
        }
        // Other programs write files of this name too.
        let text = std::fs::read(&path).map_err(Error::io(&path))?;
        let found = serde_json::from_slice::<Architecture>(&text).ok();
        if found.is_none_or(|found| plain(&found.architecture) != plain(network)) {
            return Ok(None);
        }
        let pretrained = read(&path, &folder.to_string_lossy())?;
        Ok(Some(Repository { pretrained, folder: Some(folder.to_owned()) }))
    }

    /// Path of the weights, after downloading them if necessary.
    pub(super) fn file(&self) -> Result<PathBuf> {
        let Some(folder) = &self.folder else { return Hub::from_environment()?.fetch(&self.pretrained) };
        let files = FILES.map(|file| folder.join(file));
        let found = files.iter().find(|file| file.is_file()).cloned();
        found.ok_or_else(|| {
            let problem = "expected a file model.safetensors or pytorch_model.bin, found neither".into();
            Error::weights(folder, &self.pretrained.network, vec![problem])
        })
    }
}

/// The name of an architecture without TensorFlow's prefix and the image size. Networks that differ only in these
/// have the same tensors.
pub(super) fn plain(network: &str) -> &str {
    let name = network.strip_prefix("tf_").unwrap_or(network);
    match name.rsplit_once('_') {
        Some((start, size)) if size.len() == 3 && size.parse::<usize>().is_ok() && name.contains("patch") => {
            start
        }
        _ => name,
    }
}

impl Hub {
    /// Describes the weights of a repository in timm's form, by its `config.json`, which is downloaded once.
    ///
    /// # Errors
    /// [`Error::Argument`] if `repository` is not an owner and a name; [`Error::Weights`] if the description is
    /// incomplete; otherwise as for [`Hub::fetch`].
    pub fn describe(&self, repository: &str) -> Result<Pretrained> {
        let is_part = |part: &str| {
            let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part != "." && part != ".." && part.chars().all(is_safe)
        };
        if !repository.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name)) {
            let expected = "owner and name of a repository, such as timm/resnet18.a1_in1k, or a folder";
            let found = repository.to_owned();
            return Err(Error::Argument { name: "repository", expected: expected.into(), found });
        }
        let config = Pretrained { file: CONFIG.into(), ..Pretrained::of_repository(repository) };
        read(&self.fetch(&config)?, repository)
    }
}

/// The part of `config.json` that is read here. Older files have the preprocessing beside the architecture.
#[derive(Deserialize)]
struct Config {
    architecture: String,
    num_classes: Option<usize>,
    pretrained_cfg: Option<Value>,
    #[serde(flatten)]
    others: Value,
}

#[derive(Deserialize)]
struct Preprocess {
    mean: [f32; 3],
    std: [f32; 3],
    input_size: [usize; 3],
    interpolation: Option<String>,
    crop_pct: Option<f32>,
    crop_mode: Option<String>,
    license: Option<String>,
}

fn read(path: &Path, repository: &str) -> Result<Pretrained> {
    let size = path.metadata().map_err(Error::io(path))?.len();
    let refuse = |problem: String| Error::weights(path, "any network of timm", vec![problem]);
    if size > MAX_CONFIG_BYTES {
        return Err(refuse(format!("expected a description of a few kilobytes, found {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let expected = "expected timm's `config.json`, with `architecture` and `pretrained_cfg`";
    let config: Config =
        serde_json::from_str(&text).map_err(|error| refuse(format!("{expected}; found: {error}")))?;
    let preprocess: Preprocess = serde_json::from_value(config.pretrained_cfg.unwrap_or(config.others))
        .map_err(|error| refuse(format!("{expected}, with mean, std and input_size; found: {error}")))?;
    let Preprocess { mean, std, input_size: [channels, height, width], .. } = preprocess;
    let is_positive = |value: &f32| value.is_finite() && *value > 0.0;
    if channels != 3 || height != width || !std.iter().all(is_positive) || !mean.iter().all(|v| v.is_finite())
    {
        let found = format!("input_size {:?}, mean {mean:?}, std {std:?}", [channels, height, width]);
        return Err(refuse(format!("expected square RGB images and positive deviations, found {found}")));
    }
    Ok(Pretrained {
        network: config.architecture,
        licence: preprocess.license.unwrap_or_else(|| "not stated".into()),
        classes: config.num_classes,
        side: Some(height),
        interpolation: preprocess.interpolation,
        crop: preprocess.crop_pct,
        crop_mode: preprocess.crop_mode,
        mean,
        deviation: std,
        ..Pretrained::of_repository(repository)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_differ_in_the_size_of_images_are_equal() {
        assert_eq!(plain("vit_small_patch16_384"), plain("vit_small_patch16_224"));
        assert_eq!(plain("tf_efficientnet_lite0"), "efficientnet_lite0");
        assert_ne!(plain("regnety_002"), plain("regnety_004"));
        assert_ne!(plain("vit_small_patch16_224"), plain("vit_tiny_patch16_224"));
    }
}
