//! How a network wants its pictures.

use candle_core::Tensor;

use crate::{Error, Result};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Prepares pictures for torchvision's and timm's weights: divides by 255, then takes each
/// channel's ImageNet mean away and divides by its deviation.
///
/// # Shapes
/// `[N, 3, H, W]`, red, green and blue, from 0 to 255.
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
    match pictures.dims() {
        [_, 3, _, _] => {}
        found => return Err(Error::shape("preprocess_input", "[batch, 3, height, width]", found, "")),
    }
    let channels = |values: &[f32; 3]| Tensor::new(values, pictures.device())?.reshape((1, 3, 1, 1));
    let scaled = (pictures.to_dtype(candle_core::DType::F32)? / 255.0)?;
    Ok(scaled.broadcast_sub(&channels(&MEAN)?)?.broadcast_div(&channels(&DEVIATION)?)?)
}
