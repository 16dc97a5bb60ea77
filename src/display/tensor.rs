//! Display of tensors: as numbers, and as images where possible.

use candle_core::{DType, Tensor};

use super::{Bundle, ImageGrid, Show};
use crate::Result;

/// Smallest height and width, in pixels, of tensors shown as images.
const MIN_SIDE: usize = 16;
/// Largest number of images shown of a batch.
const MAX_IMAGES: usize = 10;

impl Show for Tensor {
    /// Shape, type and some of the values. For `[3, height, width]` or `[N, 3, height, width]` with
    /// values from 0 to 1 or from 0 to 255, also the images.
    fn bundle(&self) -> Bundle {
        let mut bundle = vec![("text/plain".into(), self.to_string())];
        if let Ok(Some(images)) = images(self) {
            bundle.extend(images.bundle().into_iter().filter(|(mime, _)| mime == "image/svg+xml"));
        }
        bundle
    }
}

/// Displays the value without its `Ok`, or the error.
impl<T: Show, E: std::fmt::Display> Show for std::result::Result<T, E> {
    fn bundle(&self) -> Bundle {
        match self {
            Ok(value) => value.bundle(),
            Err(error) => vec![("text/plain".into(), format!("Err: {error}"))],
        }
    }
}

fn images(tensor: &Tensor) -> Result<Option<ImageGrid>> {
    let batch = match *tensor.dims() {
        [3, height, width] if height.min(width) >= MIN_SIDE => tensor.unsqueeze(0)?,
        [n, 3, height, width] if height.min(width) >= MIN_SIDE && n > 0 => {
            tensor.narrow(0, 0, n.min(MAX_IMAGES))?
        }
        _ => return Ok(None),
    };
    if !matches!(batch.dtype(), DType::F32 | DType::U8) {
        return Ok(None);
    }
    let batch = batch.to_dtype(DType::F32)?;
    let (low, high) = (batch.min_all()?.to_scalar::<f32>()?, batch.max_all()?.to_scalar::<f32>()?);
    let scale = match (low, high) {
        (0.0.., ..=1.0) => 255.0,
        (0.0.., ..=255.0) => 1.0,
        _ => return Ok(None),
    };
    let captions: Vec<String> = (0..batch.dim(0)?).map(|number| number.to_string()).collect();
    Ok(Some(ImageGrid::new(&(batch * scale)?, &captions)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mimes(tensor: &Tensor) -> Vec<String> {
        tensor.bundle().into_iter().map(|(mime, _)| mime).collect()
    }

    #[test]
    fn only_image_tensors_are_shown_as_images() -> Result<()> {
        let numbers = crate::random_uniform((2, 3), 0.0, 1.0)?;
        assert_eq!(mimes(&numbers), ["text/plain"]);
        assert!(numbers.bundle()[0].1.contains("Tensor[[2, 3], f32]"), "{}", numbers.bundle()[0].1);
        let images = crate::random_uniform((12, 3, 20, 20), 0.0, 255.0)?;
        assert_eq!(mimes(&images), ["text/plain", "image/svg+xml"]);
        assert_eq!(images.bundle()[1].1.matches("<image").count(), MAX_IMAGES);
        assert_eq!(mimes(&images.get(0)?), ["text/plain", "image/svg+xml"]);
        assert_eq!(mimes(&crate::models::preprocess_input(&images)?), ["text/plain"]);
        Ok(())
    }
}
