//! Random splits that keep the proportions of the classes.

use candle_core::Tensor;

use super::class_names::read_class_numbers;
use crate::{Error, Result, random};

/// Returns the sample indices of both parts, in random order within each class.
pub(super) fn stratified(labels: &[u32], classes: usize, share: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut stream = random::stream();
    for class in 0..classes as u32 {
        let members: Vec<usize> = (0..labels.len()).filter(|i| labels[*i] == class).collect();
        let order = random::permutation(&mut stream, members.len());
        let held = (members.len() as f64 * share).round().max(0.0) as usize;
        // Each class keeps an image for training.
        let held = held.min(members.len().saturating_sub(1));
        second.extend(order.iter().take(held).map(|at| members[*at]));
        first.extend(order.iter().skip(held).map(|at| members[*at]));
    }
    if !(0.0..1.0).contains(&share) || first.is_empty() || second.is_empty() {
        let expected = format!(
            "a share between 0 and 1 that leaves both parts some of {} images; each class keeps one",
            labels.len()
        );
        return Err(Error::Argument { name: "validation", expected, found: share.to_string() });
    }
    Ok((first, second))
}

/// Splits samples into `folds` parts for cross-validation. Each part has the proportions of the classes, like those of
/// scikit-learn's `StratifiedKFold(shuffle=True)`.
///
/// Returns the sample numbers of each fold: for training, and for validation. `y` are class numbers, `[N]`. Every
/// sample is in the validation part of one fold.
///
/// ```
/// use headstart::prelude::*;
/// let y = Tensor::new(&[0u32, 0, 0, 1, 1, 1], &device())?;
/// for (train, validation) in stratified_folds(&y, 3)? {
///     assert_eq!((train.dims(), validation.dims()), (&[4][..], &[2][..]));
///     assert_eq!(y.index_select(&validation, 0)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?, 1.0);
/// }
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if there are fewer than two folds, a class has fewer samples than there are folds, or a target
/// is not a class number.
pub fn stratified_folds(y: &Tensor, folds: usize) -> Result<Vec<(Tensor, Tensor)>> {
    if !matches!(*y.dims(), [_] | [_, 1]) {
        let expected = "class numbers, `[N]`; `y.argmax(1)?` gives those of one-hot rows".into();
        return Err(Error::Argument { name: "y", expected, found: format!("the shape {:?}", y.dims()) });
    }
    let labels = read_class_numbers("y", y)?;
    let mut classes = labels.clone();
    classes.sort_unstable();
    classes.dedup();
    let members: Vec<Vec<u32>> = classes
        .iter()
        .map(|class| (0..labels.len() as u32).filter(|at| labels[*at as usize] == *class).collect())
        .collect();
    let fewest = members.iter().map(Vec::len).min().unwrap_or(0);
    if folds < 2 || folds > fewest {
        let expected = format!("a number from 2 to {fewest}, the size of the smallest class");
        return Err(Error::Argument { name: "folds", expected, found: folds.to_string() });
    }
    let mut fold_of = vec![0; y.elem_count()];
    let mut stream = random::stream();
    // The samples of all classes are dealt to the folds in turn, so that their sizes differ by one at most.
    let mut next = 0;
    for members in &members {
        for at in random::permutation(&mut stream, members.len()) {
            fold_of[members[at] as usize] = next % folds;
            next += 1;
        }
    }
    let rows = |is_in: &dyn Fn(usize) -> bool| -> Result<Tensor> {
        let rows: Vec<u32> = (0..fold_of.len() as u32).filter(|at| is_in(fold_of[*at as usize])).collect();
        Ok(Tensor::new(rows, y.device())?)
    };
    (0..folds).map(|fold| Ok((rows(&|other| other != fold)?, rows(&|other| other == fold)?))).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::device;

    #[test]
    fn folds_are_disjoint_and_have_the_proportions_of_the_classes() -> Result<()> {
        // 23 samples of class 0, 11 of class 2.
        let labels: Vec<f32> = (0..34).map(|at| if at % 3 == 1 { 2.0 } else { 0.0 }).collect();
        let y = Tensor::new(labels.as_slice(), &device())?;
        let (mut seen, mut sizes) = (Vec::new(), Vec::new());
        for (train, validation) in stratified_folds(&y, 4)? {
            let (train, validation) = (train.to_vec1::<u32>()?, validation.to_vec1::<u32>()?);
            assert!(train.iter().all(|at| !validation.contains(at)) && train.len() + validation.len() == 34);
            let rare = validation.iter().filter(|at| labels[**at as usize] == 2.0).count();
            assert!((2..=3).contains(&rare), "{rare} of 11 in one of 4 folds");
            sizes.push(validation.len());
            seen.extend(validation);
        }
        assert!(seen.windows(2).any(|pair| pair[0] + 1 != pair[1]), "not shuffled");
        seen.sort_unstable();
        assert_eq!(seen, (0..34).collect::<Vec<u32>>());
        assert!(sizes.iter().all(|size| (8..=9).contains(size)), "{sizes:?}");
        Ok(())
    }

    #[test]
    fn impossible_folds_are_refused() -> Result<()> {
        let y = Tensor::new(&[0u32, 0, 0, 1, 1], &device())?;
        for folds in [0, 1, 3] {
            let problem = stratified_folds(&y, folds).unwrap_err().to_string();
            assert!(problem.contains("from 2 to 2"), "{problem}");
        }
        assert!(stratified_folds(&Tensor::new(&[0.5f32, 1.0], &device())?, 2).is_err());
        assert!(stratified_folds(&Tensor::zeros(0, DType::U32, &device())?, 2).is_err());
        let one_hot = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &device())?;
        assert!(stratified_folds(&one_hot, 2).unwrap_err().to_string().contains("argmax"));
        Ok(())
    }
}
