//! Datasets with unusual numbers of batches, and unusual folders.

use std::path::Path;

use headstart::Result;
use headstart::data::{Batch, IntoDataset};
use headstart::prelude::*;

/// A dataset like Keras's generators: its epochs have more batches than it announces, or fewer.
pub(super) struct Generator {
    pub(super) announced: usize,
    pub(super) given: usize,
}

impl Dataset for Generator {
    fn batches(&self) -> usize {
        self.announced
    }

    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
        let batch = || -> Result<Batch> {
            Ok(Batch::from((random_uniform((4, 2), 0.0, 1.0)?, Tensor::zeros(4, DType::U32, &device())?)))
        };
        Ok(Box::new((0..self.given).map(move |_| batch())))
    }
}

impl IntoDataset for Generator {
    fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(self))
    }
}

#[test]
fn predict_and_confusion_matrix_take_the_announced_batches() -> Result<()> {
    let model = sequential![Input::new(2), Dense::new(1).activation(Sigmoid)]?;
    assert_eq!(model.predict(Generator { announced: 2, given: usize::MAX })?.len(), 8);
    let matrix = model.confusion_matrix(Generator { announced: 2, given: usize::MAX })?;
    assert_eq!(matrix.counts().iter().flatten().sum::<usize>(), 8);
    assert!(model.predict(Generator { announced: 3, given: 1 }).is_err(), "a batch is missing");
    assert!(model.confusion_matrix(Generator { announced: 3, given: 1 }).is_err(), "a batch is missing");
    Ok(())
}

/// Writes a folder with two images for each class.
pub(super) fn folder_of(path: &Path, classes: &[&str]) {
    for (class, name) in classes.iter().enumerate() {
        std::fs::create_dir_all(path.join(name)).unwrap();
        for at in 0..2 {
            let image = image_of(class as u8 * 90 + at);
            std::fs::write(path.join(name).join(format!("{at}.bmp")), image).unwrap();
        }
    }
}

/// A BMP file of 2 by 2 equal pixels.
fn image_of(value: u8) -> Vec<u8> {
    let side = 2u32;
    let row = (3 * side).div_ceil(4) * 4;
    let pixels = vec![value; (row * side) as usize];
    let mut file = b"BM".to_vec();
    file.extend((54 + pixels.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(54u32.to_le_bytes());
    file.extend(40u32.to_le_bytes());
    file.extend(side.to_le_bytes());
    file.extend(side.to_le_bytes());
    file.extend([1, 0, 24, 0]);
    file.extend([0; 24]);
    file.extend(pixels);
    file
}

/// Keras does not follow links inside a class either.
#[test]
fn links_do_not_mix_classes() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    folder_of(folder.path(), &["cat", "dog"]);
    std::os::unix::fs::symlink("..", folder.path().join("cat/up")).unwrap();
    let files = ImageFiles::from_directory(folder.path(), (2, 2))?;
    for (path, label) in files.paths.iter().zip(&files.labels) {
        assert!(!(path.to_string_lossy().contains("/dog/") && *label == 0), "{} is a cat", path.display());
    }
    assert_eq!(files.len(), 4);
    Ok(())
}

#[test]
fn a_folder_of_heic_files_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
        for name in ["1.heic", "2.HEIC"] {
            std::fs::write(folder.path().join(class).join(name), b"x").unwrap();
        }
    }
    let error = ImageFiles::from_directory(folder.path(), (2, 2)).unwrap_err().to_string();
    assert!(error.contains(".heic") && error.contains("convert"), "{error}");
    let error = ImageFiles::without_classes(folder.path(), (2, 2)).unwrap_err().to_string();
    assert!(error.contains(".heic"), "{error}");
}

#[test]
fn split_leaves_each_class_in_the_training_part() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    folder_of(folder.path(), &["cat", "dog"]);
    std::fs::create_dir(folder.path().join("rare")).unwrap();
    std::fs::write(folder.path().join("rare/1.bmp"), image_of(7)).unwrap();
    let files = ImageFiles::from_directory(folder.path(), (2, 2))?;
    let (training, _) = files.split(0.5)?;
    assert!(training.labels.contains(&2), "{:?}", training.labels);
    Ok(())
}

/// As two generators of Keras.
#[test]
fn clones_of_a_generator_keep_their_own_statistics() -> Result<()> {
    let pixels =
        |value: f64| -> Result<Tensor> { Ok((Tensor::ones((2, 1, 4, 4), DType::F32, &device())? * value)?) };
    let y = Tensor::zeros(2, DType::U32, &device())?;
    let first = ImageDataGenerator::new().featurewise_center(true);
    first.fit(&pixels(10.0)?)?;
    let second = first.clone();
    let seen = |generator: &ImageDataGenerator| -> Result<f32> {
        let x = generator.flow(&pixels(100.0)?, &y, 2)?.epoch()?.next().unwrap()?.x;
        Ok(x.max_all()?.to_scalar::<f32>()?)
    };
    assert_eq!((seen(&first)?, seen(&second)?), (90.0, 90.0));
    second.fit(&pixels(100.0)?)?;
    assert_eq!((seen(&first)?, seen(&second)?), (90.0, 0.0));
    Ok(())
}
