//! Losses with their gradients.

use crate::kernels::int;
use crate::raw::Argument::{Array as A, Float, Int, Optional};
use crate::raw::{Array, Gpu};
use crate::{Error, Result};

/// Largest number that [`Gpu::count_correct`] counts to (2²⁴: float32 has all integers up to it).
pub const MAX_COUNT: usize = 1 << 24;

/// A loss of logits, or of outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Cross-entropy of a softmax. The targets are probabilities of the classes.
    SoftmaxCrossEntropy {
        /// Share of the targets that is distributed evenly over the classes.
        label_smoothing: f32,
    },
    /// Cross-entropy of a sigmoid, mean over a sample's outputs.
    SigmoidCrossEntropy {
        /// Share by which targets move towards 0.5.
        label_smoothing: f32,
    },
    /// Squared error, mean over a sample's outputs.
    SquaredError,
}

impl Loss {
    /// Whether the loss computes probabilities, because its inputs are logits.
    pub fn has_probabilities(self) -> bool {
        self != Loss::SquaredError
    }
}

/// The arrays that a loss writes.
#[derive(Clone, Copy, Debug)]
pub struct LossOutput<'a> {
    /// The loss of each sample.
    pub losses: &'a Array,
    /// The probabilities, `[rows, columns]`. Not written by [`Loss::SquaredError`].
    pub probabilities: &'a Array,
    /// The gradient of the mean loss, `[rows, columns]`.
    pub gradient: Option<&'a Array>,
    /// The mean loss, one value.
    pub mean: &'a Array,
    /// One value. It is set to 1 if the mean loss is not finite.
    pub stopped: &'a Array,
}

impl Gpu {
    /// Computes a loss of `[rows, columns]` logits. `weights` has one weight per sample.
    ///
    /// # Errors
    /// [`crate::Error::Length`] if an array is too short; [`crate::Error::Cuda`].
    pub fn loss(
        &self,
        loss: Loss,
        logits: &Array,
        targets: &Array,
        weights: Option<&Array>,
        [rows, columns]: [usize; 2],
        output: LossOutput,
    ) -> Result<()> {
        let count = rows * columns;
        int("loss", count)?;
        let operands = [A(logits, count), A(targets, count), Optional(weights, rows), A(output.losses, rows)];
        let gradient = Optional(output.gradient, count);
        let sizes = [Int(int("loss", rows)?), Int(int("loss", columns)?)];
        match loss {
            Loss::SquaredError => {
                let arguments = [&operands[..], &[gradient], &sizes].concat();
                self.launch_blocks("squared_error", rows, &arguments)?;
            }
            Loss::SoftmaxCrossEntropy { label_smoothing } | Loss::SigmoidCrossEntropy { label_smoothing } => {
                let (kernel, classes) = match loss {
                    Loss::SoftmaxCrossEntropy { .. } => ("softmax_cross_entropy", columns),
                    _ => ("sigmoid_cross_entropy", 2),
                };
                let smoothing = [Float(1.0 - label_smoothing), Float(label_smoothing / classes as f32)];
                let results = [A(output.probabilities, count), gradient];
                self.launch_blocks(kernel, rows, &[&operands[..], &results, &sizes, &smoothing].concat())?;
            }
        }
        let arguments = [A(output.losses, rows), A(output.mean, 1), A(output.stopped, 1), sizes[0]];
        self.launch_blocks("mean_loss", 1, &arguments)
    }

    /// Counts the rows whose outputs and targets have the same class: the index of the largest value, or for one column
    /// whether it exceeds `threshold`. `correct` receives the count, which is exact for at most
    /// [`MAX_COUNT`] rows.
    ///
    /// # Errors
    /// [`Error::Argument`] for more rows; else as [`Gpu::loss`].
    pub fn count_correct(
        &self,
        outputs: &Array,
        targets: &Array,
        [rows, columns]: [usize; 2],
        threshold: f32,
        correct: &Array,
    ) -> Result<()> {
        const NAME: &str = "class_matches";
        if rows > MAX_COUNT {
            return Err(Error::argument(NAME, format!("at most {MAX_COUNT} rows"), rows));
        }
        let count = rows * columns;
        int(NAME, count)?;
        let matches = self.array(rows)?;
        let operands = [A(outputs, count), A(targets, count), A(&matches, rows)];
        let sizes = [Int(int(NAME, columns)?), Float(threshold)];
        self.launch_blocks(NAME, rows, &[&operands[..], &sizes].concat())?;
        self.launch_blocks("sum", 1, &[A(&matches, rows), A(correct, 1), Int(int(NAME, rows)?)])
    }

    /// Softmax of each row of `columns` values.
    ///
    /// # Errors
    /// As [`Gpu::loss`].
    pub fn softmax(&self, x: &Array, y: &Array, columns: usize) -> Result<()> {
        const NAME: &str = "softmax";
        let rows = y.len() / columns.max(1);
        let count = rows * columns;
        int(NAME, count)?;
        self.launch_blocks(NAME, rows, &[A(x, count), A(y, count), Int(int(NAME, columns)?)])
    }
}
