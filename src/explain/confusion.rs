//! Confusion matrix and classification report.

use std::fmt;

use candle_core::{DType, Tensor};

use super::interval::wilson;
use crate::chart::Chart;
use crate::data::{
    Dataset, Images, IntoDataset, announced_batches, check_not_mixed, check_same, missing_batches,
    read_class_numbers,
};
use crate::display::{Bundle, Show, text_bundle};
use crate::nn::{ClassLayout, Model, Predictions};
use crate::train::{BATCH, note_nan};
use crate::{Error, Result};

/// Largest number of classes that a chart or a text shows (50: the chart has half a megabyte).
const MAX_SHOWN: usize = 50;

/// Confusion matrix: the number of samples for each pair of true class (row) and predicted class (column).
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
///
/// Of more than 50 classes, chart and text show the 50 with the most mistakes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// Counts the predictions for samples with true class numbers `[N]`. `predictions` has one row of
    /// outputs per sample: one output per class, or, with two classes, one output for the second class.
    /// For feature maps, `truth` is `[N, height, width]`, and the counts are those of pixels.
    ///
    /// # Errors
    /// [`Error::Argument`] if the numbers of samples and predictions differ, or a class has no name.
    pub fn new(
        truth: &Tensor,
        predictions: &Predictions,
        classes: &[impl AsRef<str>],
    ) -> Result<ConfusionMatrix> {
        let names = classes.iter().map(|name| name.as_ref().to_owned()).collect();
        ConfusionMatrix::of(truth, predictions, names)
    }

    fn of(truth: &Tensor, predictions: &Predictions, names: Vec<String>) -> Result<ConfusionMatrix> {
        let classes = predictions.classes();
        if truth.elem_count() != classes.len() {
            let (expected, found) =
                (format!("{}, one row for each sample", truth.elem_count()), classes.len().to_string());
            return Err(Error::Argument { name: "predictions", expected, found });
        }
        let mut counts = vec![vec![0; names.len()]; names.len()];
        for (truth, given) in read_class_numbers("truth", truth)?.into_iter().zip(classes) {
            if truth.max(given) >= names.len() {
                let (expected, found) = (format!("a name for class {}", truth.max(given)), names.join(", "));
                return Err(Error::Argument { name: "classes", expected, found });
            }
            counts[truth][given] += 1;
        }
        Ok(ConfusionMatrix { classes: names, counts })
    }

    /// The counts: one row per true class, one column per predicted class.
    pub fn counts(&self) -> &[Vec<usize>] {
        &self.counts
    }

    /// The fraction of samples whose class is predicted correctly.
    pub fn accuracy(&self) -> f64 {
        let correct: usize = (0..self.classes.len()).map(|class| self.counts[class][class]).sum();
        correct as f64 / self.samples().max(1) as f64
    }

    /// Wilson's 95 % confidence interval of the accuracy, for test images that chose nothing: the range of true
    /// accuracies that fit the measured one.
    ///
    /// ```
    /// use headstart::prelude::*;
    /// # let model = sequential![Input::new(1), Activation::Linear]?;
    /// # let (x, y) = (Tensor::zeros((40, 1), DType::F32, &device())?, Tensor::zeros(40, DType::U32, &device())?);
    /// let matrix = ConfusionMatrix::new(&y, &model.predict(&x)?, &["cat", "dog"])?;
    /// let (low, high) = matrix.accuracy_interval();
    /// // All of 40 samples are right, and yet one mistake in twelve is possible.
    /// assert!(matrix.accuracy() == 1.0 && (low - 0.912).abs() < 1e-3 && high > 0.999);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn accuracy_interval(&self) -> (f64, f64) {
        wilson(self.accuracy(), self.samples())
    }

    fn samples(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Precision, recall and F1 of each class, like scikit-learn's `classification_report`.
    pub fn report(&self) -> ClassificationReport {
        let report = |class: usize| {
            let correct = self.counts[class][class] as f64;
            let predicted: usize = self.counts.iter().map(|row| row[class]).sum();
            let support: usize = self.counts[class].iter().sum();
            let ratio = |total: usize| if total == 0 { 0.0 } else { correct / total as f64 };
            let f1 =
                if predicted + support == 0 { 0.0 } else { 2.0 * correct / (predicted + support) as f64 };
            ClassReport {
                class: self.classes[class].clone(),
                precision: ratio(predicted),
                recall: ratio(support),
                f1,
                support,
            }
        };
        ClassificationReport {
            classes: (0..self.classes.len()).map(report).collect(),
            accuracy: self.accuracy(),
        }
    }

    /// The matrix as a chart.
    pub fn plot(&self) -> Chart {
        let shown = self.shown();
        let of_shown = |row: &[usize]| shown.iter().map(|&class| row[class]).collect();
        let names: Vec<String> = shown.iter().map(|&class| self.classes[class].clone()).collect();
        let counts: Vec<Vec<usize>> = shown.iter().map(|&class| of_shown(&self.counts[class])).collect();
        let samples: Vec<usize> = shown.iter().map(|&class| self.counts[class].iter().sum()).collect();
        Chart::of_confusion(&names, &counts, &samples, &self.omission(&shown), &self.to_string())
    }

    /// The classes to show, in the order of their numbers: all, or those with the most mistakes.
    fn shown(&self) -> Vec<usize> {
        let count = self.classes.len();
        let mut mistakes: Vec<(usize, usize)> = (0..count).map(|class| (0, class)).collect();
        for (class, row) in self.counts.iter().enumerate() {
            for (other, samples) in row.iter().enumerate().filter(|(other, _)| *other != class) {
                mistakes[class].0 += samples;
                mistakes[other].0 += samples;
            }
        }
        mistakes.sort_by_key(|(mistakes, _)| std::cmp::Reverse(*mistakes));
        let mut shown: Vec<usize> = mistakes.into_iter().take(MAX_SHOWN).map(|(_, class)| class).collect();
        shown.sort_unstable();
        shown
    }

    /// Says which classes are left out. Empty if all are shown.
    fn omission(&self, shown: &[usize]) -> String {
        match self.classes.len() - shown.len() {
            0 => String::new(),
            _ => format!("{} of {} classes: those with the most mistakes", shown.len(), self.classes.len()),
        }
    }
}

