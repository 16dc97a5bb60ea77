//! Pictures in folders, one folder a class.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, Rgb, RgbImage, Rgba};

use super::files::{PictureFiles, stratified};
use crate::display::Pictures;
use crate::train::Predictions;
use crate::{Error, Result};

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];
/// Pictures decoded between two looks at the Stop button.
pub(super) const CHUNK: usize = 64;

/// Pictures in memory with their classes.
#[derive(Clone, Debug)]
pub struct Images {
    /// `[N, 3, height, width]`, red, green and blue from 0 to 255, as `f32`.
    pub x: Tensor,
    /// The number of each picture's class, `[N]`, as `u32`.
    pub y: Tensor,
    /// The classes, sorted by name: class 0 first.
    pub class_names: Vec<String>,
    /// Where each picture came from.
    pub paths: Vec<PathBuf>,
}

impl Images {
    /// Reads every JPEG and PNG in the folders of `path`, each a class, and scales them to
    /// `(height, width)`. Grey, palette and transparent pictures become RGB, the latter on white.
    ///
    /// # Errors
    /// [`Error::Folder`] if there are no classes or no pictures; [`Error::Image`] with the file's
    /// name if one cannot be read; [`Error::Io`]; [`Error::Interrupted`].
    pub fn from_directory(path: impl AsRef<Path>, (height, width): (usize, usize)) -> Result<Images> {
        Images::in_folder(path.as_ref(), (height, width))
    }

    fn in_folder(path: &Path, size: (usize, usize)) -> Result<Images> {
        PictureFiles::in_folder(path, size)?.load()
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Parts the pictures at random, class by class: the second part holds this share of each.
    ///
    /// # Errors
    /// [`Error::Argument`] if the share is not between 0 and 1 or leaves a part without pictures.
    pub fn split(&self, validation: f64) -> Result<(Images, Images)> {
        let (first, second) = stratified(&self.y.to_vec1::<u32>()?, self.class_names.len(), validation)?;
        let [first, second] =
            [first, second].map(|part| part.into_iter().map(|at| at as u32).collect::<Vec<_>>());
        Ok((self.select(&first)?, self.select(&second)?))
    }

    /// The name of each picture's class.
    ///
    /// # Errors
    /// [`Error::Argument`] if `y` holds a number that no class has.
    pub fn labels(&self) -> Result<Vec<&str>> {
        let name = |class: u32| {
            let expected = format!("a class from 0 to {}", self.class_names.len().saturating_sub(1));
            let missing = || Error::Argument { name: "y", expected, found: class.to_string() };
            self.class_names.get(class as usize).map(String::as_str).ok_or_else(missing)
        };
        self.y.to_vec1::<u32>()?.into_iter().map(name).collect()
    }

    /// The pictures, each with the class that a model gives it, how sure the model is (from 0 to
    /// 1), and the true class where that is another; of more than 20, some, evenly from all.
    ///
    /// Predictions are one row a picture: a number for each class, or, of two classes, one number
    /// for the second.
    ///
    /// # Errors
    /// [`Error::Argument`] if the predictions have another form.
    pub fn with_predictions(&self, predictions: &Predictions) -> Result<Pictures> {
        let classes = self.class_names.len();
        let outputs = predictions.iter().next().map_or(classes, <[f32]>::len);
        if predictions.len() != self.len() || outputs != classes && (outputs, classes) != (1, 2) {
            let expected = format!("{} rows of {classes} outputs, one for each picture", self.len());
            let found = format!("{} rows of {outputs}", predictions.len());
            return Err(Error::Argument { name: "predictions", expected, found });
        }
        let some = self.some();
        self.select(&some)?.with_all(&predictions.select(&some))
    }

    /// All the pictures, with predictions that fit them.
    pub(crate) fn with_all(&self, predictions: &Predictions) -> Result<Pictures> {
        let given = predictions.classes().into_iter().zip(predictions.confidences());
        let captions = given.zip(self.labels()?).map(|((class, sure), truth)| {
            let name = &self.class_names[class];
            let not = if name == truth { String::new() } else { format!(", not {truth}") };
            format!("{name} {sure:.2}{not}")
        });
        Pictures::new(&self.x, &captions.collect::<Vec<_>>())
    }

    /// As many of the pictures as a page should hold, evenly from all.
    fn some(&self) -> Vec<u32> {
        const MOST: usize = 20;
        (0..self.len() as u32).step_by(self.len().div_ceil(MOST).max(1)).collect()
    }

    /// Some of the pictures, with their classes.
    pub(crate) fn sheet(&self) -> Result<Pictures> {
        let some = self.select(&self.some())?;
        Pictures::new(&some.x, &some.labels()?)
    }

    pub(crate) fn select(&self, numbers: &[u32]) -> Result<Images> {
        let index = Tensor::new(numbers, self.x.device())?;
        Ok(Images {
            x: self.x.index_select(&index, 0)?,
            y: self.y.index_select(&index, 0)?,
            class_names: self.class_names.clone(),
            paths: numbers.iter().map(|i| self.paths[*i as usize].clone()).collect(),
        })
    }
}

/// Each class's name and picture files, both sorted.
pub(super) fn classes(path: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let refuse = |problem: String| Error::Folder { path: path.to_owned(), problem };
    if !path.is_dir() {
        return Err(refuse("there is no such folder".into()));
    }
    let mut classes = Vec::new();
    for folder in sorted(path)?.into_iter().filter(|entry| entry.is_dir()) {
        let pictures: Vec<PathBuf> = sorted(&folder)?.into_iter().filter(|file| is_picture(file)).collect();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if pictures.is_empty() {
            return Err(refuse(format!("the class folder `{name}` holds no .jpg, .jpeg or .png file")));
        }
        classes.push((name, pictures));
    }
    match classes.len() {
        0 => Err(refuse("expected one folder a class, found no folder".into())),
        _ => Ok(classes),
    }
}

fn sorted(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io(path))?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    path.is_file() && EXTENSIONS.contains(&extension.as_str())
}

