//! Keras's `ImageDataGenerator` (`keras/src/legacy/preprocessing/image.py`): new variants of each
//! picture in each epoch.

mod batch;
mod flow;
mod pixels;
mod ranges;
mod standardize;
mod transform;

use std::fmt;
use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use super::affine::FillMode;
use super::dataset::Samples;
use super::files::ImageFiles;
use crate::nn::{Model, Preprocessing};
use crate::{Error, Result};
use standardize::Statistics;

pub use flow::Flow;
pub use ranges::{Shift, Zoom};

type Function = Arc<dyn Fn(&mut [f32]) + Send + Sync>;

/// What to vary at random, and how far. Nothing, unless told.
///
/// Between pixels it is bilinear.
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
    /// What `fit` found; a clone shares it.
    statistics: Arc<Mutex<Option<Statistics>>>,
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
            statistics: Arc::default(),
        }
    }
}

impl ImageDataGenerator {
    /// A generator that changes nothing yet.
    pub fn new() -> ImageDataGenerator {
        ImageDataGenerator::default()
    }

    /// Turns by up to so many degrees either way.
    pub fn rotation_range(self, degrees: f64) -> Self {
        Self { rotation_range: degrees, ..self }
    }

    /// Moves along the width either way: by up to this share of it below 1, by so many pixels from 1
    /// on, or by one of a list of amounts.
    pub fn width_shift_range(self, range: impl Into<Shift>) -> Self {
        Self { width_shift_range: range.into(), ..self }
    }

    /// Moves along the height, as [`Self::width_shift_range`] along the width.
    pub fn height_shift_range(self, range: impl Into<Shift>) -> Self {
        Self { height_shift_range: range.into(), ..self }
    }

    /// Slants by up to so many degrees either way.
    pub fn shear_range(self, degrees: f64) -> Self {
        Self { shear_range: degrees, ..self }
    }

    /// Scales height and width, each by a factor from `1 - range` to `1 + range`, or between two
    /// factors; below 1 enlarges.
    pub fn zoom_range(self, range: impl Into<Zoom>) -> Self {
        Self { zoom_range: range.into(), ..self }
    }

    /// Adds up to this much, either way, to all values of a picture, which stay between its own
    /// darkest and brightest.
    pub fn channel_shift_range(self, range: f64) -> Self {
        Self { channel_shift_range: range, ..self }
    }

    /// Multiplies the brightness by a factor between the two; pixels become whole numbers from 0 to
    /// 255, as with Pillow, so images scaled to 0 to 1 come out black.
    pub fn brightness_range(self, least: f64, most: f64) -> Self {
        Self { brightness_range: Some((least, most)), ..self }
    }

    /// Mirrors every other picture.
    pub fn horizontal_flip(self, flip: bool) -> Self {
        Self { horizontal_flip: flip, ..self }
    }

    /// Turns every other picture upside down.
    pub fn vertical_flip(self, flip: bool) -> Self {
        Self { vertical_flip: flip, ..self }
    }

    /// Sets what is seen beyond a picture's edge: the edge itself unless told.
    pub fn fill_mode(self, mode: FillMode) -> Self {
        Self { fill_mode: mode, ..self }
    }

    /// Cuts out a part of the picture of between these shares of its area, of a side ratio from 3/4 to
    /// 4/3, and enlarges it to the whole (Szegedy et al. 2014; torchvision's `RandomResizedCrop`).
    pub fn random_resized_crop(self, least: f64, most: f64) -> Self {
        Self { resized_crop: Some((least, most)), ..self }
    }

    /// Varies brightness, contrast and saturation, each by a factor up to so far from 1 (torchvision's
    /// `ColorJitter`), of pixels from 0 to 255.
    pub fn color_jitter(self, brightness: f64, contrast: f64, saturation: f64) -> Self {
        Self { color_jitter: Some([brightness, contrast, saturation]), ..self }
    }

    /// Makes a square of this share of the side grey, anywhere (DeVries and Taylor 2017): 127.5, for pixels from 0 to
    /// 255.
    pub fn cutout(self, share: f64) -> Self {
        Self { cutout: share, ..self }
    }

    /// Mixes each picture and its target with another's, by a share drawn from Beta(alpha, alpha)
    /// (Zhang et al. 2017; torchvision's `MixUp`). Targets must be 0 and 1, or one-hot.
    pub fn mixup(self, alpha: f64) -> Self {
        Self { mixup: alpha, ..self }
    }

    /// Puts a part of another picture into each, of an area drawn from Beta(alpha, alpha), and mixes the
    /// targets by it (Yun et al. 2019; torchvision's `CutMix`). Targets must be 0 and 1, or one-hot.
    pub fn cutmix(self, alpha: f64) -> Self {
        Self { cutmix: alpha, ..self }
    }

    /// Multiplies each value by this, after all variation: `1.0 / 255.0`.
    pub fn rescale(self, factor: f32) -> Self {
        Self { rescale: Some(factor), ..self }
    }