impl Show for ConfusionMatrix {
    fn bundle(&self) -> Bundle {
        self.plot().bundle()
    }
}

impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown();
        let names: Vec<String> = shown.iter().map(|&class| self.classes[class].clone()).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(6);
        let line = |header: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|cell| format!(" {cell:>width$}")).collect();
            format!("{header:>width$}{cells}")
        };
        writeln!(f, "{}", line("true \\ predicted", names.clone()))?;
        for (name, &class) in names.iter().zip(&shown) {
            let row = &self.counts[class];
            writeln!(f, "{}", line(name, shown.iter().map(|&other| row[other].to_string()).collect()))?;
        }
        let omission = self.omission(&shown);
        if !omission.is_empty() {
            writeln!(f, "{omission}")?;
        }
        write!(f, "{} samples, accuracy {:.4}", self.samples(), self.accuracy())
    }
}

/// One class of a [`ClassificationReport`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClassReport {
    /// Name of the class.
    pub class: String,
    /// Of the samples predicted as this class, the fraction that belongs to it.
    pub precision: f64,
    /// Of the samples of this class, the fraction that is predicted as it.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of samples of the class.
    pub support: usize,
}

/// Precision, recall and F1 of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassificationReport {
    /// One report per class, in the order of the class numbers.
    pub classes: Vec<ClassReport>,
    /// The fraction of samples whose class is predicted correctly.
    pub accuracy: f64,
}

impl Show for ClassificationReport {
    fn bundle(&self) -> Bundle {
        text_bundle(self)
    }
}

impl fmt::Display for ClassificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.classes.iter().map(|report| report.class.chars().count()).max().unwrap_or(0).max(12);
        writeln!(f, "{:>width$} precision    recall  f1-score   support", "")?;
        let row = |name: &str, scores: [f64; 3], support: usize| {
            format!("{name:>width$} {:>9.2} {:>9.2} {:>9.2} {support:>9}", scores[0], scores[1], scores[2])
        };
        for report in &self.classes {
            writeln!(
                f,
                "{}",
                row(&report.class, [report.precision, report.recall, report.f1], report.support)
            )?;
        }
        let support: usize = self.classes.iter().map(|report| report.support).sum();
        writeln!(f, "{:>width$} {:>9} {:>9} {:>9.2} {support:>9}", "accuracy", "", "", self.accuracy)?;
        let mean = |weight: &dyn Fn(&ClassReport) -> f64| {
            let weighted = |value: &dyn Fn(&ClassReport) -> f64| {
                let total: f64 = self.classes.iter().map(weight).sum();
                self.classes.iter().map(|report| value(report) * weight(report)).sum::<f64>()
                    / total.max(1e-12)
            };
            [
                weighted(&|report| report.precision),
                weighted(&|report| report.recall),
                weighted(&|report| report.f1),
            ]
        };
        writeln!(f, "{}", row("macro avg", mean(&|_| 1.0), support))?;
        write!(f, "{}", row("weighted avg", mean(&|report| report.support as f64), support))
    }
}

impl Model {
    /// Computes the confusion matrix of this model on any data that `fit` takes:
    /// `confusion_matrix(&files)`.
    ///
    /// Class names are those of the data, otherwise those of the training data, otherwise the class
    /// numbers.
    ///
    /// # Errors
    /// Those of [`Model::predict`]; [`Error::Argument`] if the classes differ from those of the
    /// training, or a target is not a class.
    pub fn confusion_matrix(&self, data: impl IntoDataset) -> Result<ConfusionMatrix> {
        self.confusion_of(data.into_dataset(BATCH, false)?)
    }

