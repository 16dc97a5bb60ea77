//! Advice on image values: whether they are preprocessed as the pretrained weights require.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::{DType, Tensor, TensorId};

use super::lint;
use crate::Result;
use crate::nn::{Mode, Model, Preprocessing};

/// Tolerance outside the expected range, as a share of its width. Augmentation and resizing overshoot.
const RANGE_TOLERANCE: f32 = 0.15;
/// Smallest share of the expected range that the values of a batch should cover.
const MIN_RANGE_SHARE: f32 = 0.35;
/// Number of images checked: enough to contain a dark and a bright pixel.
const MAX_IMAGES: usize = 32;
/// Largest maximum of pixels that were probably divided by 255.
const UNIT_RANGE_MAX: f32 = 1.5;
/// Smallest number of images to evaluate or predict whose values must cover the range (8: fewer can all be dark).
const MIN_IMAGES: usize = 8;

/// A model, by its last parameter, and what was done with it.
type Printed = (Option<TensorId>, &'static str);

/// Prints advice on the values of images to predict or evaluate. Prints it once for each model and each `what`. Many
/// models have the name `sequential`; the last parameter is the head's, and no other model has it.
pub(super) fn advise_once(model: &Model, x: &Tensor, what: &'static str) -> Result<()> {
    static PRINTED: LazyLock<Mutex<HashSet<Printed>>> = LazyLock::new(Mutex::default);
    let key = (model.params().last().map(|param| param.variable().id()), what);
    let printed = || PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if printed().contains(&key) {
        return Ok(());
    }
    if let Some(advice) = image_advice(model, x, what)? {
        lint::print_advice([&advice]);
        printed().insert(key);
    }
    Ok(())
}

/// Returns advice on the values of a batch. `what` is "training", "validation", "evaluated" or "predicted".
pub(super) fn image_advice(model: &Model, x: &Tensor, what: &str) -> Result<Option<String>> {
    if x.elem_count() == 0 {
        return Ok(None);
    }
    let x = x.narrow(0, 0, x.dim(0)?.min(MAX_IMAGES))?.to_dtype(DType::F32)?;
    let Some((network, preprocessing, seen)) = inputs_of_pretrained(model, &x)? else { return Ok(None) };
    let values = seen.flatten_all()?;
    let (min, max) = (values.min(0)?.to_scalar::<f32>()?, values.max(0)?.to_scalar::<f32>()?);
    let must_cover = x.dim(0)? >= MIN_IMAGES || matches!(what, "training" | "validation");
    Ok(problem(preprocessing.range(), (min, max), must_cover).map(|advice| {
        let (low, high) = preprocessing.range();
        let images = match what {
            "predicted" => "the images to predict",
            "evaluated" => "the images to evaluate",
            "validation" => "the validation images",
            _ => "the training images",
        };
        format!(
            "the values of {images} go from {min:.2} to {max:.2}, but the weights of `{network}` were trained on \
             values from {low:.2} to {high:.2}; {advice}"
        )
    }))
}

/// Returns the problem with values in `min..=max`, for weights trained on values in `low..=high`. `must_cover`:
/// whether there are enough images that their values must cover the range.
fn problem((low, high): (f32, f32), (min, max): (f32, f32), must_cover: bool) -> Option<&'static str> {
    let span = high - low;
    let is_inside = min >= low - RANGE_TOLERANCE * span && max <= high + RANGE_TOLERANCE * span;
    let is_wide = max - min >= MIN_RANGE_SHARE * span;
    // Preprocessed images have values on both sides of the mean.
    let is_centred = low >= 0.0 || min < 0.0;
    match () {
        () if is_inside && (is_wide && is_centred || !must_cover) => None,
        () if min >= 0.0 && max <= UNIT_RANGE_MAX => {
            Some("use `model.preprocess(&x)?` on pixels from 0 to 255, without dividing by 255")
        }
        () if min >= 0.0 => Some("use `model.preprocess(&x)?` on pixels from 0 to 255"),
        () => Some(
            "use `model.preprocess(&x)?` once, on pixels from 0 to 255; these look preprocessed twice or in another way",
        ),
    }
}

