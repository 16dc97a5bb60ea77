//! Sizes to which image files are resized.

use crate::nn::{Model, Resizing};
use crate::{Error, Result};

/// The size to which image files are resized: `(height, width)`, or a model.
///
/// With `(height, width)`, an image is resized and its aspect ratio is lost, as in Keras. The interpolation is bilinear
/// with antialiasing, as in Pillow and torchvision. Keras differs: `image_dataset_from_directory` is bilinear without
/// antialiasing, and `flow_from_directory` and `load_img` take the nearest pixel. The pixels of large photographs
/// therefore differ by tens of grey levels, and the predictions of the same weights slightly.
///
/// With a model, the size is that of the model's input. If the weights state how they were evaluated, as those of timm
/// do, the images are resized and cropped in the same way.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a size of images; pass height and width, `(224, 224)`, or a reference to a model: `&model`"
)]
pub trait ImageSize {
    /// Height and width, and how images are resized and cropped if the weights state it.
    #[doc(hidden)]
    fn sides(&self) -> Result<((usize, usize), Option<Resizing>)>;
}

impl ImageSize for (usize, usize) {
    fn sides(&self) -> Result<((usize, usize), Option<Resizing>)> {
        Ok((*self, None))
    }
}

impl ImageSize for &Model {
    fn sides(&self) -> Result<((usize, usize), Option<Resizing>)> {
        match *self.input_shape() {
            [3, height, width] => {
                let resizing = self.preprocessing().and_then(|preprocessing| preprocessing.resizing());
                Ok(((height, width), resizing))
            }
            ref found => Err(Error::shape(
                format!("images for `{}`", self.name()),
                "a model with inputs [3, height, width]",
                found,
                "pass the size as `(height, width)`",
            )),
        }
    }
}
