//! Keras's `ImageDataGenerator` (`keras/src/legacy/preprocessing/image.py`): random augmentation of
//! images in each epoch.

mod batch;
mod flow;
mod pixels;
mod ranges;
mod standardize;
mod statistics;
mod transform;

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::affine::FillMode;
use super::dataset::Samples;
use super::files::ImageFiles;
use crate::check::check;
use crate::nn::{Model, Preprocessing};
use crate::notes::note;
use crate::{Error, Result};
use statistics::{Fitted, Statistics};

pub use flow::Flow;
pub use ranges::{Shift, Zoom};

type Function = Arc<dyn Fn(&mut [f32]) + Send + Sync>;

/// Random augmentation and normalisation of images. By default nothing is changed.
///
/// Geometric transforms use bilinear interpolation.
///
/// ```
/// use headstart::prelude::*;
/// let datagen = ImageDataGenerator::new().rotation_range(20.0).horizontal_flip(true);
/// let x = Tensor::rand(0f32, 255.0, (6, 3, 32, 32), &device())?;
/// let y = Tensor::new(&[0u32, 1, 0, 1, 0, 1], &device())?;
/// let batch = datagen.flow(&x, &y, 4)?.epoch()?.next().unwrap()?;
/// assert_eq!(batch.x.dims(), [4, 3, 32, 32]);
/// assert_eq!(batch.y.dims(), [4]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageDataGenerator {
    rotation_range: f64,
    width_shift_range: Shift,
    height_shift_range: Shift,
    shear_range: f64,
    zoom_range: Zoom,
    channel_shift_range: f64,
    brightness_range: Option<(f64, f64)>,
    horizontal_flip: bool,
    vertical_flip: bool,
    fill_mode: FillMode,
    resized_crop: Option<(f64, f64)>,
    color_jitter: Option<[f64; 3]>,
    cutout: f64,
    mixup: f64,
    cutmix: f64,
    rescale: Option<f32>,
    preprocessing_function: Option<Function>,
    preprocessing: Option<Preprocessing>,
    samplewise_center: bool,
    samplewise_std_normalization: bool,
    featurewise_center: bool,
    featurewise_std_normalization: bool,
    zca_whitening: bool,
    zca_epsilon: f64,
    statistics: Fitted,
}

impl Default for ImageDataGenerator {
    fn default() -> ImageDataGenerator {
        ImageDataGenerator {
            rotation_range: 0.0,
            width_shift_range: Shift::Range(0.0),
            height_shift_range: Shift::Range(0.0),
            shear_range: 0.0,
            zoom_range: Zoom(1.0, 1.0),
            channel_shift_range: 0.0,
            brightness_range: None,
            horizontal_flip: false,
            vertical_flip: false,
            fill_mode: FillMode::Nearest,
            resized_crop: None,
            color_jitter: None,
            cutout: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            rescale: None,
            preprocessing_function: None,
            preprocessing: None,
            samplewise_center: false,
            samplewise_std_normalization: false,
            featurewise_center: false,
            featurewise_std_normalization: false,
            zca_whitening: false,
            zca_epsilon: 1e-6,
            statistics: Fitted::default(),
        }
    }
}

impl ImageDataGenerator {
    /// Creates a generator that does not change the images.
    pub fn new() -> ImageDataGenerator {
        ImageDataGenerator::default()
    }

    /// Rotates by a random angle from `-degrees` to `degrees`.
    pub fn rotation_range(self, degrees: f64) -> Self {
        Self { rotation_range: degrees, ..self }
    }

    /// Shifts along the width, in both directions. A range below 1 is a share of the width, a range of 1
    /// or more a number of pixels. An integer `n` gives whole pixels, fewer than `n`, as in Keras. A list gives the
    /// possible amounts.
    pub fn width_shift_range(self, range: impl Into<Shift>) -> Self {
        Self { width_shift_range: range.into(), ..self }
    }

    /// Shifts along the height, like [`Self::width_shift_range`] along the width.
    pub fn height_shift_range(self, range: impl Into<Shift>) -> Self {
        Self { height_shift_range: range.into(), ..self }
    }

    /// Shears by a random angle from `-degrees` to `degrees`.
    pub fn shear_range(self, degrees: f64) -> Self {
        Self { shear_range: degrees, ..self }
    }

    /// Zooms height and width, each by a random factor from `1 - range` to `1 + range`, or between two
    /// given factors. Factors below 1 enlarge.
    pub fn zoom_range(self, range: impl Into<Zoom>) -> Self {
        Self { zoom_range: range.into(), ..self }
    }