/// One picture, scaled, as `[3, height, width]`.
pub(super) fn decode(path: &Path, height: usize, width: usize) -> Result<Vec<f32>> {
    let refuse = |reason: String| Error::Image { path: path.to_owned(), reason };
    let picture = image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(Error::io(path))?
        .decode()
        .map_err(|error| refuse(error.to_string()))?;
    let picture = on_white(picture);
    let (across, down) = picture.dimensions();
    let whole = Image::from_vec_u8(across, down, picture.into_raw(), PixelType::U8x3)
        .map_err(|error| refuse(error.to_string()))?;
    let mut scaled = Image::new(width as u32, height as u32, PixelType::U8x3);
    let bilinear = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize(&whole, &mut scaled, &bilinear)
        .map_err(|error| refuse(format!("it cannot be scaled to {height} by {width} pixels: {error}")))?;
    let mut values = vec![0f32; 3 * height * width];
    for (channel, map) in values.chunks_exact_mut(height * width).enumerate() {
        let pixels = scaled.buffer().chunks_exact(3);
        map.iter_mut().zip(pixels).for_each(|(value, pixel)| *value = f32::from(pixel[channel]));
    }
    Ok(values)
}

fn on_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgba([red, green, blue, opacity]) = *picture.get_pixel(x, y);
        let opacity = f32::from(opacity) / 255.0;
        let mixed = |value: u8| (f32::from(value) * opacity + 255.0 * (1.0 - opacity)).round() as u8;
        Rgb([red, green, blue].map(mixed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_picture_is_scaled_over_white_as_the_image_crate_scales_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leaf.png");
        let wave = |x: u32, y: u32, by: u32| ((x * by + y * y) % 256) as u8;
        let picture = image::RgbaImage::from_fn(61, 37, |x, y| {
            Rgba([wave(x, y, 3), wave(x, y, 5), wave(x, y, 7), if x < 30 { 255 } else { wave(x, y, 2) }])
        });
        picture.save(&path).unwrap();
        for (height, width) in [(20, 24), (64, 90)] {
            let triangle = image::imageops::FilterType::Triangle;
            let expected = on_white(DynamicImage::from(picture.clone()));
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
    fn a_page_holds_some_of_many_pictures_each_with_its_own_prediction() -> crate::Result<()> {
        let count = 45;
        let images = Images {
            x: random_uniform((count, 3, 4, 4), 0.0, 255.0)?,
            y: Tensor::zeros(count, DType::U32, &device())?,
            class_names: vec!["cat".into(), "dog".into()],
            paths: (0..count).map(|n| PathBuf::from(format!("{n}.png"))).collect(),
        };
        let model = sequential![Input::new((3, 4, 4)), Flatten, Dense::new(2).activation(Softmax)]?;
        let predictions = model.predict(&images.x)?;
        let text = |pictures: Pictures| pictures.bundle()[0].1.lines().map(str::to_owned).collect::<Vec<_>>();
        let (some, all) =
            (text(images.with_predictions(&predictions)?), text(images.with_all(&predictions)?));
        assert_eq!((some.len(), all.len()), (15, 45));
        for (shown, line) in some.iter().enumerate() {
            assert_eq!(line.split_once(": ").unwrap().1, all[3 * shown].split_once(": ").unwrap().1);
        }
        Ok(())
    }
}
