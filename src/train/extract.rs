//! Extraction of features from image files, in shards that separate processes compute.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use candle_core::Tensor;

use super::content::ContentKey;
use super::image_features::{
    FEATURES, LABELS, MANIFEST, METADATA, Manifest, PART, Part, PartMetadata, part_path,
};
use super::predict::BATCH;
use crate::check::check;
use crate::data::{Dataset, ImageFiles};
use crate::files::write_whole;
use crate::nn::{Mode, Model};
use crate::notes::note;
use crate::weights::save_tensors;
use crate::{Error, Result, check_interrupt};

impl Model {
    /// Computes the model's output for image files and writes it into a folder, which [`ImageFeatures::load`] reads.
    /// Returns the number of images whose features were computed now.
    ///
    /// `(0, 4)` computes the first of four shards. Shards can run in any order, in separate processes and on
    /// separate machines with a shared folder. The images are divided into parts of 512; a shard computes a range of
    /// the parts and writes each of them atomically. A shard that was killed continues with its first missing part. On
    /// the same kind of processor, the files do not depend on the number of shards.
    ///
    /// If the model defines a preprocessing, images are preprocessed by [`Model::preprocess`]. It changes nothing if
    /// layers of the model do the same, such as `Rescaling`. A part is computed again if one of its images has changed
    /// since the part was written. The model is typically a frozen base with pooling.
    ///
    /// [`ImageFeatures::load`]: super::ImageFeatures::load
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # std::env::set_current_dir(&folder).unwrap();
    /// # draw_demo_images("images", 5, 64, 1)?;
    /// let base = ResNet50::new(Weights::Demo).include_top(false).pooling(Pooling::Avg).build()?;
    /// let files = ImageFiles::from_directory("images", (64, 64))?;
    /// assert_eq!(base.extract_features(&files, "features", (0, 1))?, 10);
    /// assert_eq!(base.extract_features(&files, "features", (0, 1))?, 0); // all exist
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the shard's number is not below the number of shards, the folder holds the features of
    /// another model or other images, or the model has a custom layer; [`Error::Image`] with the file's name if an
    /// image cannot be read; [`Error::Io`]; [`Error::Interrupted`].
    pub fn extract_features(
        &self,
        files: &ImageFiles,
        folder: impl AsRef<Path>,
        shard: (usize, usize),
    ) -> Result<usize> {
        self.extract(files, folder.as_ref(), shard)
    }

    fn extract(&self, files: &ImageFiles, folder: &Path, (shard, shards): (usize, usize)) -> Result<usize> {
        self.check_single("extract_features")?;
        let found = format!("shard {shard} of {shards}");
        check("shard", found, shard < shards, "a number from 0 to the number of shards - 1")?;
        let manifest = self.manifest_of(files)?;
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        check_manifest(&manifest, folder)?;
        let range = |shard: usize| shard * manifest.parts() / shards;
        let parts = range(shard)..range(shard + 1);
        let names = relative(&files.paths);
        let (of_shard, mut computed, mut done) =
            (parts.clone().map(|part| manifest.range(part).1).sum::<usize>(), 0, 0);
        if parts.is_empty() {
            let (images, part) = (manifest.images, manifest.part);
            println!(
                "shard {shard} of {shards}: no images, because {images} images in parts of {part} fill fewer shards"
            );
        }
        for part in parts {
            check_interrupt()?;
            let (first, count) = manifest.range(part);
            if !is_current(folder, &manifest, part, &files.paths[first..first + count])? {
                self.write_part(files, &names, &part_path(folder, part), &manifest.key, (first, count))?;
                computed += count;
            }
            done += count;
            println!("shard {shard} of {shards}: features of {done} of {of_shard} images");
        }
        Ok(computed)
    }

    fn manifest_of(&self, files: &ImageFiles) -> Result<Manifest> {
        let mut key = ContentKey::new();
        key.add_model(self).map_err(|error| match error {
            Error::Argument { found, .. } => Error::Argument {
                name: "extract_features",
                expected: "layers of the library, so that shards can compare their models".into(),
                found,
            },
            other => other,
        })?;
        key.add("decoding", format!("{:?}", files.decoding()).as_bytes());
        // The name of a single class is that of the folder, which can have another name on another machine.
        let names = if files.class_names.len() > 1 { files.class_names.as_slice() } else { &[] };
        key.add("classes", format!("{names:?}, {:?}", files.labels).as_bytes());
        for (name, path) in relative(&files.paths).iter().zip(&files.paths) {
            check_interrupt()?;
            let length = path.metadata().map_err(Error::io(path))?.len();
            key.add(&name.to_string_lossy(), &length.to_le_bytes());
        }
        Ok(Manifest {
            key: key.finish(),
            model: self.name().to_owned(),
            images: files.len(),
            part: PART,
            shape: self.output_shape().to_vec(),
            class_names: files.class_names.clone(),
        })
    }

