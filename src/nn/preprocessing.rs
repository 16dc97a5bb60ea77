//! Preprocessing of images. It depends on the weights, not on the architecture.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::Resizing;
use crate::{Error, Result};

/// Preprocessing of RGB images `[N, 3, H, W]` with pixels from 0 to 255: `(pixel - mean) / deviation` for each
/// channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Whether the channels are reordered to blue, green, red, as in Caffe.
    bgr: bool,
    mean: [f32; 3],
    deviation: [f32; 3],
    /// How image files are resized and cropped, if the weights state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resizing: Option<Resizing>,
}

impl Preprocessing {
    /// For most ImageNet weights of torchvision and timm; Keras's mode "torch".
    pub const TORCH: Preprocessing = Preprocessing::standardize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// For Keras's own weights of VGG16 and ResNet50: channels in BGR order minus their means, not scaled
    /// (`keras/src/applications/imagenet_utils.py`, mode "caffe").
    pub const CAFFE: Preprocessing =
        Preprocessing { bgr: true, mean: [103.939, 116.779, 123.68], deviation: [1.0; 3], resizing: None };

    /// Scales pixels to the range from -1 to 1; Keras's mode "tf".
    pub const TF: Preprocessing =
        Preprocessing { bgr: false, mean: [127.5; 3], deviation: [127.5; 3], resizing: None };

    /// Standardises with the given mean and standard deviation of pixels from 0 to 1, per RGB channel.
    pub const fn standardize(mean: [f32; 3], deviation: [f32; 3]) -> Preprocessing {
        const fn from_bytes([r, g, b]: [f32; 3]) -> [f32; 3] {
            [r * 255.0, g * 255.0, b * 255.0]
        }
        Preprocessing { bgr: false, mean: from_bytes(mean), deviation: from_bytes(deviation), resizing: None }
    }

    /// Sets how image files are resized and cropped.
    pub(crate) fn with_resizing(self, resizing: Option<Resizing>) -> Preprocessing {
        Preprocessing { resizing, ..self }
    }

    /// How image files are resized and cropped, if the weights state it.
    pub(crate) fn resizing(&self) -> Option<Resizing> {
        self.resizing
    }

    /// Preprocesses one image `[3, H, W]` in place, with `pixels` = H·W. An image with another number of channels is
    /// left unchanged.
    pub(crate) fn apply_to(&self, image: &mut [f32], pixels: usize) {
        if image.len() != 3 * pixels {
            return;
        }
        if self.bgr {
            let (red, rest) = image.split_at_mut(2 * pixels);
            red[..pixels].swap_with_slice(rest);
        }
        for ((channel, mean), deviation) in image.chunks_mut(pixels).zip(self.mean).zip(self.deviation) {
            channel.iter_mut().for_each(|value| *value = (*value - mean) / deviation);
        }
    }

    /// The smallest and the largest value after preprocessing, of pixels 0 and 255.
    pub(crate) fn range(&self) -> (f32, f32) {
        let values = |pixel: f32| (0..3).map(move |at| (pixel - self.mean[at]) / self.deviation[at]);
        (values(0.0).fold(f32::INFINITY, f32::min), values(255.0).fold(f32::NEG_INFINITY, f32::max))
    }

    /// Preprocesses images.
    ///
    /// # Shapes
    /// `[N, 3, H, W]`, RGB, from 0 to 255; the output has the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the images do not have three channels.
    ///
    /// ```
    /// use headstart::models::Preprocessing;
    /// use headstart::prelude::*;
    /// let white = (Tensor::ones((1, 3, 2, 2), DType::F32, &device())? * 255.0)?;
    /// let blue: f32 = Preprocessing::CAFFE.apply(&white)?.i((0, 0, 0, 0))?.to_scalar()?;
    /// assert!((blue - (255.0 - 103.939)).abs() < 1e-3);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let hint = match images.dims() {
            [_, 3, _, _] => None,
            [_, _, _, 3] => Some("images are channels first here: `x.permute((0, 3, 1, 2))?`"),
            [_, 1, _, _] => Some(
                "these are greyscale images, and the weights expect colour images: `x.repeat((1, 3, 1, 1))?`",
            ),
            [3, _, _] => Some("this is one image; add the batch dimension with `unsqueeze(0)?`"),
            _ => Some(""),
        };
        if let Some(hint) = hint {
            return Err(Error::shape("preprocess", "[batch, 3, height, width]", images.dims(), hint));
        }
        let channels = |values: &[f32; 3]| Tensor::new(values, images.device())?.reshape((1, 3, 1, 1));
        let mut images = images.to_dtype(DType::F32)?;
        if self.bgr {
            images = images.index_select(&Tensor::new(&[2u32, 1, 0], images.device())?, 1)?;
        }
        Ok(images.broadcast_sub(&channels(&self.mean)?)?.broadcast_div(&channels(&self.deviation)?)?)
    }
}

/// Preprocesses images for the weights of torchvision and timm: divides by 255, subtracts the ImageNet mean of
/// each channel and divides by its standard deviation. For a given model use
/// [`Model::preprocess`](super::Model::preprocess).
///
/// # Errors
/// [`Error::Shape`] if the images do not have three channels.
///
/// ```
/// use headstart::prelude::*;
/// let white = (Tensor::ones((1, 3, 2, 2), DType::F32, &device())? * 255.0)?;
/// let red: f32 = preprocess_input(&white)?.i((0, 0, 0, 0))?.to_scalar()?;
/// assert!((red - (1.0 - 0.485) / 0.229).abs() < 1e-5);
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn preprocess_input(images: &Tensor) -> Result<Tensor> {
    Preprocessing::TORCH.apply(images)
}