    /// Adds a random value from `-range` to `range` to all values of an image. The result is clipped to
    /// the smallest and largest value of the image.
    pub fn channel_shift_range(self, range: f64) -> Self {
        Self { channel_shift_range: range, ..self }
    }

    /// Multiplies the brightness by a random factor from `min` to `max`. As with Pillow, the result
    /// is rounded to integers from 0 to 255, so images scaled to 0 to 1 become black.
    pub fn brightness_range(self, min: f64, max: f64) -> Self {
        Self { brightness_range: Some((min, max)), ..self }
    }

    /// Flips images left to right with probability 0.5.
    pub fn horizontal_flip(self, flip: bool) -> Self {
        Self { horizontal_flip: flip, ..self }
    }

    /// Flips images upside down with probability 0.5.
    pub fn vertical_flip(self, flip: bool) -> Self {
        Self { vertical_flip: flip, ..self }
    }

    /// Sets how points outside the image are filled. Default: [`FillMode::Nearest`].
    pub fn fill_mode(self, mode: FillMode) -> Self {
        Self { fill_mode: mode, ..self }
    }

    /// Crops a random part of the image and resizes it to the whole size (Szegedy et al. 2014;
    /// torchvision's `RandomResizedCrop`). The area of the part is a share from `min` to `max`, its
    /// aspect ratio is from 3/4 to 4/3.
    pub fn random_resized_crop(self, min: f64, max: f64) -> Self {
        Self { resized_crop: Some((min, max)), ..self }
    }

    /// Changes brightness, contrast and saturation, each by a random factor from `1 - value` to
    /// `1 + value` (torchvision's `ColorJitter`). Pixels must be from 0 to 255.
    pub fn color_jitter(self, brightness: f64, contrast: f64, saturation: f64) -> Self {
        Self { color_jitter: Some([brightness, contrast, saturation]), ..self }
    }

    /// Fills a rectangle at a random position with grey (DeVries and Taylor 2017). Its sides are `share`
    /// of the image's sides. Grey is 127.5, for pixels from 0 to 255.
    pub fn cutout(self, share: f64) -> Self {
        Self { cutout: share, ..self }
    }

    /// Mixes each image and its target with another's. The share is drawn from Beta(alpha, alpha) (Zhang
    /// et al. 2017; torchvision's `MixUp`). Targets must be 0 and 1, or one-hot.
    pub fn mixup(self, alpha: f64) -> Self {
        Self { mixup: alpha, ..self }
    }

    /// Replaces a box of each image by that of another image, and mixes the targets by the area of the
    /// box. The area is drawn from Beta(alpha, alpha) (Yun et al. 2019; torchvision's `CutMix`). Targets
    /// must be 0 and 1, or one-hot.
    pub fn cutmix(self, alpha: f64) -> Self {
        Self { cutmix: alpha, ..self }
    }

    /// Multiplies each value by `factor` after augmentation, for example `1.0 / 255.0`.
    pub fn rescale(self, factor: f32) -> Self {
        Self { rescale: Some(factor), ..self }
    }

    /// Calls a function on each augmented image, `[channels, height, width]`, before rescaling.
    pub fn preprocessing_function(self, function: impl Fn(&mut [f32]) + Send + Sync + 'static) -> Self {
        Self { preprocessing_function: Some(Arc::new(function)), ..self }
    }

    /// Subtracts each image's own mean.
    pub fn samplewise_center(self, center: bool) -> Self {
        Self { samplewise_center: center, ..self }
    }

    /// Divides each image by its own standard deviation. As in Keras, also subtracts its mean.
    pub fn samplewise_std_normalization(self, normalize: bool) -> Self {
        Self { samplewise_std_normalization: normalize, ..self }
    }

    /// Subtracts the mean of all images, per channel. [`Self::fit`] computes it.
    pub fn featurewise_center(self, center: bool) -> Self {
        Self { featurewise_center: center, ..self }
    }

    /// Divides by the standard deviation of all images, per channel. As in Keras, also subtracts their
    /// mean. [`Self::fit`] computes both.
    pub fn featurewise_std_normalization(self, normalize: bool) -> Self {
        Self { featurewise_std_normalization: normalize, ..self }
    }

    /// Applies ZCA whitening after subtracting the mean of each channel: values become uncorrelated with
    /// variance 1 (Krizhevsky 2009). [`Self::fit`] computes the transform, in time that grows with the
    /// cube of the number of images.
    pub fn zca_whitening(self, whiten: bool) -> Self {
        Self { zca_whitening: whiten, ..self }
    }

    /// Sets the term that is added to the singular values by which whitening divides. Default: 1e-6.
    pub fn zca_epsilon(self, epsilon: f64) -> Self {
        Self { zca_epsilon: epsilon, ..self }
    }

