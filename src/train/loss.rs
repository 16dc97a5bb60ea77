//! Losses, with Keras's formulas (`keras/src/losses/losses.py`), for outputs that are probabilities.

use candle_core::{D, DType, Tensor};

use crate::{Error, Result};

/// Probabilities are kept this far from 0 and 1, as in Keras.
const EPSILON: f32 = 1e-7;

/// What training makes small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// For one sigmoid output and targets 0 or 1: `-y·ln p - (1-y)·ln(1-p)`.
    BinaryCrossentropy,
    /// For softmax outputs and one-hot targets: `-Σ y·ln p`.
    CategoricalCrossentropy,
    /// For softmax outputs and class numbers from 0.
    SparseCategoricalCrossentropy,
}

impl Loss {
    fn name(self) -> &'static str {
        match self {
            Loss::BinaryCrossentropy => "binary_crossentropy",
            Loss::CategoricalCrossentropy => "categorical_crossentropy",
            Loss::SparseCategoricalCrossentropy => "sparse_categorical_crossentropy",
        }
    }

    /// Targets of any number type as this loss and an output of so many columns need them:
    /// `[N, columns]`, one-hot where there are classes.
    ///
    /// # Errors
    /// [`Error::Targets`] if their shape or a value does not fit.
    pub(crate) fn targets(self, targets: &Tensor, columns: usize) -> Result<Tensor> {
        let targets = targets.to_dtype(DType::F32)?;
        let samples = targets.dims().first().copied().unwrap_or(0);
        if self == Loss::SparseCategoricalCrossentropy {
            let numbers = targets.flatten_all()?.to_vec1::<f32>()?;
            if numbers.len() != samples {
                return Err(self.refuse("one class number a sample", &targets, ""));
            }
            let mut rows = vec![0f32; samples * columns];
            for (row, number) in numbers.iter().enumerate() {
                if number.fract() != 0.0 || !(0.0..columns as f32).contains(number) {
                    let hint = format!("the model's last layer has {columns} outputs: one for each class");
                    return Err(self.refuse_value(
                        format!("class numbers from 0 to {}", columns - 1),
                        *number,
                        hint,
                    ));
                }
                rows[row * columns + *number as usize] = 1.0;
            }
            return Ok(Tensor::from_vec(rows, (samples, columns), targets.device())?);
        }
        if targets.elem_count() != samples * columns {
            let hint = match self {
                Loss::BinaryCrossentropy => "end the model with `Dense::new(1).activation(Sigmoid)`",
                _ => "for class numbers use SparseCategoricalCrossentropy",
            };
            return Err(self.refuse(&format!("[{samples}, {columns}]"), &targets, hint));
        }
        let values = targets.flatten_all()?.to_vec1::<f32>()?;
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            let hint = match self {
                Loss::BinaryCrossentropy => "for more than two classes use SparseCategoricalCrossentropy",
                _ => "",
            };
            return Err(self.refuse_value("targets from 0 to 1".into(), *value, hint.into()));
        }
        Ok(targets.reshape((samples, columns))?)
    }

    /// The mean loss over a batch, from outputs and prepared targets of one shape.
    pub(crate) fn compute(self, output: &Tensor, targets: &Tensor) -> Result<Tensor> {
        match self {
            Loss::BinaryCrossentropy => {
                let p = output.clamp(EPSILON, 1.0 - EPSILON)?;
                let of_ones = (targets * p.log()?)?;
                let of_zeros = ((1.0 - targets)? * (1.0 - p)?.log()?)?;
                Ok((of_ones + of_zeros)?.mean_all()?.neg()?)
            }
            Loss::CategoricalCrossentropy | Loss::SparseCategoricalCrossentropy => {
                let p = output.broadcast_div(&output.sum_keepdim(D::Minus1)?)?;
                let p = p.clamp(EPSILON, 1.0 - EPSILON)?;
                Ok((targets * p.log()?)?.sum(D::Minus1)?.mean_all()?.neg()?)
            }
        }
    }

    fn refuse(self, expected: &str, targets: &Tensor, hint: &str) -> Error {
        Error::Targets {
            loss: self.name(),
            expected: format!("targets of shape {expected}"),
            found: format!("shape {:?}", targets.dims()),
            hint: hint.into(),
        }
    }

    fn refuse_value(self, expected: String, found: f32, hint: String) -> Error {
        Error::Targets { loss: self.name(), expected, found: format!("the value {found}"), hint }
    }
}
