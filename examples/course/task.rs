//! The task cats against dogs, and models for it.

use headstart::Result;
use headstart::candle_core::DType;
use headstart::data::CATS_AND_DOGS;
use headstart::prelude::*;
use headstart::random::seeded;

pub const SIDE: usize = 64;

/// Images and labels (1: dog).
pub struct Task {
    pub x: Tensor,
    pub y: Tensor,
}

/// Style of the drawings.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    /// Coloured drawings, as the demo weights were trained on.
    Colour,
    /// Dark contours on white, without colours and filled areas.
    Sketch,
}

impl Task {
    /// Draws `count` images, cats and dogs in turn, preprocessed.
    pub fn draw(style: Style, count: usize, seed: u64) -> Result<Task> {
        let mut random = seeded(seed);
        let mut pixels = Vec::with_capacity(count * 3 * SIDE * SIDE);
        for at in 0..count {
            let drawn = CATS_AND_DOGS[at % 2].draw(SIDE as u32, &mut random);
            for channel in 0..3 {
                pixels.extend(drawn.pixels().map(|pixel| f32::from(pixel[channel])));
            }
        }
        let x = Tensor::from_vec(pixels, (count, 3, SIDE, SIDE), &device())?;
        let x = if style == Style::Sketch { sketch(&x)? } else { x };
        let labels: Vec<f32> = (0..count).map(|at| (at % 2) as f32).collect();
        Ok(Task { x: preprocess_input(&x)?, y: Tensor::from_vec(labels, count, &device())? })
    }

    pub fn accuracy(&self, model: &Model) -> Result<f64> {
        Ok(model.evaluate(&self.x, &self.y)?.get("accuracy").expect("it is measured"))
    }
}

/// Draws contours: white where neighbouring pixels are similar, dark where they differ.
fn sketch(x: &Tensor) -> Result<Tensor> {
    let grey = x.mean_keepdim(1)?;
    let inner = SIDE - 1;
    let centre = grey.narrow(2, 0, inner)?.narrow(3, 0, inner)?;
    let across = (grey.narrow(2, 0, inner)?.narrow(3, 1, inner)? - &centre)?.sqr()?;
    let down = (grey.narrow(2, 1, inner)?.narrow(3, 0, inner)? - &centre)?.sqr()?;
    let contour = ((across + down)?.sqrt()? * 4.0)?.clamp(0.0, 255.0)?;
    let contour = contour.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?;
    Ok((contour.neg()? + 255.0)?.broadcast_as(x.shape())?.contiguous()?.to_dtype(DType::F32)?)
}

/// The lessons' head for feature maps of the given shape.
pub fn head(shape: &[usize]) -> Result<Model> {
    let (hidden, last) = (Dense::new(64).activation(Relu), Dense::new(1).activation(Sigmoid));
    sequential![Input::new(shape), Flatten, hidden, Dropout::new(0.5), last]
}

/// Augmentation for both transfer and training from scratch.
pub fn augmentation() -> ImageDataGenerator {
    ImageDataGenerator::new()
        .rotation_range(15.0)
        .width_shift_range(0.1)
        .height_shift_range(0.1)
        .zoom_range(0.1)
        .horizontal_flip(true)
}

pub fn quietly(epochs: usize) -> Fit {
    Fit::epochs(epochs).batch_size(16).verbose(false).chart(false).advice(false)
}

/// Copies of all parameters, for [`restore`].
pub fn snapshot(model: &Model) -> Result<Vec<Tensor>> {
    model.params().iter().map(|param| Ok(param.var().as_tensor().copy()?)).collect()
}

pub fn restore(model: &Model, values: &[Tensor]) -> Result<()> {
    model.params().iter().zip(values).try_for_each(|(param, value)| param.set(value))
}
