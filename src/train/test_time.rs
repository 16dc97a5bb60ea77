//! Test-time augmentation.

use candle_core::Tensor;

use super::BATCH;
use crate::data::ImageDataGenerator;
use crate::nn::{Activation, Model, Predictions};
use crate::{Error, Result};

impl Model {
    /// Predicts each image and `views` augmented views of it, and returns the mean of their probabilities: test-time
    /// augmentation (Krizhevsky et al. 2012, section 4.1). It takes `views + 1` times as long as [`Model::predict`].
    ///
    /// The generator's rescaling, preprocessing and normalisation apply to each image and each view: `x` is what the
    /// generator takes in training. The generator must not change the class of an image.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// let model = sequential![Input::new((3, 8, 8)), Flatten, Dense::new(1).activation(Sigmoid)]?;
    /// let x = random_uniform((4, 3, 8, 8), 0.0, 1.0)?;
    /// let flips = ImageDataGenerator::new().horizontal_flip(true);
    /// assert_eq!(model.predict_augmented(&x, &flips, 3)?.len(), 4);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Model::predict`] and [`ImageDataGenerator::flow`]; [`Error::Argument`] if the generator mixes images
    /// (MixUp, CutMix), or `views` is 0.
    pub fn predict_augmented(
        &self,
        x: &Tensor,
        generator: &ImageDataGenerator,
        views: usize,
    ) -> Result<Predictions> {
        if views == 0 {
            let (expected, found) = ("at least 1; `predict` needs no views".into(), "0".into());
            return Err(Error::Argument { name: "views", expected, found });
        }
        if generator.mixes() {
            let expected = "a generator without `mixup` and `cutmix`, which mix several images".into();
            return Err(Error::Argument { name: "generator", expected, found: "one with them".into() });
        }
        if self.class_layout().positions > 1 {
            let hint = "the views of a class per pixel lie elsewhere: call `predict`";
            return Err(Error::shape("the model's output", "[batch, classes]", self.output_shape(), hint));
        }
        let unvaried = generator.unvaried();
        let mut sums: Option<Vec<f32>> = None;
        let targets = Tensor::zeros(x.dims().first().copied().unwrap_or(0), x.dtype(), x.device())?;
        for view in 0..=views {
            let flow = match view {
                0 => unvaried.flow(x, &targets, BATCH)?,
                _ => generator.flow(x, &targets, BATCH)?,
            };
            let predictions = self.predict_in_batches(flow, BATCH)?;
            let probabilities = predictions.probabilities().flatten();
            match &mut sums {
                Some(sums) => sums.iter_mut().zip(probabilities).for_each(|(sum, p)| *sum += p),
                None => sums = Some(probabilities.collect()),
            }
        }
        // Divided once, because a sum of rounded quotients could exceed 1.
        let means = sums.unwrap_or_default().into_iter().map(|sum| sum / (views + 1) as f32).collect();
        Ok(Predictions::new(means, self.class_layout(), Activation::Linear))
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;

    #[test]
    fn views_are_averaged_as_probabilities() -> crate::Result<()> {
        let mut model = sequential![Input::new((3, 4, 4)), Flatten, Dense::new(1)]?;
        model.compile(Adam::default(), BinaryCrossentropy.from_logits(true), []);
        let x = random_uniform((5, 3, 4, 4), -3.0, 3.0)?;
        // Without random changes, all views are equal.
        let same = model.predict_augmented(&x, &ImageDataGenerator::new(), 2)?;
        let plain: Vec<f32> = model.predict(&x)?.probabilities().flatten().collect();
        for (row, expected) in same.iter().zip(&plain) {
            assert!((row[0] - expected).abs() < 1e-6, "{row:?}, not {expected}");
        }
        // The mean of the image and a view that is twice as large.
        let zoom = ImageDataGenerator::new().zoom_range((0.5, 0.5));
        let found = model.predict_augmented(&x, &zoom, 1)?;
        let y = Tensor::zeros(5, DType::F32, &device())?;
        let zoomed = model.predict_in_batches(zoom.flow(&x, &y, 5)?, 5)?;
        for ((row, plain), zoomed) in found.iter().zip(&plain).zip(zoomed.probabilities()) {
            assert!((zoomed[0] - plain).abs() > 1e-4, "the view is the image");
            assert!((row[0] - (plain + zoomed[0]) / 2.0).abs() < 1e-6, "{row:?}, not {plain} and {zoomed:?}");
        }
        Ok(())
    }

    #[test]
    fn all_views_are_scaled() -> crate::Result<()> {
        let model = sequential![Input::new((3, 4, 4)), Flatten, Dense::new(1).activation(Sigmoid)]?;
        let pixels = random_uniform((3, 3, 4, 4), 0.0, 255.0)?;
        let found = model.predict_augmented(&pixels, &ImageDataGenerator::new().rescale(1.0 / 255.0), 3)?;
        let expected = model.predict(&(&pixels / 255.0)?)?;
        for (found, expected) in found.iter().zip(expected.iter()) {
            assert!((found[0] - expected[0]).abs() < 1e-5, "{found:?}, not {expected:?}");
        }
        Ok(())
    }

    #[test]
    fn mixed_images_and_no_views_are_refused() -> crate::Result<()> {
        let model = sequential![Input::new((3, 4, 4)), Flatten, Dense::new(1).activation(Sigmoid)]?;
        let x = random_uniform((2, 3, 4, 4), 0.0, 1.0)?;
        let mixing = ImageDataGenerator::new().mixup(0.2);
        assert!(model.predict_augmented(&x, &mixing, 2).unwrap_err().to_string().contains("mixup"));
        assert!(model.predict_augmented(&x, &ImageDataGenerator::new(), 0).is_err());
        assert!(model.predict_augmented(&x.get(0)?, &ImageDataGenerator::new(), 1).is_err());
        Ok(())
    }
}
