//! Enlargement of feature maps by repetition.

use std::sync::Arc;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Build, Context, Layer, Mode, WindowSize};
use crate::{Error, Result};

/// Repeats each pixel, as Keras's `UpSampling2D` with `interpolation="nearest"`: the decoder of a segmentation network.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new((1, 1, 2)), UpSampling2D::new(2)]?;
/// let x = Tensor::new(&[3f32, 5.0], &device())?.reshape((1, 1, 1, 2))?;
/// assert_eq!(model.predict(&x)?[0], [3.0, 3.0, 5.0, 5.0, 3.0, 3.0, 5.0, 5.0]);
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Shapes
/// From `[N, C, H, W]` to `[N, C, H · rows, W · columns]`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UpSampling2D {
    size: WindowSize,
}

impl UpSampling2D {
    /// Repeats rows and columns `size` times: a number, or `(rows, columns)`.
    pub fn new(size: impl Into<WindowSize>) -> UpSampling2D {
        UpSampling2D { size: size.into() }
    }

    /// How often rows and columns are repeated.
    pub(super) fn factors(&self) -> [usize; 2] {
        self.size.sides()
    }
}

impl Build for UpSampling2D {
    fn default_name(&self) -> &str {
        "up_sampling2d"
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Layer>> {
        let [channels, height, width] = *context.inputs[0] else {
            return Err(Error::shape(context.name, "[channels, height, width]", context.inputs[0], ""));
        };
        let factors = self.factors();
        let sides = [height.checked_mul(factors[0]), width.checked_mul(factors[1])];
        let ([Some(height), Some(width)], false) = (sides, factors.contains(&0)) else {
            let (expected, found) = ("at least 1, and not too large".into(), format!("{factors:?}"));
            return Err(Error::Argument { name: "size", expected, found });
        };
        Ok(Arc::new(Enlarged { factors, shape: [channels, height, width] }))
    }
}

struct Enlarged {
    factors: [usize; 2],
    shape: [usize; 3],
}

impl Layer for Enlarged {
    fn kind(&self) -> &'static str {
        "UpSampling2D"
    }

    fn forward(&self, inputs: &[&Tensor], _: Mode) -> Result<Tensor> {
        let (samples, channels, height, width) = inputs[0].dims4()?;
        let [rows, columns] = self.factors;
        let x = inputs[0].contiguous()?.reshape((samples * channels, height, 1, width, 1))?;
        let repeated = x.broadcast_as((samples * channels, height, rows, width, columns))?;
        Ok(repeated.contiguous()?.reshape((samples, channels, height * rows, width * columns))?)
    }

    fn output_shape(&self) -> &[usize] {
        &self.shape
    }
}
