//! Images in folders, one folder per class.

use std::path::{Path, PathBuf};

use candle_core::Tensor;

use super::class_names::renumber;
use super::dataset::{Dataset, IntoDataset, Samples};
use super::decode::{CHUNK, decode_all};
use super::files::ImageFiles;
use super::image_size::ImageSize;
use super::split::stratified;
use crate::check::check_memory;
use crate::display::{Bundle, ImageGrid, Show};
use crate::nn::Predictions;
use crate::{Error, Result, check_interrupt, device};

/// Images in memory with their classes.
#[derive(Clone, Debug)]
pub struct Images {
    /// `[N, 3, height, width]`, red, green and blue from 0 to 255, as `f32`.
    pub x: Tensor,
    /// The class number of each image, `[N]`, as `u32`.
    pub y: Tensor,
    /// The names of the classes, class 0 first. Sorted, unless set by [`Images::classes`].
    pub class_names: Vec<String>,
    /// The file of each image.
    pub paths: Vec<PathBuf>,
}

impl Images {
    /// Reads all images in the folders of `path`, one folder per class. Resizes them to `(height, width)`, or
    /// as a model's weights require (see [`ImageSize`]). Formats: JPEG, PNG, WebP, BMP, GIF (first frame) and
    /// TIFF. Subfolders of a class's folder are included. Greyscale, palette and transparent images become
    /// RGB, transparent ones on white.
    ///
    /// Prints the numbers of images and classes, and which files were left out. Images are rotated
    /// according to their EXIF orientation; [`ImageFiles::exif_orientation`] turns this off.
    ///
    /// # Errors
    /// [`Error::Folder`] if there are no classes or no images; [`Error::Image`] with the file's name if
    /// an image cannot be read; [`Error::Io`]; [`Error::Interrupted`].
    pub fn from_directory(path: impl AsRef<Path>, size: impl ImageSize) -> Result<Images> {
        Images::in_folder(path.as_ref(), &size)
    }

