//! What is counted beside the loss.

use candle_core::{D, DType, Tensor};

use crate::Result;

/// A number that tells how good the outputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The share of samples whose class is right: for one output, whether it is over 0.5; for
    /// several, whether the largest is the target's.
    Accuracy,
}

impl Metric {
    /// The metric's name in a history.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
        }
    }

    /// The mean over a batch, from outputs and prepared targets of one shape.
    pub(crate) fn compute(self, output: &Tensor, targets: &Tensor) -> Result<f64> {
        let right = match (self, output.dim(D::Minus1)?) {
            (Metric::Accuracy, 1) => output.gt(0.5)?.eq(&targets.gt(0.5)?)?,
            (Metric::Accuracy, _) => output.argmax(D::Minus1)?.eq(&targets.argmax(D::Minus1)?)?,
        };
        Ok(f64::from(right.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?))
    }
}