    /// Calls a function on each varied picture, `[channels, height, width]`, before it is rescaled.
    pub fn preprocessing_function(self, function: impl Fn(&mut [f32]) + Send + Sync + 'static) -> Self {
        Self { preprocessing_function: Some(Arc::new(function)), ..self }
    }

    /// Takes each picture's own mean away.
    pub fn samplewise_center(self, center: bool) -> Self {
        Self { samplewise_center: center, ..self }
    }

    /// Takes each picture's own mean away, as Keras does too, and divides it by its own deviation.
    pub fn samplewise_std_normalization(self, normalize: bool) -> Self {
        Self { samplewise_std_normalization: normalize, ..self }
    }

    /// Takes the mean of all pictures away, channel by channel; [`Self::fit`] finds it.
    pub fn featurewise_center(self, center: bool) -> Self {
        Self { featurewise_center: center, ..self }
    }

    /// Takes the mean of all pictures away, as Keras does too, and divides by their deviation, channel by channel;
    /// [`Self::fit`] finds both.
    pub fn featurewise_std_normalization(self, normalize: bool) -> Self {
        Self { featurewise_std_normalization: normalize, ..self }
    }

    /// Makes what varies together vary alone and by 1 (ZCA; Krizhevsky 2009), after taking each channel's
    /// mean away: [`Self::fit`] finds how, in time that grows with the cube of the number of pictures.
    pub fn zca_whitening(self, whiten: bool) -> Self {
        Self { zca_whitening: whiten, ..self }
    }

    /// Added to the singular values by which whitening divides; 1e-6 unless told.
    pub fn zca_epsilon(self, epsilon: f64) -> Self {
        Self { zca_epsilon: epsilon, ..self }
    }

    fn needs_statistics(&self) -> bool {
        self.featurewise_center || self.featurewise_std_normalization || self.zca_whitening
    }

    /// Looks at the pictures that will flow, for the statistics over all of them.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are not pictures `[N, channels, height, width]` of 1, 3 or 4 channels.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        check_pictures(x)?;
        if self.needs_statistics() {
            let whitening = self.zca_whitening.then_some(self.zca_epsilon);
            let found = Statistics::of(x, self.rescale.unwrap_or(1.0), whitening)?;
            *self.statistics.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(found);
        }
        Ok(())
    }

    /// Batches of varied pictures, in a new order each epoch, made while the model trains on the one
    /// before.
    ///
    /// # Shapes
    /// `x` is `[N, channels, height, width]`, `y` has N targets.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not of that shape; [`Error::Argument`] if `y` has not N targets, a
    /// range is not one, or statistics over all pictures are asked for before [`Self::fit`].
    pub fn flow(&self, x: &Tensor, y: &Tensor, batch_size: usize) -> Result<Flow> {
        check_pictures(x)?;
        self.check()?;
        if let Some(advice) = self.advice_on_values(x)? {
            eprintln!("note: {advice}");
        }
        Flow::of(Samples::new(x, y, batch_size, true)?, self.clone())
    }

    /// Batches of varied pictures from files, read while the model trains.
    ///
    /// # Errors
    /// [`Error::Argument`] as for [`Self::flow`]; a damaged file is an error of its batch, with its name
    /// (see [`ImageFiles::without_damaged`]).
    pub fn flow_files(&self, files: &ImageFiles, batch_size: usize) -> Result<Flow> {
        self.check()?;
        Flow::of(files.samples(batch_size, true)?, self.clone())
    }

    /// Batches of varied pictures from the folders of `path`, each a class, scaled to `(height, width)`.
    ///
    /// # Errors
    /// As [`ImageFiles::from_directory`] and [`Self::flow_files`].
    pub fn flow_from_directory(
        &self,
        path: impl AsRef<std::path::Path>,
        size: (usize, usize),
        batch_size: usize,
    ) -> Result<Flow> {
        self.flow_files(&ImageFiles::from_directory(path, size)?, batch_size)
    }

    /// Prepares each varied picture as the weights of a model want it, instead of rescaling.
    ///
    /// # Errors
    /// [`Error::Argument`] for a model without a network that has such weights.
    pub fn preprocess_for(self, model: &Model) -> Result<Self> {
        Ok(Self { preprocessing: Some(model.preprocessing_known()?), ..self })
    }

    /// Says what Keras warns of: a division by deviations centres too.
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
                eprintln!(
                    "note: `{kind}_std_normalization` subtracts the mean too, as in Keras; set `{kind}_center(true)` as well"
                );
            }
        }
    }

    fn statistics(&self) -> Option<Statistics> {
        self.statistics.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
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

fn check_pictures(x: &Tensor) -> Result<()> {
    match x.dims() {
        [_, 1 | 3 | 4, height, width] if *height > 0 && *width > 0 => Ok(()),
        [_, _, _, 1 | 3 | 4] => {
            let hint = "pictures are channels first here; `x.permute((0, 3, 1, 2))?` turns them";
            Err(Error::shape("pictures", "[batch, channels, height, width]", x.dims(), hint))
        }
        found => Err(Error::shape("pictures", "[batch, 1, 3 or 4 channels, height, width]", found, "")),
    }
}