    fn in_folder(path: &Path, size: &dyn ImageSize) -> Result<Images> {
        ImageFiles::in_folder(path, size)?.load()
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Splits the images at random, class by class. The second part gets the share `validation` of each
    /// class.
    ///
    /// # Errors
    /// [`Error::Argument`] if the share is not between 0 and 1, or a part gets no images.
    pub fn split(&self, validation: f64) -> Result<(Images, Images)> {
        let (first, second) = stratified(&self.y.to_vec1::<u32>()?, self.class_names.len(), validation)?;
        let [first, second] =
            [first, second].map(|part| part.into_iter().map(|at| at as u32).collect::<Vec<_>>());
        Ok((self.select(&first)?, self.select(&second)?))
    }

    /// Numbers the classes in this order, class 0 first, like [`ImageFiles::classes`].
    ///
    /// # Errors
    /// [`Error::Argument`] if no image belongs to one of these classes, or a name is repeated.
    pub fn classes(&self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<Images> {
        let class_names: Vec<String> = names.into_iter().map(Into::into).collect();
        let (numbers, labels) = renumber(&self.y.to_vec1::<u32>()?, &self.class_names, &class_names)?;
        let numbers: Vec<u32> = numbers.into_iter().map(|at| at as u32).collect();
        let y = Tensor::from_vec(labels, numbers.len(), self.y.device())?;
        Ok(Images { y, class_names, ..self.select(&numbers)? })
    }

    /// Returns the class name of each image.
    ///
    /// # Errors
    /// [`Error::Argument`] if `y` contains a number without a class.
    pub fn labels(&self) -> Result<Vec<&str>> {
        let name = |class: u32| {
            let expected = format!("a class from 0 to {}", self.class_names.len().saturating_sub(1));
            let missing = || Error::Argument { name: "y", expected, found: class.to_string() };
            self.class_names.get(class as usize).map(String::as_str).ok_or_else(missing)
        };
        self.y.to_vec1::<u32>()?.into_iter().map(name).collect()
    }

    /// Shows the images, each with its predicted class and the confidence in percent. Wrong predictions
    /// have a red frame and the true class below. Of more than 20 images, an evenly spaced selection is
    /// shown.
    ///
    /// Predictions have one row per image: one value per class, or, for two classes, one value for the
    /// second class.
    ///
    /// # Errors
    /// [`Error::Argument`] if the predictions have another shape.
    pub fn with_predictions(&self, predictions: &Predictions) -> Result<ImageGrid> {
        self.check_predictions(predictions)?;
        let some = self.some();
        self.select(&some)?.with_all(&predictions.select(&some))
    }

    /// Checks that there is one prediction for each image, and a class name for each predicted class.
    pub(crate) fn check_predictions(&self, predictions: &Predictions) -> Result<()> {
        let classes = self.class_names.len();
        let outputs = predictions.iter().next().map_or(classes, <[f32]>::len);
        let predicted_classes = if outputs == 1 { 2 } else { outputs };
        if predictions.len() == self.len() && predicted_classes == classes {
            return Ok(());
        }
        let (rows, names) = (self.len(), self.class_names.join(", "));
        Err(Error::Argument {
            name: "predictions",
            expected: match predicted_classes == classes {
                true => format!("{rows} rows, one for each image"),
                false => format!(
                    "{rows} rows, one for each image, of the images' {classes} classes ({names}); if the true classes \
                     are unknown, show the images with your own captions: `ImageGrid::new(&images.x, &captions)`"
                ),
            },
            found: format!("{} rows of {predicted_classes} classes", predictions.len()),
        })
    }

    /// Shows all images. The predictions must fit them.
    pub(crate) fn with_all(&self, predictions: &Predictions) -> Result<ImageGrid> {
        let given = predictions.classes().into_iter().zip(predictions.confidences());
        let (mut captions, mut is_wrong) = (Vec::new(), Vec::new());
        for ((class, sure), truth) in given.zip(self.labels()?) {
            let (name, percent) = (&self.class_names[class], 100.0 * sure);
            is_wrong.push(name != truth);
            captions.push(match name == truth {
                true => format!("{name} {percent:.0} %"),
                false => format!("predicted {name} {percent:.0} %\nis {truth}"),
            });
        }
        ImageGrid::marked(&self.x, &captions, &is_wrong)
    }

    /// Returns the indices of up to 20 images, evenly spaced.
    fn some(&self) -> Vec<u32> {
        const MAX_IMAGES: usize = 20;
        (0..self.len() as u32).step_by(self.len().div_ceil(MAX_IMAGES).max(1)).collect()
    }

    /// Shows a selection of the images with their classes.
    pub(crate) fn sheet(&self) -> Result<ImageGrid> {
        let some = self.select(&self.some())?;
        ImageGrid::new(&some.x, &some.labels()?)
    }

    /// Returns the images with these numbers, in this order.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no image with one of these numbers.
    pub fn select(&self, numbers: &[u32]) -> Result<Images> {
        if let Some(number) = numbers.iter().find(|number| **number as usize >= self.len()) {
            let (expected, found) = (format!("numbers below {}", self.len()), number.to_string());
            return Err(Error::Argument { name: "numbers", expected, found });
        }
        let index = Tensor::new(numbers, self.x.device())?;
        Ok(Images {
            x: self.x.index_select(&index, 0)?,
            y: self.y.index_select(&index, 0)?,
            class_names: self.class_names.clone(),
            paths: numbers.iter().map(|i| self.paths[*i as usize].clone()).collect(),
        })
    }
}

impl ImageFiles {
    /// Reads all images into memory.
    ///
    /// # Errors
    /// [`Error::Image`] with the file's name if an image cannot be read; [`Error::Interrupted`].
    pub fn load(&self) -> Result<Images> {
        let (height, width) = self.decoding().size;
        check_memory("the images (`ImageFiles` reads them batch by batch)", &[self.len(), 3, height, width])?;
        let mut values = Vec::with_capacity(self.len() * 3 * height * width);
        for chunk in self.paths.chunks(CHUNK) {
            check_interrupt()?;
            decode_all(chunk, self.decoding())?.iter().for_each(|image| values.extend_from_slice(image));
        }
        Ok(Images {
            x: Tensor::from_vec(values, (self.len(), 3, height, width), &device())?,
            y: Tensor::from_slice(&self.labels, self.len(), &device())?,
            class_names: self.class_names.clone(),
            paths: self.paths.clone(),
        })
    }
}

impl Show for Images {
    fn bundle(&self) -> Bundle {
        let text = format!("{} images of {}", self.len(), self.class_names.join(", "));
        match self.sheet() {
            Ok(sheet) => sheet
                .bundle()
                .into_iter()
                .map(|(mime, content)| match mime.as_str() {
                    "text/plain" => (mime, text.clone()),
                    _ => (mime, content),
                })
                .collect(),
            Err(error) => vec![("text/plain".into(), format!("{text}; {error}"))],
        }
    }
}

impl IntoDataset for &Images {
    fn into_dataset(self, batch_size: usize, shuffle: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Samples::new(&self.x, &self.y, batch_size, shuffle)?.named(&self.class_names)))
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgb, Rgba};

