//! Keras's `ImageDataGenerator` (`keras/src/legacy/preprocessing/image.py`): new variants of each
//! picture in each epoch.

use candle_core::Tensor;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use rayon::prelude::*;

use super::affine::{Affine, flip_horizontally, flip_vertically};
use super::dataset::{Batch, Dataset, IntoDataset, Samples};
use crate::{Error, Result, random};

/// What to vary at random, and how far. Nothing, unless told.
///
/// Pixels that come from outside the picture repeat its edge; between pixels it is bilinear.
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
#[derive(Clone, Debug, Default)]
pub struct ImageDataGenerator {
    rotation_range: f64,
    width_shift_range: f64,
    height_shift_range: f64,
    zoom_range: f64,
    horizontal_flip: bool,
    vertical_flip: bool,
    rescale: Option<f32>,
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

    /// Moves along the width either way: by up to this share of it below 1, by so many pixels from 1 on.
    pub fn width_shift_range(self, range: f64) -> Self {
        Self { width_shift_range: range, ..self }
    }

    /// Moves along the height either way: by up to this share of it below 1, by so many pixels from 1 on.
    pub fn height_shift_range(self, range: f64) -> Self {
        Self { height_shift_range: range, ..self }
    }

    /// Scales height and width, each by a factor from `1 - range` to `1 + range`.
    pub fn zoom_range(self, range: f64) -> Self {
        Self { zoom_range: range, ..self }
    }

    /// Mirrors every other picture.
    pub fn horizontal_flip(self, flip: bool) -> Self {
        Self { horizontal_flip: flip, ..self }
    }

    /// Turns every other picture upside down.
    pub fn vertical_flip(self, flip: bool) -> Self {
        Self { vertical_flip: flip, ..self }
    }

    /// Multiplies each value by this, last of all: `1.0 / 255.0`.
    pub fn rescale(self, factor: f32) -> Self {
        Self { rescale: Some(factor), ..self }
    }

    /// Looks at the pictures that will flow. As in Keras this matters only to statistics over all
    /// pictures, of which this generator keeps none: it checks the shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if these are not pictures `[N, channels, height, width]` of 1, 3 or 4 channels.
    pub fn fit(&self, x: &Tensor) -> Result<()> {
        check_pictures(x)
    }

    /// Batches of varied pictures, in a new order each epoch.
    ///
    /// # Shapes
    /// `x` is `[N, channels, height, width]`, `y` has N targets.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not of that shape; [`Error::Argument`] if `y` has not N targets
    /// or a range is not one.
    pub fn flow(&self, x: &Tensor, y: &Tensor, batch_size: usize) -> Result<Flow> {
        check_pictures(x)?;
        for (name, range) in [
            ("rotation_range", self.rotation_range),
            ("width_shift_range", self.width_shift_range),
            ("height_shift_range", self.height_shift_range),
            ("zoom_range", self.zoom_range),
        ] {
            let zoom_to_nothing = name == "zoom_range" && range >= 1.0;
            if !range.is_finite() || range < 0.0 || zoom_to_nothing {
                let limit = if zoom_to_nothing { "below 1" } else { "a number from 0" };
                return Err(Error::Argument { name, expected: limit.into(), found: range.to_string() });
            }
        }
        Ok(Flow { samples: Samples::new(x, y, batch_size, true)?, generator: self.clone() })
    }

    /// One picture's variant, drawn from `random`.
    fn vary(&self, picture: &[f32], height: usize, width: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
        let mut either_way =
            |range: f64| if range == 0.0 { 0.0 } else { random.random_range(-range..=range) };
        let pixels = |range: f64, side: usize| if range < 1.0 { range * side as f64 } else { range };
        let affine = Affine {
            theta: either_way(self.rotation_range),
            tx: either_way(pixels(self.height_shift_range, height)),
            ty: either_way(pixels(self.width_shift_range, width)),
            zx: 1.0 + either_way(self.zoom_range),
            zy: 1.0 + either_way(self.zoom_range),
        };
        let mut varied = affine.apply(picture, height, width);
        if self.horizontal_flip && random.random_bool(0.5) {
            flip_horizontally(&mut varied, width);
        }
        if self.vertical_flip && random.random_bool(0.5) {
            flip_vertically(&mut varied, height, width);
        }
        if let Some(factor) = self.rescale {
            varied.iter_mut().for_each(|value| *value *= factor);
        }
        varied
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

/// Varied pictures in batches: what [`ImageDataGenerator::flow`] gives and `fit` takes.
#[derive(Clone, Debug)]
pub struct Flow {
    samples: Samples,
    generator: ImageDataGenerator,
}

impl Flow {
    fn vary(&self, batch: Batch, seed: u64) -> Result<Batch> {
        let (n, channels, height, width) = batch.x.dims4()?;
        let values = batch.x.flatten_all()?.to_vec1::<f32>()?;
        let varied: Vec<f32> = values
            .par_chunks(channels * height * width)
            .enumerate()
            .flat_map_iter(|(i, picture)| {
                // Each picture has a stream of its own, so that threads do not change the result.
                let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(i as u64));
                self.generator.vary(picture, height, width, &mut random)
            })
            .collect();
        let x = Tensor::from_vec(varied, (n, channels, height, width), batch.x.device())?;
        Ok(Batch { x, ..batch })
    }
}

impl Dataset for Flow {
    fn batches(&self) -> usize {
        self.samples.batches()
    }

    fn epoch(&mut self) -> Result<Box<dyn Iterator<Item = Result<Batch>> + '_>> {
        let order = self.samples.order();
        let mut seeds = random::stream();
        let flow = &*self;
        Ok(Box::new(order.into_iter().map(move |numbers| {
            let seed = seeds.next_u64();
            flow.vary(flow.samples.take(&numbers)?, seed)
        })))
    }
}

impl IntoDataset for Flow {
    fn into_dataset(self, _: usize, _: bool) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/affine.py` wrote these with SciPy and Keras's matrices.
    #[test]
    fn pixels_move_as_scipy_moves_them() {
        let fixture = include_bytes!("../../tests/fixtures/affine.safetensors");
        let tensors = candle_core::safetensors::load_buffer(fixture, &candle_core::Device::Cpu).unwrap();
        let picture = tensors["picture"].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (_, height, width) = tensors["picture"].dims3().unwrap();
        let parameters = tensors["parameters"].to_vec2::<f64>().unwrap();
        let expected = tensors["moved"].flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(parameters.len(), 8);
        for (p, expected) in parameters.iter().zip(expected) {
            let affine = Affine { theta: p[0], tx: p[1], ty: p[2], zx: p[3], zy: p[4] };
            let moved = affine.apply(&picture, height, width);
            let worst = moved.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst < 1e-3, "{affine:?}: {worst}");
        }
    }
}
