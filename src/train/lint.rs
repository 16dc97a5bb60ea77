//! Advice on common mistakes that cause no error, printed when `fit` starts.

use std::time::Duration;

use candle_core::Tensor;

use super::{Compiled, lint_rates};
use crate::Result;
use crate::nn::{Activation, Model, Param, keeps_statistics};

/// Batches with fewer samples give poor statistics for batch normalisation.
const SMALL_BATCH: usize = 8;
/// How many copies of the largest layer output exist at the same time.
const LARGEST_OUTPUT_COPIES: usize = 3;
/// Trainings that take longer than this (10 min) are announced.
const LONG_TRAINING: Duration = Duration::from_secs(600);

/// Prints advice to stderr.
pub(super) fn print_advice<'a>(found: impl IntoIterator<Item = &'a String>) {
    for found in found {
        crate::notes::note(format_args!("note: {found}"));
        #[cfg(test)]
        printed_advice::add(found);
    }
}

/// Advice printed by the current thread, for tests of a whole `fit`.
#[cfg(test)]
pub(super) mod printed_advice {
    use std::cell::RefCell;

    thread_local! {
        static PRINTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn add(found: &str) {
        PRINTED.with_borrow_mut(|advice| advice.push(found.to_owned()));
    }

    /// Returns all advice so far and clears it.
    pub(crate) fn take() -> String {
        PRINTED.take().join("\n")
    }
}

/// Returns advice on the first and the last epoch of a training.
pub(super) fn epoch_advice((first, last): (usize, usize)) -> Option<String> {
    (first > last && last > 0).then(|| {
        let done = first - 1;
        format!("nothing to train: `initial_epoch` is {done}, and `Fit::epochs({last})` ends at epoch {last}")
    })
}

/// Returns advice on the outputs of a model.
pub(super) fn output_advice<'a>(outputs: impl Iterator<Item = &'a f32> + Clone) -> Option<String> {
    let invalid = outputs.clone().filter(|value| value.is_nan()).count();
    let count = outputs.count();
    (invalid > 0)
        .then(|| format!("{invalid} of {count} outputs are NaN; look for NaN in the data and the weights"))
}

/// Returns advice on a training of `steps` steps that is about to start, one or two sentences each.
pub(super) fn training_advice(
    model: &Model,
    compiled: &Compiled,
    validation_is_augmented: bool,
    steps: usize,
) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(last_function(model, compiled));
    found.extend(lint_rates::pretrained_rate_advice(model, compiled, steps));
    found.extend(statistics_of_random_weights(model));
    if validation_is_augmented {
        found.push(
            "the validation data are augmented; validate on images without augmentation: `.validation_data((&x, &y))`"
                .into(),
        );
    }
    found
}

/// Estimates the memory of one training step, in bytes. It counts the outputs of the trainable layers,
/// kept for the backward pass, and several copies of the largest output. It adds a gradient and two
/// optimizer moments for each trainable weight. For VGG16 and ResNet50 the estimate is within a
/// third of the measured memory, and above it.
fn memory_of_a_step(model: &Model, batch: usize) -> usize {
    fn look(model: &Model, is_trainable: &mut bool, stored: &mut usize, largest: &mut usize) {
        for node in &model.nodes()[1..] {
            if let Some(inside) = node.layer.model() {
                look(inside, is_trainable, stored, largest);
                continue;
            }
            let output = node.layer.output_shape().iter().product();
            *is_trainable |= node.layer.params().iter().any(Param::is_trainable);
            *stored += if *is_trainable { output } else { 0 };
            *largest = output.max(*largest);
        }
    }
    let (mut stored, mut largest) = (0, 0);
    look(model, &mut false, &mut stored, &mut largest);
    let weights: usize = model.trainable_params().iter().map(Param::count).sum();
    size_of::<f32>() * ((stored + LARGEST_OUTPUT_COPIES * largest) * batch + 3 * weights)
}

