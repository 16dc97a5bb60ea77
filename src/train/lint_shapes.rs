//! Advice on shapes: inputs that look like channels last, a last batch of one sample, and metrics of one class for several
//! labels.

use super::Compiled;
use super::lint::is_training_statistics;
use super::metric::BuiltInMetric;
use crate::data::Samples;
use crate::nn::{Activation, LayerConfig, Model};

/// Smallest height and width that count as those of an image, in pixels. A smaller first dimension is rather a number of
/// channels.
const MIN_SIDE: usize = 8;

/// Returns advice on an input shape such as `(32, 32, 3)` before a convolution, which takes the first dimension as
/// channels.
pub(super) fn input_shape_advice(model: &Model) -> Option<String> {
    let [height, width, channels @ (1 | 3)] = *model.input_shape() else { return None };
    let keeps_shape = |config: &Option<LayerConfig>| {
        matches!(
            config,
            Some(
                LayerConfig::Activation(_)
                    | LayerConfig::BatchNormalization(_)
                    | LayerConfig::Dropout(_)
                    | LayerConfig::Rescaling(_)
            )
        )
    };
    let first = model.nodes()[1..].iter().find(|node| !keeps_shape(&node.config))?;
    let takes_channels_first = matches!(
        first.config,
        Some(
            LayerConfig::AveragePooling2D(_)
                | LayerConfig::Conv2D(_)
                | LayerConfig::MaxPooling2D(_)
                | LayerConfig::SeparableConv2D(_)
                | LayerConfig::ZeroPadding2D(_)
        )
    );
    (takes_channels_first && height.min(width) >= MIN_SIDE).then(|| {
        format!(
            "the input shape ({height}, {width}, {channels}) looks like channels last, but images are channels first here: \
             `Input::new(({channels}, {height}, {width}))` and `x.permute((0, 3, 1, 2))?`"
        )
    })
}

/// Returns advice on a last batch of one sample, which has no variance for the batch normalisation of features.
pub(super) fn last_batch_advice(model: &Model, samples: Option<&Samples>) -> Option<String> {
    let samples = samples.filter(|samples| samples.last_batch() == 1)?;
    let layers = model.layers();
    let is_of_features = layers
        .iter()
        .any(|(_, layer)| layer.output_shape().len() == 1 && is_training_statistics(&layer.params()));
    is_of_features.then(|| {
        let count = samples.count();
        format!(
            "the last batch of the {count} samples has one sample, for which batch normalisation returns a constant; \
             choose a batch size that leaves another remainder"
        )
    })
}

/// Returns advice on metrics that take the largest output as the class of a sample, although the loss is for several
/// labels a sample.
pub(super) fn label_advice(model: &Model, compiled: &Compiled) -> Option<String> {
    let loss = compiled.loss.built_in()?;
    let &[outputs] = model.output_shape() else { return None };
    if outputs < 2
        || !loss.has_classes()
        || loss.counts_classes()
        || model.last_activation() == Activation::Softmax
    {
        return None;
    }
    let metric = compiled.metrics.iter().find_map(|metric| match metric.as_built_in()? {
        BuiltInMetric::Accuracy => Some("Accuracy"),
        BuiltInMetric::TopKCategoricalAccuracy(_) => Some("TopKCategoricalAccuracy"),
        _ => None,
    })?;
    let name = loss.name();
    Some(format!(
        "{metric} takes the largest of the {outputs} outputs as the class of a sample, but {name} is for several labels a \
         sample; take `BinaryAccuracy`, which counts each output, or SparseCategoricalCrossentropy for one class a sample"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::lint::printed_advice;
    use crate::Result;
    use crate::prelude::*;

    #[test]
    fn inputs_that_look_like_channels_last_give_advice() -> Result<()> {
        let y = random_uniform(4, 0.0, 1.0)?;
        for (shape, is_noted) in [((16, 16, 3), true), ((3, 16, 16), false), ((4, 16, 1), false)] {
            let (conv, dense) = (Conv2D::new(2, 1), Dense::new(1));
            let rescaling = Rescaling::new(1.0);
            let mut model = sequential![Input::new(shape), rescaling, conv, GlobalAveragePooling2D, dense]?;
            model.compile(SGD::new(1e-3), MeanSquaredError, []);
            let x = random_uniform((4, shape.0, shape.1, shape.2), 0.0, 1.0)?;
            printed_advice::take();
            model.fit((&x, &y), Fit::epochs(1).verbose(false).chart(false))?;
            assert_eq!(printed_advice::take().contains("channels first"), is_noted, "{shape:?}");
        }
        Ok(())
    }

    #[test]
    fn a_last_batch_of_one_sample_gives_advice() -> Result<()> {
        for (count, is_noted) in [(33, true), (32, false), (34, false)] {
            let (x, y) = (random_uniform((count, 4), 0.0, 1.0)?, random_uniform(count, 0.0, 1.0)?);
            let mut model = sequential![Input::new(4), BatchNormalization::default(), Dense::new(1)]?;
            model.compile(SGD::new(1e-3), MeanSquaredError, []);
            printed_advice::take();
            model.fit((&x, &y), Fit::epochs(1).batch_size(8).verbose(false).chart(false))?;
            assert_eq!(printed_advice::take().contains("the last batch"), is_noted, "{count} samples");
        }
        Ok(())
    }

    #[test]
    fn the_accuracy_of_several_labels_gives_advice() -> Result<()> {
        let (x, y) = (random_uniform((8, 4), 0.0, 1.0)?, random_uniform((8, 3), 0.0, 1.0)?);
        let cases =
            [(Accuracy, true), (TopKCategoricalAccuracy(2), true), (BinaryAccuracy, false), (AUC, false)];
        for (metric, is_noted) in cases {
            let mut model = sequential![Input::new(4), Dense::new(3).activation(Sigmoid)]?;
            model.compile(SGD::new(1e-3), BinaryCrossentropy, [metric]);
            printed_advice::take();
            model.fit((&x, &y), Fit::epochs(1).verbose(false).chart(false))?;
            assert_eq!(printed_advice::take().contains("several labels"), is_noted);
        }
        Ok(())
    }
}