    /// Computes and writes the features of a range of the files.
    fn write_part(
        &self,
        files: &ImageFiles,
        names: &[PathBuf],
        path: &Path,
        key: &str,
        (first, count): (usize, usize),
    ) -> Result<()> {
        let numbers: Vec<usize> = (first..first + count).collect();
        let mut batches = Vec::new();
        for batch in files.select(&numbers)?.samples(BATCH, false)?.epoch()? {
            check_interrupt()?;
            let x = batch?.x;
            let x = if self.preprocessing().is_some() { self.preprocess(&x)? } else { x };
            batches.push(self.forward(&x, Mode::Inference)?);
        }
        let labels =
            Tensor::from_slice(&files.labels[first..first + count], count, &candle_core::Device::Cpu)?;
        let tensors = vec![(FEATURES.to_owned(), Tensor::cat(&batches, 0)?), (LABELS.to_owned(), labels)];
        let metadata = PartMetadata { key: key.to_owned(), files: names[first..first + count].to_vec() };
        let text = serde_json::to_string(&metadata).map_err(|_| Error::Argument {
            name: "image files",
            expected: "names in UTF-8".into(),
            found: format!(
                "another encoding among {} to {}",
                names[first].display(),
                names[first + count - 1].display()
            ),
        })?;
        save_tensors(tensors, HashMap::from([(METADATA.to_owned(), text)]), path)
    }
}

/// Writes the manifest, or checks that the folder has an equal one.
fn check_manifest(manifest: &Manifest, folder: &Path) -> Result<()> {
    let describe = |manifest: &Manifest| {
        let key = &manifest.key[..manifest.key.len().min(12)];
        format!("features of {} images by `{}`, key {key}…", manifest.images, manifest.model)
    };
    match Manifest::read(folder)? {
        // The key covers the names of several classes.
        Some(found) if found == (Manifest { class_names: found.class_names.clone(), ..manifest.clone() }) => {
            Ok(())
        }
        Some(found) => Err(Error::Argument {
            name: "folder",
            expected: describe(manifest),
            found: format!("{} in {}; use another folder, or remove it", describe(&found), folder.display()),
        }),
        None => {
            let path = folder.join(MANIFEST);
            let text =
                serde_json::to_string_pretty(manifest).map_err(|error| Error::io(&path)(error.into()))?;
            write_whole(&path, format!("{text}\n").as_bytes())
        }
    }
}

/// Whether a part is complete and none of its images has changed since it was written. A damaged part is computed again.
fn is_current(folder: &Path, manifest: &Manifest, part: usize, images: &[PathBuf]) -> Result<bool> {
    let path = part_path(folder, part);
    let changed = |path: &Path| -> Result<SystemTime> {
        path.metadata().and_then(|metadata| metadata.modified()).map_err(Error::io(path))
    };
    if !path.is_file() {
        return Ok(false);
    }
    if let Err(problem) = Part::read(folder, manifest, part) {
        note(problem);
        return Ok(false);
    }
    let written = changed(&path)?;
    for image in images {
        if changed(image)? > written {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files relative to the deepest folder that contains all of them.
fn relative(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut common = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned();
    while !paths.iter().all(|path| path.starts_with(&common)) && common.pop() {}
    paths.iter().map(|path| path.strip_prefix(&common).unwrap_or(path).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_the_common_folder() {
        let names = |paths: &[&str]| relative(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/a/b/c/1.png", "/a/b/d/2.png"]), [Path::new("c/1.png"), Path::new("d/2.png")]);
        assert_eq!(names(&["a/1.png"]), [Path::new("1.png")]);
        assert_eq!(names(&["a/1.png", "b/2.png"]), [Path::new("a/1.png"), Path::new("b/2.png")]);
    }
}