    use super::*;
    use crate::data::decode::{Decoding, on_white};
    use crate::prelude::*;

    fn decode(path: &Path, height: usize, width: usize) -> crate::Result<Vec<f32>> {
        Decoding::new((height, width)).decode(path)
    }

    #[test]
    fn resizing_over_white_matches_the_image_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf.png");
        let wave = |x: u32, y: u32, by: u32| ((x * by + y * y) % 256) as u8;
        let image = image::RgbaImage::from_fn(61, 37, |x, y| {
            Rgba([wave(x, y, 3), wave(x, y, 5), wave(x, y, 7), if x < 30 { 255 } else { wave(x, y, 2) }])
        });
        image.save(&path).unwrap();
        for (height, width) in [(20, 24), (64, 90)] {
            let triangle = image::imageops::FilterType::Triangle;
            let expected = on_white(DynamicImage::from(image.clone()));
            let expected = image::imageops::resize(&expected, width as u32, height as u32, triangle);
            let found = decode(&path, height, width).unwrap();
            for (x, y, Rgb(pixel)) in expected.enumerate_pixels() {
                for (channel, value) in pixel.iter().enumerate() {
                    let found = found[(channel * height + y as usize) * width + x as usize];
                    assert!((found - f32::from(*value)).abs() <= 1.0, "{found} for {value} at {x}, {y}");
                }
            }
        }
        let clear = image::RgbaImage::from_pixel(3, 3, Rgba([9, 9, 9, 0]));
        clear.save(&path).unwrap();
        assert!(decode(&path, 2, 2).unwrap().iter().all(|value| *value == 255.0));
    }

    #[test]
    fn grid_shows_a_selection_with_matching_predictions() -> crate::Result<()> {
        let count = 45;
        let images = Images {
            x: random_uniform((count, 3, 4, 4), 0.0, 255.0)?,
            y: Tensor::zeros(count, DType::U32, &device())?,
            class_names: vec!["cat".into(), "dog".into()],
            paths: (0..count).map(|n| PathBuf::from(format!("{n}.png"))).collect(),
        };
        let model = sequential![Input::new((3, 4, 4)), Flatten, Dense::new(2).activation(Softmax)]?;
        let predictions = model.predict(&images.x)?;
        let text = |images: ImageGrid| images.bundle()[0].1.lines().map(str::to_owned).collect::<Vec<_>>();
        let (some, all) =
            (text(images.with_predictions(&predictions)?), text(images.with_all(&predictions)?));
        assert_eq!((some.len(), all.len()), (15, 45));
        for (shown, line) in some.iter().enumerate() {
            assert_eq!(line.split_once(": ").unwrap().1, all[3 * shown].split_once(": ").unwrap().1);
        }
        Ok(())
    }
}