/// Warns if a training step needs more memory than is free.
fn memory_advice(model: &Model, batch: usize, free: Option<usize>) -> Vec<String> {
    let needed = memory_of_a_step(model, batch);
    let Some(free) = free.filter(|free| needed > *free) else { return Vec::new() };
    let gigabytes = |bytes: usize| bytes as f64 / 1e9;
    let fits = (batch * free / needed).max(1);
    vec![format!(
        "a batch of {batch} needs about {:.1} GB of memory, and {:.1} GB are free; \
         use batches of {fits}, smaller images, or freeze more layers",
        gigabytes(needed),
        gigabytes(free)
    )]
}

/// Returns the memory available to this process, in bytes. `None` where the system does not report it.
fn free_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Warns if the training takes long.
pub(super) fn time_advice(left: Duration) -> Vec<String> {
    if left < LONG_TRAINING {
        return Vec::new();
    }
    let minutes = left.as_secs() / 60;
    vec![format!(
        "about {minutes} minutes remain; Stop keeps the trained weights. To train faster, freeze more layers, or use \
         smaller images or fewer epochs"
    )]
}

/// Warns about frozen batch normalisation in a network with random weights: its moving statistics do not
/// fit the data.
fn statistics_of_random_weights(model: &Model) -> Option<String> {
    fn frozen(model: &Model, pretrained: bool) -> usize {
        let pretrained = pretrained || model.is_pretrained();
        let count = |node: &crate::nn::Node| match node.layer.model() {
            Some(inside) => frozen(inside, pretrained),
            None => {
                let params = node.layer.params();
                let is_random = !pretrained && !params.iter().all(Param::is_loaded);
                usize::from(is_random && keeps_statistics(&params))
            }
        };
        model.nodes().iter().map(count).sum()
    }
    let layers = frozen(model, false);
    (layers > 0).then(|| {
        format!(
            "{layers} layers of batch normalisation have random weights, were frozen, and keep using their moving \
             statistics; call `model.unfreeze_statistics()` to train them on each batch's"
        )
    })
}

/// Warns if the loss and the activation of the last layer do not match.
fn last_function(model: &Model, compiled: &Compiled) -> Option<String> {
    let loss = compiled.loss.built_in()?;
    let expected = loss.last_activation()?;
    let found = model.last_activation();
    let name = loss.name();
    let outputs = model.class_layout().classes;
    let is_of_classes = loss.counts_classes();
    if outputs == 1 && (is_of_classes || found == Activation::Softmax) {
        return Some(
            "Softmax over one output is always 1, so the model cannot be trained; for two classes end it with \
             `Dense::new(1).activation(Sigmoid)` and use BinaryCrossentropy, for more use one output per class"
                .into(),
        );
    }
    let problem = match (expected, found) {
        _ if expected == found => return None,
        (Activation::Sigmoid, Activation::Softmax) => format!(
            "{name} treats each output separately, but the model ends with Softmax, whose outputs sum to 1; \
             use CategoricalCrossentropy, or end the model with `.activation(Sigmoid)`"
        ),
        (Activation::Softmax, Activation::Sigmoid) => format!(
            "{name} takes outputs that sum to 1, but the model ends with Sigmoid; end it with `.activation(Softmax)`, or \
             use BinaryCrossentropy if a sample may have several classes"
        ),
        (Activation::Linear, Activation::Sigmoid | Activation::Softmax) => format!(
            "{name} takes logits and applies {found:?} itself, but the model ends with {found:?} too; \
             remove one of them"
        ),
        (Activation::Linear, _) => return None,
        _ => format!(
            "{name} takes probabilities, but the model ends with {found:?}; \
             end it with `.activation({expected:?})`, or set `.from_logits(true)` on the loss"
        ),
    };
    Some(problem)
}

/// Whether a layer with these parameters computes statistics of batches during training.
pub(super) fn is_training_statistics(params: &[Param]) -> bool {
    params.iter().any(Param::is_statistic)
        && params.iter().any(Param::is_trainable)
        && !params.iter().any(Param::is_in_inference_mode)
}

