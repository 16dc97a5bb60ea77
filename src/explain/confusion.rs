//! Which classes are taken for which.

use std::fmt;

use candle_core::{DType, Tensor};

use crate::chart::Chart;
use crate::data::{Dataset, Images, IntoDataset, check_same};
use crate::nn::Model;
use crate::train::{BATCH, Predictions};
use crate::{Error, Result};

/// How many samples of each class were given each class: a row for each true class, a column for
/// each predicted one.
///
/// ```
/// use headstart::prelude::*;
/// let model = sequential![Input::new(1), Activation::Linear]?;
/// let predictions = model.predict(&Tensor::new(&[[0.9f32], [0.2], [0.7], [0.1]], &device())?)?;
/// let truth = Tensor::new(&[1u32, 0, 0, 0], &device())?;
/// let matrix = ConfusionMatrix::new(&truth, &predictions, &["cat", "dog"])?;
/// assert_eq!(matrix.counts(), [[2, 1], [0, 1]]);
/// assert_eq!(matrix.accuracy(), 0.75);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// Counts, from true class numbers `[N]` and one row of outputs a sample: a number for each
    /// class, or, of two classes, one number for the second.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is not one row for each sample, or a class has no name.
    pub fn new(
        truth: &Tensor,
        predictions: &Predictions,
        classes: &[impl AsRef<str>],
    ) -> Result<ConfusionMatrix> {
        let names = classes.iter().map(|name| name.as_ref().to_owned()).collect();
        ConfusionMatrix::of(truth, predictions, names)
    }

    fn of(truth: &Tensor, predictions: &Predictions, names: Vec<String>) -> Result<ConfusionMatrix> {
        let truth = truth.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if truth.len() != predictions.len() {
            let (expected, found) =
                (format!("{}, one row for each sample", truth.len()), predictions.len().to_string());
            return Err(Error::Argument { name: "predictions", expected, found });
        }
        let mut counts = vec![vec![0; names.len()]; names.len()];
        for (truth, given) in truth.iter().map(|class| *class as usize).zip(predictions.classes()) {
            if truth.max(given) >= names.len() {
                let (expected, found) = (format!("a name for class {}", truth.max(given)), names.join(", "));
                return Err(Error::Argument { name: "classes", expected, found });
            }
            counts[truth][given] += 1;
        }
        Ok(ConfusionMatrix { classes: names, counts })
    }

    /// A row for each true class.
    pub fn counts(&self) -> &[Vec<usize>] {
        &self.counts
    }

    /// The share of samples whose class is right.
    pub fn accuracy(&self) -> f64 {
        let right: usize = (0..self.classes.len()).map(|class| self.counts[class][class]).sum();
        right as f64 / self.samples().max(1) as f64
    }

    fn samples(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Precision, recall and F1 of each class, as scikit-learn's `classification_report`.
    pub fn report(&self) -> ClassificationReport {
        let report = |class: usize| {
            let right = self.counts[class][class] as f64;
            let given: usize = self.counts.iter().map(|row| row[class]).sum();
            let support: usize = self.counts[class].iter().sum();
            let share = |of: usize| if of == 0 { 0.0 } else { right / of as f64 };
            let f1 = if given + support == 0 { 0.0 } else { 2.0 * right / (given + support) as f64 };
            ClassReport {
                class: self.classes[class].clone(),
                precision: share(given),
                recall: share(support),
                f1,
                support,
            }
        };
        ClassificationReport {
            classes: (0..self.classes.len()).map(report).collect(),
            accuracy: self.accuracy(),
        }
    }

    /// The matrix as a picture.
    pub fn plot(&self) -> Chart {
        Chart::of_confusion(&self.classes, &self.counts, &self.to_string())
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
        let line = |head: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>width$}")).collect();
            format!("{head:>width$}{cells}")
        };
        writeln!(f, "{}", line("true \\ predicted", self.classes.clone()))?;
        for (name, row) in self.classes.iter().zip(&self.counts) {
            writeln!(f, "{}", line(name, row.iter().map(usize::to_string).collect()))?;
        }
        write!(f, "{} samples, accuracy {:.4}", self.samples(), self.accuracy())
    }
}

/// One class of a [`ClassificationReport`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Of the samples given this class, the share that is of it.
    pub precision: f64,
    /// Of the samples of this class, the share that is given it.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// How many samples are of it.
    pub support: usize,
}

/// Precision, recall and F1, class by class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationReport {
    /// In the order of the classes.
    pub classes: Vec<ClassReport>,
    /// The share of samples whose class is right.
    pub accuracy: f64,
}

