//! Features of image files, in a folder of parts.
//!
//! The folder holds `manifest.json` and one `.safetensors` file for each part of the images. A file has `features`
//! `[N, …]` (`f32`) and `labels` `[N]` (`u32`). Its metadata has the names of the image files.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::check::check_memory;
use crate::data::{Dataset, IntoDataset, Samples};
use crate::display::{Bundle, Show, text_bundle};
use crate::weights::{read_file, read_metadata};
use crate::{Error, Result, check_interrupt, device};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const FEATURES: &str = "features";
pub(super) const LABELS: &str = "labels";
/// Name of a part's metadata entry. There is only one, because the order of several would vary between files.
pub(super) const METADATA: &str = "part";
/// Number of images in a part. A multiple of the batch size, so that batches do not depend on the number of shards.
pub(super) const PART: usize = 512;

/// Description of a folder of features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// SHA-256 of the model, of the names and sizes of the image files, and of how they are decoded.
    pub(super) key: String,
    pub(super) model: String,
    pub(super) images: usize,
    pub(super) part: usize,
    /// Shape of the features of one image.
    pub(super) shape: Vec<usize>,
    pub(super) class_names: Vec<String>,
}

/// The metadata of a part, in JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct PartMetadata {
    /// The key of the manifest.
    pub(super) key: String,
    /// The image files.
    pub(super) files: Vec<PathBuf>,
}

impl Manifest {
    /// Reads the manifest of a folder; `None` if there is none.
    pub(super) fn read(folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join(MANIFEST);
        match std::fs::read(&path) {
            Ok(text) => match serde_json::from_slice::<Manifest>(&text) {
                Ok(manifest) if manifest.part > 0 => Ok(Some(manifest)),
                Ok(_) => Err(invalid(&path, "parts of 0 images")),
                Err(error) => Err(invalid(&path, &error.to_string())),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(path)(error)),
        }
    }

    pub(super) fn parts(&self) -> usize {
        self.images.div_ceil(self.part)
    }

    /// The images of a part: the number of the first one, and how many there are.
    pub(super) fn range(&self, part: usize) -> (usize, usize) {
        let first = part * self.part;
        (first, self.part.min(self.images.saturating_sub(first)))
    }
}

fn invalid(path: &Path, problem: &str) -> Error {
    let text = format!("expected the manifest of a folder of features, found {problem}");
    Error::io(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}

/// The file of a part.
pub(super) fn part_path(folder: &Path, part: usize) -> PathBuf {
    folder.join(format!("part-{part:05}.safetensors"))
}

/// Features of images, with their classes: the result of [`Model::extract_features`](crate::nn::Model::extract_features).
///
/// ```
/// use headstart::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&folder).unwrap();
/// # draw_demo_images("images", 5, 64, 1)?;
/// let base = ResNet50::new(Weights::Demo).include_top(false).pooling(Pooling::Avg).build()?;
/// let files = ImageFiles::from_directory("images", (64, 64))?;
/// base.extract_features(&files, "features", (0, 1))?;
/// let features = ImageFeatures::load("features")?;
/// assert_eq!(features.x.dims()[0], files.len());
/// # let width = features.x.dims()[1];
/// let mut head = sequential![Input::new(width), Dense::new(2).activation(Softmax)]?;
/// head.compile(Adam::default(), SparseCategoricalCrossentropy, [Accuracy]);
/// head.fit(&features, Fit::epochs(2))?;
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// The features, `[N, …]`, as `f32`.
    pub x: Tensor,
    /// The class number of each image, `[N]`, as `u32`.
    pub y: Tensor,
    /// The names of the classes, class 0 first.
    pub class_names: Vec<String>,
    /// The file of each image, relative to the folder that contains all of them.
    pub paths: Vec<PathBuf>,
}

impl ImageFeatures {
    /// Reads all parts of a folder that [`Model::extract_features`](crate::nn::Model::extract_features) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder has no manifest or a part is missing or damaged; [`Error::Interrupted`].
    pub fn load(folder: impl AsRef<Path>) -> Result<ImageFeatures> {
        ImageFeatures::read(folder.as_ref())
    }