/// Returns the values that reach the first pretrained network in a model, with the network's name and
/// its preprocessing.
fn inputs_of_pretrained(model: &Model, x: &Tensor) -> Result<Option<(String, Preprocessing, Tensor)>> {
    if let Some(preprocessing) = model.own_preprocessing() {
        let is_of_images = model.is_pretrained() && matches!(x.dims(), [_, 3, _, _]);
        return Ok(is_of_images.then(|| (model.name().to_owned(), preprocessing, x.clone())));
    }
    for node in model.nodes() {
        let Some(inside) = node.layer.model() else { continue };
        let Some(input) = node.inputs().next() else { continue };
        if inside.preprocessing().is_none() {
            continue;
        }
        // Layers before the network may rescale the values.
        let value = match input {
            0 => x.clone(),
            input => model.forward_to(x, Mode::Inference, &[input])?.swap_remove(0),
        };
        return inputs_of_pretrained(inside, &value);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// Returns images with dark, medium and bright pixels, like real ones.
    fn pixels() -> Result<Tensor> {
        let values = (0..8 * 3 * 64 * 64).map(|at| (at * 37 % 256) as f32).collect();
        Ok(Tensor::from_vec(values, (8, 3, 64, 64), &device())?)
    }

    #[test]
    fn each_preprocessing_accepts_only_its_own_images() -> Result<()> {
        let ways = [Preprocessing::TORCH, Preprocessing::CAFFE, Preprocessing::TF];
        let bounds = |x: &Tensor| -> Result<(f32, f32)> {
            let values = x.flatten_all()?;
            Ok((values.min(0)?.to_scalar()?, values.max(0)?.to_scalar()?))
        };
        let pixels = pixels()?;
        for way in ways {
            let right = way.apply(&pixels)?;
            assert_eq!(problem(way.range(), bounds(&right)?, true), None, "{way:?}");
            let unit = (&pixels / 255.0)?;
            for (name, wrong) in [
                ("raw", pixels.clone()),
                ("from 0 to 1", unit.clone()),
                ("twice", way.apply(&right)?),
                ("after a division by 255", way.apply(&unit)?),
                ("divided by 255 afterwards", (&right / 255.0)?),
            ] {
                assert!(problem(way.range(), bounds(&wrong)?, true).is_some(), "{way:?}: {name}");
            }
        }
        // Images preprocessed in one way for weights that expect another, where the values differ
        // enough. The range of TF lies inside that of TORCH.
        for (way, other) in [(0, 1), (1, 0), (1, 2), (2, 0), (2, 1)] {
            let found = bounds(&ways[other].apply(&pixels)?)?;
            assert!(
                problem(ways[way].range(), found, true).is_some(),
                "{:?} for {:?}",
                ways[other],
                ways[way]
            );
        }
        Ok(())
    }

    #[test]
    fn fit_checks_training_and_validation_images() -> Result<()> {
        use super::super::lint::printed_advice;
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        let (raw, y) = (pixels()?, Tensor::new(&[0u32, 1, 0, 1, 0, 1, 0, 1], &device())?);
        let right = base.preprocess(&raw)?;
        let mut model = sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)]?;
        model.compile(Adam::default(), BinaryCrossentropy, []);
        let fit = |cached| Fit::epochs(2).verbose(false).cache_features(cached);
        for cached in [true, false] {
            model.fit((&right, &y), fit(cached).validation_data((&right, &y)))?;
            assert_eq!(printed_advice::take(), "", "cached: {cached}");
            model.fit((&right, &y), fit(cached).validation_data((&raw, &y)))?;
            let printed = printed_advice::take();
            let count = printed.matches("the values of the validation images go from 0.00 to 255.00").count();
            assert!(count == 1 && !printed.contains("the training images"), "cached: {cached}: {printed}");
            model.fit((&raw, &y), fit(cached).validation_data((&right, &y)))?;
            let printed = printed_advice::take();
            assert!(
                printed.contains("the values of the training images") && !printed.contains("validation"),
                "{printed}"
            );
        }
        // A generator that only preprocesses does not augment.
        let plain = ImageDataGenerator::new().preprocess_for(&base)?;
        for (datagen, is_augmented) in [(plain.clone(), false), (plain.horizontal_flip(true), true)] {
            model.fit((&right, &y), fit(true).validation_data(datagen.flow(&raw, &y, 4)?))?;
            let printed = printed_advice::take();
            assert_eq!(printed.contains("the validation data are augmented"), is_augmented, "{printed}");
            assert!(!printed.contains("the values of the"), "{printed}");
        }
        Ok(())
    }

    #[test]
    fn layers_before_the_network_are_applied_first() -> Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let pixels = pixels()?;
        let (low, high) = base.own_preprocessing().unwrap().range();
        let scale = f64::from(high - low) / 255.0;
        let rescaled = sequential![
            Input::new((3, 64, 64)),
            Rescaling::new(scale).offset(f64::from(low)),
            base.clone(),
            GlobalAveragePooling2D,
            Dense::new(1)
        ]?;
        assert_eq!(image_advice(&rescaled, &pixels, "training")?, None);
        let printed = image_advice(&rescaled, &base.preprocess(&pixels)?, "validation")?.unwrap();
        assert!(
            printed.contains("the values of the validation images") && printed.contains("`vgg16`"),
            "{printed}"
        );
        Ok(())
    }

    #[test]
    fn raw_images_to_evaluate_or_predict_give_advice_once() -> Result<()> {
        use super::super::lint::printed_advice;
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let with_head = || sequential![&base, GlobalAveragePooling2D, Dense::new(1).activation(Sigmoid)];
        let mut model = with_head()?;
        model.compile(Adam::default(), BinaryCrossentropy, []);
        let (x, y) = (pixels()?, Tensor::zeros(8, DType::U32, &device())?);
        let right = base.preprocess(&x)?;
        model.evaluate(&right, &y)?;
        model.predict(&right)?;
        // One dark image has values in a part of the range only.
        model.predict(&base.preprocess(&Tensor::full(3f32, (1, 3, 64, 64), &device())?)?)?;
        assert_eq!(printed_advice::take(), "");
        for _ in 0..2 {
            model.evaluate(&x, &y)?;
            model.predict(&x)?;
        }
        let said = printed_advice::take();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].contains("images to evaluate") && lines[1].contains("images to predict"), "{said}");
        // Another model of the same name, with the same network.
        with_head()?.predict(&x)?;
        assert_eq!(printed_advice::take().lines().count(), 1);
        Ok(())
    }
}