/// Returns advice on the first batch.
pub(super) fn batch_advice(model: &Model, x: &Tensor) -> Result<Vec<String>> {
    let batch = x.dim(0)?;
    let mut found = memory_advice(model, batch, free_memory());
    let layers = model.layers();
    let trainable = layers.iter().filter(|(_, layer)| is_training_statistics(&layer.params())).count();
    if trainable > 0 && batch < SMALL_BATCH {
        found.push(format!(
            "{trainable} layers of batch normalisation take their statistics from batches of {batch}; \
             use larger batches, or freeze the model that they are in"
        ));
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

    fn advice_on(
        model: &mut Model,
        optimizer: impl crate::train::Optimizer + 'static,
        loss: impl Loss + 'static,
    ) -> Vec<String> {
        model.compile(optimizer, loss, []);
        training_advice(model, model.training_state().unwrap().compiled.as_ref().unwrap(), false, 1)
    }

    #[test]
    fn only_common_mistakes_give_advice() -> Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        base.freeze();
        let mut right = model(&base, Sigmoid)?;
        assert_eq!(advice_on(&mut right, Adam::default(), BinaryCrossentropy), [""; 0]);
        let twice = advice_on(&mut right, Adam::default(), BinaryCrossentropy.from_logits(true));
        assert!(twice[0].contains("ends with Sigmoid too"), "{twice:?}");
        for loss in [BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy] {
            let one = advice_on(&mut model(&base, Softmax)?, Adam::default(), loss);
            assert!(one[0].contains("Softmax over one output is always 1"), "{one:?}");
        }
        for loss in [CategoricalCrossentropy, SparseCategoricalCrossentropy.from_logits(true)] {
            let one = advice_on(&mut model(&base, Linear)?, Adam::default(), loss);
            assert!(one[0].contains("`Dense::new(1).activation(Sigmoid)`"), "{one:?}");
        }
        let mut two = sequential![&base, GlobalAveragePooling2D, Dense::new(2).activation(Softmax)]?;
        assert!(
            advice_on(&mut two, Adam::default(), BinaryCrossentropy)[0]
                .contains("use CategoricalCrossentropy")
        );
        assert_eq!(advice_on(&mut two, Adam::default(), CategoricalCrossentropy), [""; 0]);
        let mut sure = sequential![&base, GlobalAveragePooling2D, Dense::new(2).activation(Sigmoid)]?;
        assert!(
            advice_on(&mut sure, Adam::default(), SparseCategoricalCrossentropy)[0]
                .contains(".activation(Softmax)")
        );
        let maps = |last| sequential![Input::new((1, 6, 6)), Conv2D::new(1, 1).activation(last)];
        assert_eq!(advice_on(&mut maps(Sigmoid)?, Adam::default(), BinaryCrossentropy), [""; 0]);
        let twice = advice_on(&mut maps(Sigmoid)?, Adam::default(), BinaryCrossentropy.from_logits(true));
        assert!(twice[0].contains("ends with Sigmoid too"), "{twice:?}");
        let bare = advice_on(&mut model(&base, Linear)?, Adam::default(), BinaryCrossentropy);
        assert!(bare[0].contains("from_logits(true)"), "{bare:?}");
        base.unfreeze_from("block5_conv1")?;
        assert!(advice_on(&mut right, Adam::default(), BinaryCrossentropy)[0].contains("Adam::new(1e-5)"));
        assert_eq!(advice_on(&mut right, Adam::new(1e-5), BinaryCrossentropy), [""; 0]);
        let slow = Adam::default().learning_rate_multiplier(&base, 0.01);
        assert_eq!(advice_on(&mut right, slow, BinaryCrossentropy), [""; 0]);
        let adapted = Vgg16::new(Weights::Demo).build()?;
        adapted.enable_lora(Lora::new(2), |name| name.starts_with("fc"))?;
        let mut adapted = sequential![&adapted, Dense::new(1).activation(Sigmoid)]?;
        assert_eq!(advice_on(&mut adapted, Adam::default(), BinaryCrossentropy), [""; 0]);
        Ok(())
    }

    #[test]
    fn the_activation_of_a_convolution_is_known() -> Result<()> {
        let input = || Input::new((1, 6, 6));
        let mut plain = sequential![input(), Conv2D::new(1, 1).activation(Sigmoid)]?;
        let mut separable = sequential![input(), SeparableConv2D::new(1, 3).activation(Sigmoid)]?;
        for model in [&mut plain, &mut separable] {
            assert_eq!(advice_on(model, Adam::default(), BinaryCrossentropy), [""; 0]);
            let twice = advice_on(model, Adam::default(), BinaryCrossentropy.from_logits(true));
            assert!(twice[0].contains("ends with Sigmoid too"), "{twice:?}");
        }
        Ok(())
    }

    #[test]
    fn too_much_memory_or_time_gives_advice() -> Result<()> {
        let base = Vgg16::new(Weights::Random(0)).include_top(false).build()?;
        let whole = model(&base, Sigmoid)?;
        // Measured: 0.95 GB.
        let needed = memory_of_a_step(&whole, 8) as f64 / 1e9;
        assert!((0.9..1.2).contains(&needed), "{needed}");
        let advice = memory_advice(&whole, 8, Some(700_000_000));
        assert!(advice[0].contains("0.7 GB are free; use batches of 5"), "{advice:?}");
        assert_eq!(memory_advice(&whole, 8, Some(2_000_000_000)), [""; 0]);
        base.freeze();
        assert_eq!(memory_advice(&whole, 8, Some(700_000_000)), [""; 0]);
        assert!(time_advice(Duration::from_secs(3000))[0].contains("about 50 minutes remain"));
        assert_eq!(time_advice(Duration::from_secs(300)), [""; 0]);
        if cfg!(target_os = "linux") {
            assert!(free_memory().unwrap() > 1_000_000);
        }
        Ok(())
    }

    #[test]
    fn frozen_statistics_of_random_weights_give_advice() -> Result<()> {
        let norm = || sequential![Input::new(4), Dense::new(4), BatchNormalization::default(), Dense::new(1)];
        let mut model = norm()?;
        assert_eq!(advice_on(&mut model, Adam::default(), MeanSquaredError), [""; 0]);
        model.freeze();
        model.unfreeze();
        assert!(advice_on(&mut model, Adam::default(), MeanSquaredError)[0].contains("unfreeze_statistics"));
        model.unfreeze_statistics();
        assert_eq!(advice_on(&mut model, Adam::default(), MeanSquaredError), [""; 0]);
        // Loaded weights are not random.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        model.save_weights(&path)?;
        model.load_weights(&path)?;
        model.freeze();
        model.unfreeze();
        assert_eq!(advice_on(&mut model, Adam::default(), MeanSquaredError), [""; 0]);
        Ok(())
    }

    #[test]
    fn change_of_trainable_after_compile_is_reported_once() -> Result<()> {
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let mut model = model(&base, Sigmoid)?;
        model.compile(Adam::default(), BinaryCrossentropy, []);
        base.freeze();
        let params = model.trainable_params();
        let compiled = model.training_state_mut().compiled.as_mut().unwrap();
        let advice = compiled.change(&params).unwrap();
        assert!(advice.contains("129 weights are trainable, not 92"), "{advice}");
        assert_eq!(compiled.change(&params), None);
        Ok(())
    }

    #[test]
    fn images_without_preprocessing_give_advice_for_pretrained_weights() -> Result<()> {
        let pixels = random_uniform((8, 3, 64, 64), 0.0, 255.0)?;
        let base = Vgg16::new(Weights::Demo).include_top(false).build()?;
        let pretrained = model(&base, Sigmoid)?;
        let image_advice =
            |model: &Model, x: &Tensor| super::super::lint_images::image_advice(model, x, "training");
        for wrong in [&pixels, &(&pixels / 255.0)?] {
            assert!(image_advice(&pretrained, wrong)?.unwrap().contains("preprocess"));
        }
        assert_eq!(image_advice(&pretrained, &base.preprocess(&pixels)?)?, None);
        let fresh =
            Vgg16::new(Weights::Random(1)).alpha(0.1).include_top(false).input_shape((3, 64, 64)).build()?;
        assert_eq!(image_advice(&model(&fresh, Sigmoid)?, &pixels)?, None);
        let norms = ResNet50::new(Weights::Random(1))
            .alpha(0.1)
            .include_top(false)
            .input_shape((3, 64, 64))
            .build()?;
        let norms = model(&norms, Sigmoid)?;
        assert!(batch_advice(&norms, &pixels.i(..2)?)?[0].contains("batches of 2"));
        assert_eq!(batch_advice(&norms, &pixels)?, [""; 0]);
        Ok(())
    }
}