    fn read(folder: &Path) -> Result<ImageFeatures> {
        let manifest = Manifest::read(folder)?.ok_or_else(|| {
            let text = format!("expected {MANIFEST}, which `extract_features` writes, found none");
            Error::io(folder)(std::io::Error::new(std::io::ErrorKind::NotFound, text))
        })?;
        let missing: Vec<String> = (0..manifest.parts())
            .filter(|part| !part_path(folder, *part).is_file())
            .map(|part| part.to_string())
            .collect();
        if !missing.is_empty() {
            // Number of missing parts that the message names.
            const MAX_NAMED: usize = 8;
            let named = missing[..missing.len().min(MAX_NAMED)].join(", ");
            let more = if missing.len() > MAX_NAMED { ", …" } else { "" };
            let text = format!(
                "expected {} parts, found {} of them missing ({named}{more}); run the shards that are not complete",
                manifest.parts(),
                missing.len()
            );
            return Err(Error::io(folder)(std::io::Error::new(std::io::ErrorKind::NotFound, text)));
        }
        check_memory("the features", &[&[manifest.images], manifest.shape.as_slice()].concat())?;
        let (mut x, mut y, mut paths) = (Vec::new(), Vec::new(), Vec::new());
        for part in 0..manifest.parts() {
            check_interrupt()?;
            let Part { features, labels, files } = Part::read(folder, &manifest, part)?;
            x.push(features);
            y.push(labels);
            paths.extend(files);
        }
        let [x, y] = [x, y].map(|parts| Tensor::cat(&parts, 0)?.to_device(&device()));
        Ok(ImageFeatures { x: x?, y: y?, class_names: manifest.class_names, paths })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

/// A part of a folder of features.
pub(super) struct Part {
    features: Tensor,
    labels: Tensor,
    files: Vec<PathBuf>,
}

impl Part {
    /// Reads a part and checks that it belongs to the manifest.
    pub(super) fn read(folder: &Path, manifest: &Manifest, part: usize) -> Result<Part> {
        let path = part_path(folder, part);
        let refuse = |expected: String, found: String| {
            let text = format!("expected {expected}, found {found}; remove the file and run its shard again");
            Error::io(&path)(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
        };
        let metadata = read_metadata(&path)?;
        let metadata: PartMetadata = serde_json::from_str(metadata.get(METADATA).map_or("", String::as_str))
            .map_err(|error| refuse("a part of a folder of features".into(), error.to_string()))?;
        if metadata.key != manifest.key {
            return Err(refuse(format!("features with the key {}", manifest.key), metadata.key));
        }
        let mut tensors = read_file(&path)?;
        let count = manifest.range(part).1;
        let mut tensor = |name: &str, kind: DType, shape: &[usize]| match tensors.remove(name) {
            Some(tensor) if (tensor.dtype(), tensor.dims()) == (kind, shape) => Ok(tensor),
            Some(tensor) => {
                Err(refuse(format!("`{name}` of shape {shape:?}"), format!("{:?}", tensor.dims())))
            }
            None => Err(refuse(format!("a tensor `{name}`"), "none".into())),
        };
        let features = tensor(FEATURES, DType::F32, &[&[count], manifest.shape.as_slice()].concat())?;
        let labels = tensor(LABELS, DType::U32, &[count])?;
        let files = metadata.files;
        if files.len() != count {
            return Err(refuse(format!("the names of {count} files"), files.len().to_string()));
        }
        Ok(Part { features, labels, files })
    }
}

impl IntoDataset for &ImageFeatures {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Samples::new(&self.x, &self.y, batch_size, shuffle)?.named(&self.class_names)))
    }
}

impl Show for ImageFeatures {
    fn bundle(&self) -> Bundle {
        let (shape, classes) = (&self.x.dims()[1..], self.class_names.join(", "));
        text_bundle(&format!("features of {} images of {classes}, each of shape {shape:?}", self.len()))
    }
}
