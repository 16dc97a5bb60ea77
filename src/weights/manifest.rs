//! Pretrained weights with a name, listed in `weights/manifest.toml`.

use std::sync::OnceLock;

use serde::Deserialize;

use crate::nn::{Preprocessing, Resizing};
use crate::{Error, Result};

const MANIFEST: &str = include_str!("../../weights/manifest.toml");

/// A file of pretrained weights on the Hub.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrained {
    /// Name of the weights: `resnet50.tv_in1k`.
    pub name: String,
    /// Name of their network: `resnet50`.
    pub network: String,
    /// Whether [`Weights::ImageNet`](super::Weights::ImageNet) selects them.
    #[serde(default)]
    pub default: bool,
    /// Repository on the Hub: owner and name.
    pub repository: String,
    /// Commit. `None`: the newest one at the first download.
    pub revision: Option<String>,
    /// Name of the file in the repository.
    pub file: String,
    /// SHA-256 of the file. `None`: the hash of the first download.
    pub sha256: Option<String>,
    /// Size of the file in megabytes (10⁶ bytes).
    pub megabytes: f64,
    /// Licence of the weights.
    pub licence: String,
    /// Top-1 accuracy on ImageNet's validation images, in percent; 0 if unknown.
    pub top1: f64,
    /// Number of classes of the top. `None`: not stated.
    #[serde(default)]
    pub classes: Option<usize>,
    /// Height and width of the training images. `None`: not stated.
    #[serde(default)]
    pub side: Option<usize>,
    /// Interpolation with which the training images were resized. `None`: not stated.
    #[serde(default)]
    pub interpolation: Option<String>,
    /// Fraction of a resized image's side that is kept by cropping. `None`: not stated.
    #[serde(default)]
    pub crop: Option<f32>,
    /// How the aspect ratio is treated: timm's `crop_mode`. `None`: the centre is cropped.
    #[serde(default)]
    pub crop_mode: Option<String>,
    pub(super) mean: [f32; 3],
    pub(super) deviation: [f32; 3],
}

impl Pretrained {
    /// The newest `model.safetensors` of a repository, of which nothing else is known.
    pub(super) fn of_repository(repository: &str) -> Pretrained {
        Pretrained {
            name: repository.rsplit('/').next().unwrap_or_default().to_owned(),
            network: String::new(),
            default: false,
            repository: repository.to_owned(),
            revision: None,
            file: "model.safetensors".into(),
            sha256: None,
            megabytes: 0.0,
            licence: String::new(),
            top1: 0.0,
            classes: None,
            side: None,
            interpolation: None,
            crop: None,
            crop_mode: None,
            mean: [0.0; 3],
            deviation: [1.0; 3],
        }
    }

    /// Preprocessing of images for these weights.
    pub fn preprocessing(&self) -> Preprocessing {
        let resizing = self.interpolation.as_deref().zip(self.crop).and_then(|(interpolation, crop)| {
            Resizing::from_timm(interpolation, crop, self.crop_mode.as_deref().unwrap_or("center"))
        });
        Preprocessing::standardize(self.mean, self.deviation).with_resizing(resizing)
    }
}

#[derive(Deserialize)]
struct Manifest {
    weights: Vec<Pretrained>,
}

/// All pretrained weights that have a name.
pub fn pretrained() -> &'static [Pretrained] {
    static ALL: OnceLock<Vec<Pretrained>> = OnceLock::new();
    ALL.get_or_init(|| toml::from_str::<Manifest>(MANIFEST).expect("tests read the manifest").weights)
}

/// Returns the weights with this name.
///
/// # Errors
/// [`Error::Argument`], which lists the known names.
pub fn named(name: &str) -> Result<&'static Pretrained> {
    find(name, |known| known.name == name)
}

/// The weights that `Weights::ImageNet` selects for a network.
pub(super) fn of_network(network: &str) -> Result<&'static Pretrained> {
    find(network, |known| known.network == network && known.default)
}

fn find(wanted: &str, is_it: impl Fn(&Pretrained) -> bool) -> Result<&'static Pretrained> {
    pretrained().iter().find(|known| is_it(known)).ok_or_else(|| {
        let names: Vec<&str> = pretrained().iter().map(|known| known.name.as_str()).collect();
        let (expected, found) = (format!("one of {}", names.join(", ")), wanted.to_owned());
        Error::Argument { name: "pretrained weights", expected, found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_entries_are_complete() {
        for entry in pretrained() {
            assert!(entry.revision.as_ref().is_none_or(|commit| commit.len() == 40), "{}", entry.name);
            assert!(entry.sha256.as_ref().is_none_or(|hash| hash.len() == 64), "{}", entry.name);
            assert!(entry.repository.split('/').count() == 2 && entry.megabytes > 1.0 && entry.top1 > 50.0);
            assert_eq!(named(&entry.name).unwrap().repository, entry.repository);
            assert!(of_network(&entry.network).is_ok(), "{} has no default", entry.network);
        }
        let problem = named("vgg61").unwrap_err().to_string();
        assert!(problem.contains("vgg61") && problem.contains("resnet50.a1_in1k"), "{problem}");
    }
}
