//! What a learner gets wrong without an error, said when `fit` begins.

use candle_core::Tensor;

use super::Compiled;
use crate::Result;
use crate::nn::{Activation, Model, Param};

/// Batches below this make poor statistics.
const SMALL_BATCH: usize = 8;
/// Pretrained layers are spoilt by larger steps.
const FINE_TUNING_RATE: f64 = 1e-4;

/// Tells the user.
pub(super) fn say(found: &[String]) {
    found.iter().for_each(|found| eprintln!("note: {found}"));
}

/// What looks like a mistake in a training that is about to begin, a sentence or two each.
pub(super) fn of_training(model: &Model, compiled: &Compiled, validation_varies: bool) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(last_function(model, compiled));
    let learns = |model: &Model| model.is_pretrained() && !model.trainable_params().is_empty();
    let inside = model.nodes().iter().filter_map(|node| node.layer.model()).find(|inside| learns(inside));
    let rate = compiled.optimizer.learning_rate();
    if let Some(inside) = inside.filter(|_| rate > FINE_TUNING_RATE) {
        let name = inside.name();
        found.push(format!(
            "pretrained layers of `{name}` learn at a rate of {rate}, which is for a new head and can spoil them; \
             fine-tune with `Adam::new(1e-5)`, or freeze `{name}`"
        ));
    }
    if validation_varies {
        found.push(
            "the validation data are augmented; judge the model by pictures as they are: `.validation_data((&x, &y))`"
                .into(),
        );
    }
    found
}

/// The loss and the last layer's function must belong to each other.
fn last_function(model: &Model, compiled: &Compiled) -> Option<String> {
    let expected = compiled.loss.last_activation()?;
    let found = model.last_activation();
    let name = compiled.loss.name();
    let problem = match (expected, found) {
        _ if expected == found => return None,
        (Activation::Linear, Activation::Sigmoid | Activation::Softmax) => format!(
            "{name} takes logits and applies {found:?} itself, but the model ends with {found:?} too; \
             leave one of them out"
        ),
        (Activation::Linear, _) => return None,
        _ => format!(
            "{name} takes probabilities, but the model ends with {found:?}; \
             end it with `.activation({expected:?})`, or say `.from_logits(true)` of the loss"
        ),
    };
    Some(problem)
}

/// What looks like a mistake in the first batch.
pub(super) fn of_batch(model: &Model, x: &Tensor) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let batch = x.dim(0)?;
    let norms = model.layers().into_iter().filter(|(_, layer)| layer.kind() == "BatchNormalization");
    let learns =
        |params: &[Param]| params.iter().any(Param::is_trainable) && !params.iter().any(Param::is_at_rest);
    let learning = norms.filter(|(_, layer)| learns(&layer.params())).count();
    if learning > 0 && batch < SMALL_BATCH {
        found.push(format!(
            "{learning} layers of batch normalisation take their statistics from batches of {batch}; \
             use larger batches, or freeze the model that they are in"
        ));
    }
    let trained = model.is_pretrained()
        || model.nodes().iter().any(|node| node.layer.model().is_some_and(Model::is_pretrained));
    if let (Some(preprocessing), [_, 3, _, _], true) = (model.preprocessing(), x.dims(), trained) {
        let (low, high) = preprocessing.range();
        let values = x.flatten_all()?;
        let (least, most) = (values.min(0)?.to_scalar::<f32>()?, values.max(0)?.to_scalar::<f32>()?);
        let share = (most - least) / (high - low);
        if !(0.35..=2.0).contains(&share) {
            found.push(format!(
                "the pictures' values go from {least:.2} to {most:.2}, but the weights of `{}` were trained on values \
                 from {low:.2} to {high:.2}; use `model.preprocess(&x)?` on pixels from 0 to 255",
                model.name()
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn model(base: &Model, last: Activation) -> Result<Model> {
        sequential![base, GlobalAveragePooling2D, Dense::new(1).activation(last)]
    }

    fn said(model: &mut Model, optimizer: impl crate::train::Optimizer + 'static, loss: Loss) -> Vec<String> {
        model.compile(optimizer, loss, []);
        of_training(model, model.compiled.as_ref().unwrap(), false)
    }

    #[test]
    fn classic_mistakes_are_told_and_nothing_else() -> Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        let mut right = model(&base, Sigmoid)?;
        assert_eq!(said(&mut right, Adam::default(), BinaryCrossentropy), [""; 0]);
        let twice = said(&mut right, Adam::default(), BinaryCrossentropy.from_logits(true));
        assert!(twice[0].contains("ends with Sigmoid too"), "{twice:?}");
        let bare = said(&mut model(&base, Linear)?, Adam::default(), BinaryCrossentropy);
        assert!(bare[0].contains("from_logits(true)"), "{bare:?}");
        base.unfreeze_from("block5_conv1")?;
        assert!(said(&mut right, Adam::default(), BinaryCrossentropy)[0].contains("Adam::new(1e-5)"));
        assert_eq!(said(&mut right, Adam::new(1e-5), BinaryCrossentropy), [""; 0]);
        Ok(())
    }

    #[test]
    fn pictures_that_were_not_preprocessed_are_told_for_pretrained_weights() -> Result<()> {
        let pixels = random_uniform((8, 3, 64, 64), 0.0, 255.0)?;
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let pretrained = model(&base, Sigmoid)?;
        for wrong in [&pixels, &(&pixels / 255.0)?] {
            assert!(of_batch(&pretrained, wrong)?[0].contains("preprocess"));
        }
        assert_eq!(of_batch(&pretrained, &base.preprocess(&pixels)?)?, [""; 0]);
        let fresh =
            Vgg16::new(Weights::Random(1)).alpha(0.1).include_top(false).input_shape((3, 64, 64)).build()?;
        assert_eq!(of_batch(&model(&fresh, Sigmoid)?, &pixels)?, [""; 0]);
        let norms = ResNet50::new(Weights::Random(1))
            .alpha(0.1)
            .include_top(false)
            .input_shape((3, 64, 64))
            .build()?;
        let norms = model(&norms, Sigmoid)?;
        assert!(of_batch(&norms, &pixels.i(..2)?)?[0].contains("batches of 2"));
        assert_eq!(of_batch(&norms, &pixels)?, [""; 0]);
        Ok(())
    }
}