    fn confusion_of(&self, mut data: Box<dyn Dataset>) -> Result<ConfusionMatrix> {
        check_not_mixed("confusion_matrix", &*data)?;
        let trained = self.trained_classes();
        check_same("confusion_matrix", trained, data.class_names())?;
        let names = if data.class_names().is_empty() { trained } else { data.class_names() };
        let layout = self.class_layout();
        let numbers = || (0..layout.classes.max(2)).map(|class| class.to_string()).collect();
        let names = if names.is_empty() { numbers() } else { names.to_vec() };
        let (mut truth, mut predictions): (Vec<Tensor>, Option<Predictions>) = (Vec::new(), None);
        for batch in announced_batches(&mut *data)? {
            let batch = batch?;
            truth.push(class_numbers(&batch.y, &layout)?);
            let of_batch = self.predict_part(&batch.x, BATCH)?;
            match &mut predictions {
                Some(predictions) => predictions.append(of_batch),
                None => predictions = Some(of_batch),
            }
        }
        let predictions = predictions.ok_or_else(|| missing_batches(0, 0))?;
        note_nan(predictions.iter().flatten());
        ConfusionMatrix::of(&Tensor::cat(&truth, 0)?, &predictions, names)
    }
}

/// Class numbers `[N · positions]` from targets `[N]`, `[N, 1]` or one-hot `[N, classes]`, or from targets of outputs with
/// several positions.
fn class_numbers(targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
    let targets = targets.to_dtype(DType::F32)?;
    if layout.positions > 1 {
        if layout.classes > 1 && layout.has_outputs(targets.dims()) {
            return Ok(layout.rows(&targets)?.argmax(1)?.to_dtype(DType::F32)?);
        }
        if !layout.has_classes(targets.dims()) {
            let expected = format!("{:?}", layout.class_shape(targets.dims().first().copied().unwrap_or(0)));
            let hint = "use the class of each pixel or token";
            return Err(Error::shape("targets", expected, targets.dims(), hint));
        }
        return Ok(targets.flatten_all()?);
    }
    Ok(match *targets.dims() {
        [_, classes] if classes > 1 => targets.argmax(1)?.to_dtype(DType::F32)?,
        _ => targets.flatten_all()?,
    })
}

impl Images {
    /// The confusion matrix of predictions for these images.
    ///
    /// # Errors
    /// [`Error::Argument`] if the numbers of images and predictions differ.
    pub fn confusion_matrix(&self, predictions: &Predictions) -> Result<ConfusionMatrix> {
        ConfusionMatrix::new(&self.y, predictions, &self.class_names)
    }

    /// The misclassified images with the highest confidence, in descending order, at most `count`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the predictions do not fit the images.
    pub fn most_confident_mistakes(
        &self,
        predictions: &Predictions,
        count: usize,
    ) -> Result<crate::display::ImageGrid> {
        self.check_predictions(predictions)?;
        let (predicted, truth) = (predictions.classes(), self.y.to_vec1::<u32>()?);
        let rows = (0u32..).zip(predictions.confidences()).zip(predicted.iter().zip(&truth));
        let wrong = rows.filter(|(_, (predicted, truth))| **predicted != **truth as usize);
        let mut wrong: Vec<(u32, f32)> = wrong.map(|(row, _)| row).collect();
        wrong.sort_by(|a, b| b.1.total_cmp(&a.1));
        let numbers: Vec<u32> = wrong.iter().take(count).map(|(at, _)| *at).collect();
        self.select(&numbers)?.with_all(&predictions.select(&numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_classes_those_with_the_most_mistakes_are_shown() {
        let count = 1000;
        let mut counts = vec![vec![0; count]; count];
        (0..count).for_each(|class| counts[class][class] = 5);
        counts[7][990] = 3;
        let classes = (0..count).map(|class| format!("class {class}")).collect();
        let matrix = ConfusionMatrix { classes, counts };
        let (svg, text) = (matrix.plot().bundle(), matrix.to_string());
        let bytes: usize = svg.iter().map(|(_, content)| content.len()).sum();
        assert!(bytes < 1_500_000, "{bytes} bytes");
        let shown = matrix.shown();
        assert!(shown.len() == MAX_SHOWN && shown.contains(&7) && shown.contains(&990));
        assert!(text.contains("50 of 1000 classes") && text.contains("5003 samples"), "{text}");
        assert!(text.lines().any(|line| line.trim_start().starts_with("class 990")), "{text}");
        assert_eq!(matrix.report().classes.len(), count);
    }

    /// scikit-learn 1.7: `classification_report([0, 0, 0, 1, 1, 2], [0, 1, 0, 1, 1, 0])`.
    #[test]
    fn reports_match_scikit_learn() {
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