    fn needs_statistics(&self) -> bool {
        self.featurewise_center || self.featurewise_std_normalization || self.zca_whitening
    }

    /// Computes the statistics over all images that the featurewise options and whitening need, for the flows that are
    /// made after. Clones of the generator keep their own.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not `[N, channels, height, width]` with 1, 3 or 4 channels;
    /// [`Error::Argument`] if there are no images, or pixels that are not finite.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        check_images(x)?;
        if self.needs_statistics() {
            let values = x.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
            check("x", "none", x.dim(0)? > 0, "at least one image")?;
            check("x", "NaN or infinity", values.is_finite(), "finite pixels")?;
            let whitening = self.zca_whitening.then_some(self.zca_epsilon);
            let found = Statistics::of(x, self.rescale.unwrap_or(1.0), whitening)?;
            *self.statistics.lock() = Some(found);
        }
        Ok(())
    }

    /// Returns batches of augmented images, shuffled in each epoch. The next batches are prepared while
    /// the model trains.
    ///
    /// # Shapes
    /// `x` is `[N, channels, height, width]`, `y` has N targets.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` has another shape; [`Error::Argument`] if `y` does not have N targets, a
    /// range is invalid, or [`Self::fit`] was not called although it is needed.
    pub fn flow(&self, x: &Tensor, y: &Tensor, batch_size: usize) -> Result<Flow> {
        check_images(x)?;
        self.check()?;
        if let Some(advice) = self.advice_on_values(x)? {
            note(format_args!("note: {advice}"));
        }
        Flow::of(Samples::new(x, y, batch_size, true)?, self.clone())
    }

    /// Returns batches of augmented images from files. Files are read while the model trains.
    ///
    /// # Errors
    /// [`Error::Argument`] as for [`Self::flow`]. A damaged file is an error of its batch, with the
    /// file's name (see [`ImageFiles::without_damaged`]).
    pub fn flow_files(&self, files: &ImageFiles, batch_size: usize) -> Result<Flow> {
        self.check()?;
        Flow::of(files.samples(batch_size, true)?, self.clone())
    }

    /// Returns batches of augmented images from the folders in `path`, one folder per class. Images are
    /// resized to `(height, width)`.
    ///
    /// # Errors
    /// Those of [`ImageFiles::from_directory`] and [`Self::flow_files`].
    pub fn flow_from_directory(
        &self,
        path: impl AsRef<std::path::Path>,
        size: (usize, usize),
        batch_size: usize,
    ) -> Result<Flow> {
        self.flow_files(&ImageFiles::from_directory(path, size)?, batch_size)
    }

    /// Preprocesses each augmented image as the pretrained weights of `model` require, unless layers of `model` do that,
    /// such as `Rescaling`. Use it instead of [`Self::rescale`].
    ///
    /// # Errors
    /// [`Error::Argument`] if the model contains no network with pretrained weights.
    pub fn preprocess_for(self, model: &Model) -> Result<Self> {
        Ok(Self { preprocessing: model.preprocessing_outside()?, ..self })
    }

    /// Whether the images of a batch are mixed.
    pub(crate) fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Prints Keras's warning that dividing by the standard deviation also subtracts the mean.
    fn say_that_it_centres(&self) {
        for (divides, centres, kind) in [
            (
                self.featurewise_std_normalization,
                self.featurewise_center || self.zca_whitening,
                "featurewise",
            ),
            (self.samplewise_std_normalization, self.samplewise_center, "samplewise"),
        ] {
            if divides && !centres {
                note(format_args!(
                    "note: `{kind}_std_normalization` subtracts the mean too, as in Keras; set `{kind}_center(true)` as well"
                ));
            }
        }
    }

    fn statistics(&self) -> Option<Statistics> {
        self.statistics.lock().clone()
    }
}

impl fmt::Debug for ImageDataGenerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageDataGenerator")
            .field("rotation_range", &self.rotation_range)
            .field("width_shift_range", &self.width_shift_range)
            .field("height_shift_range", &self.height_shift_range)
            .field("horizontal_flip", &self.horizontal_flip)
            .finish_non_exhaustive()
    }
}

fn check_images(x: &Tensor) -> Result<()> {
    match x.dims() {
        [_, 1 | 3 | 4, height, width] if *height > 0 && *width > 0 => Ok(()),
        [_, _, _, 1 | 3 | 4] => {
            let hint = "images are channels first here; transpose them with `x.permute((0, 3, 1, 2))?`";
            Err(Error::shape("images", "[batch, channels, height, width]", x.dims(), hint))
        }
        found => Err(Error::shape("images", "[batch, 1, 3 or 4 channels, height, width]", found, "")),
    }
}
