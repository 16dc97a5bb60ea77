//! How a network wants its pictures: it belongs to the weights, not to the network.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::Model;
use crate::{Error, Result};

/// What is done to pictures `[N, 3, H, W]`, red, green and blue from 0 to 255, before a network
/// sees them: `(pixel - mean) / deviation`, channel by channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Blue first, as Caffe has it.
    bgr: bool,
    mean: [f32; 3],
    deviation: [f32; 3],
}

impl Preprocessing {
    /// torchvision's and timm's for most ImageNet weights; Keras calls it "torch".
    pub const TORCH: Preprocessing = Preprocessing::standardize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

    /// Keras's own weights of VGG16 and ResNet50: blue, green and red less their means, not scaled
    /// (`keras/src/applications/imagenet_utils.py`, mode "caffe").
    pub const CAFFE: Preprocessing =
        Preprocessing { bgr: true, mean: [103.939, 116.779, 123.68], deviation: [1.0; 3] };

    /// From -1 to 1; Keras calls it "tf".
    pub const TF: Preprocessing = Preprocessing { bgr: false, mean: [127.5; 3], deviation: [127.5; 3] };

    /// By a mean and a deviation of pixels from 0 to 1.
    pub const fn standardize(mean: [f32; 3], deviation: [f32; 3]) -> Preprocessing {
        const fn of_bytes([r, g, b]: [f32; 3]) -> [f32; 3] {
            [r * 255.0, g * 255.0, b * 255.0]
        }
        Preprocessing { bgr: false, mean: of_bytes(mean), deviation: of_bytes(deviation) }
    }

    /// Prepares one picture, `[3, H, W]`, of so many pixels, in place; another number of channels
    /// stays as it is.
    pub(crate) fn apply_to(&self, picture: &mut [f32], pixels: usize) {
        if picture.len() != 3 * pixels {
            return;
        }
        if self.bgr {
            let (red, rest) = picture.split_at_mut(2 * pixels);
            red[..pixels].swap_with_slice(rest);
        }
        for ((channel, mean), deviation) in picture.chunks_mut(pixels).zip(self.mean).zip(self.deviation) {
            channel.iter_mut().for_each(|value| *value = (*value - mean) / deviation);
        }
    }

    /// What the darkest and the brightest pixel become.
    pub(crate) fn range(&self) -> (f32, f32) {
        let of = |pixel: f32| (0..3).map(move |at| (pixel - self.mean[at]) / self.deviation[at]);
        (of(0.0).fold(f32::INFINITY, f32::min), of(255.0).fold(f32::NEG_INFINITY, f32::max))
    }

    /// Prepares pictures.
    ///
    /// # Shapes
    /// `[N, 3, H, W]`, red, green and blue, from 0 to 255.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are not three channels.
    ///
    /// ```
    /// use headstart::models::Preprocessing;
    /// use headstart::prelude::*;
    /// let white = (Tensor::ones((1, 3, 2, 2), DType::F32, &device())? * 255.0)?;
    /// let blue: f32 = Preprocessing::CAFFE.apply(&white)?.i((0, 0, 0, 0))?.to_scalar()?;
    /// assert!((blue - (255.0 - 103.939)).abs() < 1e-3);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn apply(&self, pictures: &Tensor) -> Result<Tensor> {
        match pictures.dims() {
            [_, 3, _, _] => {}
            found => return Err(Error::shape("preprocess", "[batch, 3, height, width]", found, "")),
        }
        let channels = |values: &[f32; 3]| Tensor::new(values, pictures.device())?.reshape((1, 3, 1, 1));
        let mut pictures = pictures.to_dtype(DType::F32)?;
        if self.bgr {
            pictures = pictures.index_select(&Tensor::new(&[2u32, 1, 0], pictures.device())?, 1)?;
        }
        Ok(pictures.broadcast_sub(&channels(&self.mean)?)?.broadcast_div(&channels(&self.deviation)?)?)
    }
}

/// Prepares pictures for torchvision's and timm's weights: divides by 255, then takes each
/// channel's ImageNet mean away and divides by its deviation. [`Model::preprocess`] does what the
/// weights of a model want.
///
/// # Errors
/// [`Error::Shape`] if these are not three channels.
///
/// ```
/// use headstart::prelude::*;
/// let white = (Tensor::ones((1, 3, 2, 2), DType::F32, &device())? * 255.0)?;
/// let red: f32 = preprocess_input(&white)?.i((0, 0, 0, 0))?.to_scalar()?;
/// assert!((red - (1.0 - 0.485) / 0.229).abs() < 1e-5);
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn preprocess_input(pictures: &Tensor) -> Result<Tensor> {
    Preprocessing::TORCH.apply(pictures)
}

impl Model {
    /// Prepares pictures `[N, 3, H, W]`, from 0 to 255, as the weights of this network, or of the
    /// one inside, were trained on them.
    ///
    /// # Errors
    /// [`Error::Argument`] for a model without a network that has such weights; [`Error::Shape`].
    pub fn preprocess(&self, pictures: &Tensor) -> Result<Tensor> {
        self.preprocessing_known()?.apply(pictures)
    }

    pub(crate) fn preprocessing_known(&self) -> Result<Preprocessing> {
        self.preprocessing().ok_or_else(|| self.no_preprocessing())
    }

    fn no_preprocessing(&self) -> Error {
        let expected = "a network with weights, as `Vgg16::new(Weights::Demo)` gives it".into();
        Error::Argument { name: "preprocess", expected, found: format!("`{}`, made of layers", self.name()) }
    }
}
