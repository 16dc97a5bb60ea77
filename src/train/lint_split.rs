//! Advice on a validation split: whether both parts have samples of every class.

use candle_core::Tensor;

use crate::nn::class_of;

/// Largest number of classes listed in one message.
const MAX_NAMED_CLASSES: usize = 8;

/// Returns advice on the two parts of a split. Targets are prepared, one row for each class, `[rows, classes]`.
pub(super) fn split_advice(training: &Tensor, validation: &Tensor) -> crate::Result<Vec<String>> {
    let classes = |targets: &Tensor| -> crate::Result<Vec<bool>> {
        let rows = targets.to_vec2::<f32>()?;
        let count = rows.first().map_or(0, |row| row.len().max(2));
        let mut found = vec![false; count];
        rows.iter().for_each(|row| found[class_of(row)] = true);
        Ok(found)
    };
    let (first, last) = (classes(training)?, classes(validation)?);
    let missing = |here: &[bool], there: &[bool]| {
        let missing = here.iter().zip(there).enumerate().filter(|(_, (here, there))| !**here && **there);
        missing.map(|(class, _)| class.to_string()).collect::<Vec<String>>()
    };
    let parts = [("training", missing(&first, &last)), ("validation", missing(&last, &first))];
    let found = parts.iter().filter(|(_, classes)| !classes.is_empty()).map(|(part, classes)| {
        let more = if classes.len() > MAX_NAMED_CLASSES { ", …" } else { "" };
        let plural = if classes.len() == 1 { "" } else { "es" };
        format!(
            "`validation_split` takes the last samples, and leaves none of class{plural} {}{more} for {part}; \
             shuffle the samples before, or split by class with `images.split(0.2)?`",
            classes[..classes.len().min(MAX_NAMED_CLASSES)].join(", ")
        )
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ClassLayout;
    use crate::prelude::*;
    use crate::train::BuiltInLoss;

    fn advice_on(
        loss: BuiltInLoss,
        training: &[u32],
        validation: &[u32],
        columns: usize,
    ) -> crate::Result<Vec<String>> {
        let targets =
            |classes: &[u32]| loss.targets(&Tensor::new(classes, &device())?, &ClassLayout::of(&[columns]));
        split_advice(&targets(training)?, &targets(validation)?)
    }

    #[test]
    fn fit_on_sorted_data_gives_advice() -> crate::Result<()> {
        use super::super::lint::printed_advice;
        let x = random_uniform((8, 2), 0.0, 1.0)?;
        let sorted = Tensor::new(&[0u32, 0, 0, 0, 1, 1, 1, 1], &device())?;
        let mixed = Tensor::new(&[0u32, 1, 0, 1, 1, 0, 1, 0], &device())?;
        let last = |outputs, function| Dense::new(outputs).activation(function);
        for (outputs, function, loss) in [
            (1, Sigmoid, BinaryCrossentropy),
            (2, Softmax, SparseCategoricalCrossentropy),
            (1, Linear, MeanSquaredError),
        ] {
            let mut model = sequential![Input::new(2), last(outputs, function)]?;
            model.compile(SGD::default(), loss, []);
            let fit = |advice| Fit::epochs(1).validation_split(0.25).verbose(false).advice(advice);
            for (y, advice) in [(&sorted, true), (&mixed, true), (&sorted, false)] {
                model.fit((&x, y), fit(advice))?;
                let printed = printed_advice::take();
                let expected = advice && loss != MeanSquaredError && std::ptr::eq(y, &sorted);
                assert_eq!(
                    printed.contains("none of class 0 for validation"),
                    expected,
                    "{loss:?}: {printed}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn missing_class_in_one_part_is_named() -> crate::Result<()> {
        let sparse = SparseCategoricalCrossentropy;
        assert_eq!(advice_on(sparse, &[0, 1, 2, 1], &[2, 0, 1], 3)?, [""; 0]);
        assert_eq!(advice_on(BinaryCrossentropy, &[0, 1, 1], &[1, 0], 1)?, [""; 0]);
        // A class without samples in either part is not reported.
        assert_eq!(advice_on(sparse, &[0, 1], &[0, 1], 3)?, [""; 0]);
        let sorted = advice_on(sparse, &[0, 0, 1, 1, 1, 2], &[2, 2], 3)?;
        assert!(sorted[0].contains("none of classes 0, 1 for validation"), "{sorted:?}");
        let binary = advice_on(BinaryCrossentropy, &[0, 0, 0], &[1], 1)?;
        assert!(binary[0].contains("none of class 1 for training"), "{binary:?}");
        assert!(binary[1].contains("none of class 0 for validation"), "{binary:?}");
        Ok(())
    }
}