impl fmt::Display for ClassificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.classes.iter().map(|one| one.class.chars().count()).max().unwrap_or(0).max(12);
        writeln!(f, "{:>width$} precision    recall  f1-score   support", "")?;
        let row = |name: &str, of: [f64; 3], support: usize| {
            format!("{name:>width$} {:>9.2} {:>9.2} {:>9.2} {support:>9}", of[0], of[1], of[2])
        };
        for one in &self.classes {
            writeln!(f, "{}", row(&one.class, [one.precision, one.recall, one.f1], one.support))?;
        }
        let support: usize = self.classes.iter().map(|one| one.support).sum();
        writeln!(f, "{:>width$} {:>9} {:>9} {:>9.2} {support:>9}", "accuracy", "", "", self.accuracy)?;
        let mean = |weight: &dyn Fn(&ClassReport) -> f64| {
            let of = |value: &dyn Fn(&ClassReport) -> f64| {
                let whole: f64 = self.classes.iter().map(weight).sum();
                self.classes.iter().map(|one| value(one) * weight(one)).sum::<f64>() / whole.max(1e-12)
            };
            [of(&|one| one.precision), of(&|one| one.recall), of(&|one| one.f1)]
        };
        writeln!(f, "{}", row("macro avg", mean(&|_| 1.0), support))?;
        write!(f, "{}", row("weighted avg", mean(&|one| one.support as f64), support))
    }
}

impl Model {
    /// Which classes the model takes for which, on everything that `fit` takes: `confusion_matrix(&files)`.
    ///
    /// Classes have the names of the data, else those of the training data, else their numbers.
    ///
    /// # Errors
    /// As [`Model::predict`]; [`Error::Argument`] if the classes are not those of the training, or a
    /// target is no class.
    pub fn confusion_matrix(&self, data: impl IntoDataset) -> Result<ConfusionMatrix> {
        self.confusion_of(data.into_dataset(BATCH, false)?)
    }

    fn confusion_of(&self, mut data: Box<dyn Dataset>) -> Result<ConfusionMatrix> {
        let trained = self.compiled.as_ref().map_or(&[][..], |compiled| &compiled.class_names);
        check_same("confusion_matrix", trained, data.class_names())?;
        let names = if data.class_names().is_empty() { trained } else { data.class_names() };
        let outputs: usize = self.output_shape().iter().product();
        let numbers = || (0..outputs.max(2)).map(|class| class.to_string()).collect();
        let names = if names.is_empty() { numbers() } else { names.to_vec() };
        let (mut truth, mut predictions): (Vec<Tensor>, Option<Predictions>) = (Vec::new(), None);
        for batch in data.epoch()? {
            let batch = batch?;
            truth.push(class_numbers(&batch.y)?);
            let of_batch = self.predict_tensor(&batch.x, BATCH)?;
            match &mut predictions {
                Some(predictions) => predictions.append(of_batch),
                None => predictions = Some(of_batch),
            }
        }
        let Some(predictions) = predictions else {
            let (expected, found) = ("data with at least one batch".into(), "none".into());
            return Err(Error::Argument { name: "confusion_matrix", expected, found });
        };
        ConfusionMatrix::of(&Tensor::cat(&truth, 0)?, &predictions, names)
    }
}

/// Class numbers `[N]` from targets `[N]`, `[N, 1]` or one-hot `[N, classes]`.
fn class_numbers(targets: &Tensor) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::F32)?;
    Ok(match *targets.dims() {
        [_, classes] if classes > 1 => targets.argmax(1)?.to_dtype(DType::F32)?,
        _ => targets.flatten_all()?,
    })
}

impl Images {
    /// Which classes a model takes for which.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is not one row for each picture.
    pub fn confusion_matrix(&self, predictions: &Predictions) -> Result<ConfusionMatrix> {
        ConfusionMatrix::new(&self.y, predictions, &self.class_names)
    }

    /// The pictures that a model is surest of and wrong about, the surest first, at most so many.
    ///
    /// # Errors
    /// [`Error::Argument`] if the predictions have another form.
    pub fn most_confident_mistakes(
        &self,
        predictions: &Predictions,
        most: usize,
    ) -> Result<crate::display::Pictures> {
        let truth = self.y.to_vec1::<u32>()?;
        let given = predictions.classes();
        let mut wrong: Vec<(u32, f32)> = (0u32..)
            .zip(predictions.confidences())
            .filter(|(at, _)| {
                given.get(*at as usize) != truth.get(*at as usize).map(|class| *class as usize).as_ref()
            })
            .collect();
        wrong.sort_by(|a, b| b.1.total_cmp(&a.1));
        let numbers: Vec<u32> = wrong.iter().take(most).map(|(at, _)| *at).collect();
        self.select(&numbers)?.with_all(&predictions.select(&numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.7: `classification_report([0, 0, 0, 1, 1, 2], [0, 1, 0, 1, 1, 0])`.
    #[test]
    fn a_report_is_scikit_learns() {
        let matrix = ConfusionMatrix {
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            counts: vec![vec![2, 1, 0], vec![0, 2, 0], vec![1, 0, 0]],
        };
        let text = matrix.report().to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["a", "0.67", "0.67", "0.67", "3"]);
        assert_eq!(rows[2], ["b", "0.67", "1.00", "0.80", "2"]);
        assert_eq!(rows[3], ["c", "0.00", "0.00", "0.00", "1"]);
        assert_eq!(rows[4], ["accuracy", "0.67", "6"]);
        assert_eq!(rows[5], ["macro", "avg", "0.44", "0.56", "0.49", "6"]);
        assert_eq!(rows[6], ["weighted", "avg", "0.56", "0.67", "0.60", "6"]);
    }
}
