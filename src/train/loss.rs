//! The library's losses, with Keras's formulas (`keras/src/losses/losses.py`).
#![allow(non_upper_case_globals)]

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::Activation;
use crate::{Error, Result};

/// Probabilities are kept this far from 0 and 1, as in Keras.
const EPSILON: f32 = 1e-7;

/// One of Keras's losses: a [`Loss`](super::Loss) with its settings.
///
/// ```
/// use headstart::prelude::*;
/// let mut model = sequential![Input::new(4), Dense::new(3)]?;
/// let loss = SparseCategoricalCrossentropy.from_logits(true).label_smoothing(0.1);
/// model.compile(Adam::default(), loss, [Accuracy]);
/// # Ok::<(), headstart::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuiltInLoss {
    kind: Kind,
    from_logits: bool,
    label_smoothing: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Binary,
    Categorical,
    SparseCategorical,
    MeanSquared,
    MeanAbsolute,
    Huber,
    BinaryFocal,
}

impl Kind {
    /// Whether targets are numbers of any size.
    fn is_regression(self) -> bool {
        matches!(self, Kind::MeanSquared | Kind::MeanAbsolute | Kind::Huber)
    }
}

/// For one sigmoid output and targets 0 or 1: `-y·ln p - (1-y)·ln(1-p)`.
pub const BinaryCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::Binary);
/// For softmax outputs and one-hot targets: `-Σ y·ln p`.
pub const CategoricalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::Categorical);
/// For softmax outputs and class numbers from 0.
pub const SparseCategoricalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::SparseCategorical);
/// For numbers of any size: the mean of `(y - output)²`.
pub const MeanSquaredError: BuiltInLoss = BuiltInLoss::new(Kind::MeanSquared);
/// For numbers of any size: the mean of `|y - output|`.
pub const MeanAbsoluteError: BuiltInLoss = BuiltInLoss::new(Kind::MeanAbsolute);
/// For numbers with outliers: half the square of an error up to 1, and the error less a half beyond.
pub const Huber: BuiltInLoss = BuiltInLoss::new(Kind::Huber);
/// For one sigmoid output of rare classes: binary cross-entropy times `(1 - p)²`, where p is the probability of
/// the target (Lin et al. 2017).
pub const BinaryFocalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::BinaryFocal);

/// What a model put out, and what its last function was given where that is known.
pub(crate) struct Output {
    pub(crate) values: Tensor,
    linear: Option<(Tensor, Activation)>,
}

impl Output {
    /// An output of which only the values are known.
    pub(crate) fn new(values: Tensor) -> Output {
        Output { values, linear: None }
    }

    /// The output of a model whose last layer, before its function, gave `linear`.
    pub(crate) fn of(linear: Tensor, activation: Activation) -> Result<Output> {
        Ok(Output { values: activation.apply(&linear)?, linear: Some((linear, activation)) })
    }

    /// The argument of the last function, if it is this one.
    fn before(&self, function: Activation) -> Option<&Tensor> {
        self.linear.as_ref().filter(|(_, last)| *last == function).map(|(linear, _)| linear)
    }
}

impl BuiltInLoss {
    const fn new(kind: Kind) -> BuiltInLoss {
        BuiltInLoss { kind, from_logits: false, label_smoothing: 0.0 }
    }

    /// Sets whether the outputs are logits, of a model that ends without `Sigmoid` or `Softmax`.
    ///
    /// It is not needed for exactness: of a model that ends with them, training takes what they
    /// were given.
    pub fn from_logits(self, from_logits: bool) -> BuiltInLoss {
        BuiltInLoss { from_logits, ..self }
    }

    /// Moves targets of 0 and 1 so far towards each other: 0.1 makes them 0.05 and 0.95 for one
    /// output; with more, every class gets its part of the tenth.
    pub fn label_smoothing(self, amount: f64) -> BuiltInLoss {
        BuiltInLoss { label_smoothing: amount, ..self }
    }

    /// Keras's name for it.
    pub fn name(self) -> &'static str {
        match self.kind {
            Kind::Binary => "binary_crossentropy",
            Kind::Categorical => "categorical_crossentropy",
            Kind::SparseCategorical => "sparse_categorical_crossentropy",
            Kind::MeanSquared => "mean_squared_error",
            Kind::MeanAbsolute => "mean_absolute_error",
            Kind::Huber => "huber",
            Kind::BinaryFocal => "binary_focal_crossentropy",
        }
    }

    /// The function with which a model for this loss ends, unless its outputs are logits.
    pub(crate) fn last_activation(self) -> Option<Activation> {
        match self.kind {
            _ if self.from_logits => Some(Activation::Linear),
            Kind::Binary | Kind::BinaryFocal => Some(Activation::Sigmoid),
            Kind::Categorical | Kind::SparseCategorical => Some(Activation::Softmax),
            Kind::MeanSquared | Kind::MeanAbsolute | Kind::Huber => None,
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
        if self.kind == Kind::SparseCategorical {
            return one_hot(self.name(), &targets, columns);
        }
        if targets.elem_count() != samples * columns {
            let hint = match self.kind {
                Kind::Binary | Kind::BinaryFocal => "end the model with `Dense::new(1).activation(Sigmoid)`",
                _ if self.kind.is_regression() => {
                    "the model's last layer has one output for each number of a target"
                }
                _ => "for class numbers use SparseCategoricalCrossentropy",
            };
            return Err(self.refuse(&format!("[{samples}, {columns}]"), &targets, hint));
        }
        let values = targets.flatten_all()?.to_vec1::<f32>()?;
        let fits =
            |value: &f32| self.kind.is_regression() && value.is_finite() || (0.0..=1.0).contains(value);
        if let Some(value) = values.iter().find(|value| !fits(value)) {
            let hint = match self.kind {
                Kind::Binary => "for more than two classes use SparseCategoricalCrossentropy",
                _ => "",
            };
            let expected = if self.kind.is_regression() { "finite targets" } else { "targets from 0 to 1" };
            return Err(self.refuse_value(expected.into(), *value, hint.into()));
        }
        Ok(targets.reshape((samples, columns))?)
    }

    /// Targets moved towards each other by the label smoothing.
    pub(super) fn smooth(self, targets: &Tensor) -> Result<Tensor> {
        let amount = self.label_smoothing;
        if amount == 0.0 || self.kind.is_regression() {
            return Ok(targets.clone());
        }
        let classes =
            if matches!(self.kind, Kind::Binary | Kind::BinaryFocal) { 2 } else { targets.dim(D::Minus1)? };
        Ok(targets.affine(1.0 - amount, amount / classes as f64)?)
    }

    /// The loss of each sample, `[N]`, from outputs and prepared targets of one shape.
    pub(super) fn of_samples(self, output: &Output, y: &Tensor) -> Result<Tensor> {
        let values = &output.values;
        let logits = |function| if self.from_logits { Some(values) } else { output.before(function) };
        Ok(match self.kind {
            Kind::MeanSquared => (values - y)?.sqr()?.mean(D::Minus1)?,
            Kind::MeanAbsolute => (values - y)?.abs()?.mean(D::Minus1)?,
            Kind::Huber => {
                let error = (values - y)?.abs()?;
                // Half the square of what is below 1, and all of what is above.
                let below = error.minimum(1.0)?;
                ((below.sqr()? * 0.5)? + (&error - &below)?)?.mean(D::Minus1)?
            }
            Kind::BinaryFocal => {
                let p = if self.from_logits { Activation::Sigmoid.apply(values)? } else { values.clone() };
                let p = p.clamp(EPSILON, 1.0 - EPSILON)?;
                // The probability of the target.
                let of_target = ((y * &p)? + ((1.0 - y)? * (1.0 - &p)?)?)?;
                let entropy = ((y * p.log()?)? + ((1.0 - y)? * (1.0 - &p)?.log()?)?)?;
                ((1.0 - of_target)?.sqr()? * entropy)?.mean(D::Minus1)?.neg()?
            }
            Kind::Binary => match logits(Activation::Sigmoid) {
                Some(x) => {
                    // ln(1 + eˣ) = (x + |x|)/2 + ln(1 + e^-|x|), which overflows nowhere.
                    let size = x.abs()?;
                    let softplus = (((x + &size)? * 0.5)? + (size.neg()?.exp()? + 1.0)?.log()?)?;
                    (softplus - (x * y)?)?.mean(D::Minus1)?
                }
                None => {
                    let p = values.clamp(EPSILON, 1.0 - EPSILON)?;
                    let of_ones = (y * p.log()?)?;
                    let of_zeros = ((1.0 - y)? * (1.0 - p)?.log()?)?;
                    (of_ones + of_zeros)?.mean(D::Minus1)?.neg()?
                }
            },
            Kind::Categorical | Kind::SparseCategorical => match logits(Activation::Softmax) {
                Some(x) => (y * candle_nn::ops::log_softmax(x, D::Minus1)?)?.sum(D::Minus1)?.neg()?,
                None => {
                    let p = values.broadcast_div(&values.sum_keepdim(D::Minus1)?)?;
                    (y * p.clamp(EPSILON, 1.0 - EPSILON)?.log()?)?.sum(D::Minus1)?.neg()?
                }
            },
        })
    }

    /// Whether each sample has one class, and the model an output for each.
    pub(crate) fn counts_classes(self) -> bool {
        matches!(self.kind, Kind::Categorical | Kind::SparseCategorical)
    }

    /// Whether the targets are classes rather than numbers of any size.
    pub(crate) fn has_classes(self) -> bool {
        !self.kind.is_regression()
    }

    /// The function that makes probabilities of a model's outputs: `Linear` unless they are logits.
    pub(crate) fn probability_function(self) -> Activation {
        match self.kind {
            Kind::Binary | Kind::BinaryFocal if self.from_logits => Activation::Sigmoid,
            Kind::Categorical | Kind::SparseCategorical if self.from_logits => Activation::Softmax,
            _ => Activation::Linear,
        }
    }

    fn refuse(self, expected: &str, targets: &Tensor, hint: &str) -> Error {
        refuse(self.name(), expected, targets, hint)
    }

    fn refuse_value(self, expected: String, found: f32, hint: String) -> Error {
        refuse_value(self.name(), expected, found, hint)
    }
}

/// Class numbers, one a sample, as rows of 0 and a single 1.
///
/// # Errors
/// [`Error::Targets`] if a value is no class number.
pub(super) fn one_hot(loss: &str, targets: &Tensor, columns: usize) -> Result<Tensor> {
    let numbers = targets.flatten_all()?.to_vec1::<f32>()?;
    let samples = targets.dims().first().copied().unwrap_or(0);
    if numbers.len() != samples {
        return Err(refuse(loss, "one class number a sample", targets, ""));
    }
    let mut rows = vec![0f32; samples * columns];
    for (row, number) in numbers.iter().enumerate() {
        if number.fract() != 0.0 || !(0.0..columns as f32).contains(number) {
            let hint = format!("the model's last layer has {columns} outputs: one for each class");
            let expected = format!("class numbers from 0 to {}", columns - 1);
            return Err(refuse_value(loss, expected, *number, hint));
        }
        rows[row * columns + *number as usize] = 1.0;
    }
    Ok(Tensor::from_vec(rows, (samples, columns), targets.device())?)
}

fn refuse(loss: &str, expected: &str, targets: &Tensor, hint: &str) -> Error {
    Error::Targets {
        loss: loss.to_owned(),
        expected: format!("targets of shape {expected}"),
        found: format!("shape {:?}", targets.dims()),
        hint: hint.into(),
    }
}

fn refuse_value(loss: &str, expected: String, found: f32, hint: String) -> Error {
    Error::Targets { loss: loss.to_owned(), expected, found: format!("the value {found}"), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// candle's own loss for logits is NaN for large ones.
    #[test]
    fn large_logits_have_a_loss_and_a_gradient() -> Result<()> {
        let x = Var::new(&[[-200f32], [0.0], [200.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[1f32], [0.0], [1.0]], &Device::Cpu)?;
        let output = Output::of(x.as_tensor().clone(), Activation::Sigmoid)?;
        let loss = BinaryCrossentropy.of_samples(&output, &y)?.mean_all()?;
        assert!((loss.to_scalar::<f32>()? - (200.0 + 2f32.ln()) / 3.0).abs() < 1e-4);
        let gradient = (loss.backward()?.get(&x).unwrap() * 3.0)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gradient, [-1.0, 0.5, 0.0]);
        let theirs = candle_nn::loss::binary_cross_entropy_with_logit(&x, &y)?.to_scalar::<f32>()?;
        assert!(!theirs.is_finite(), "{theirs}: candle's own is safe now and may be used");
        Ok(())
    }

    #[test]
    fn smoothing_moves_targets_towards_each_other() -> Result<()> {
        let y = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
        let smooth = |loss: BuiltInLoss, y: &Tensor| -> Result<Vec<f32>> {
            Ok(loss.label_smoothing(0.1).smooth(y)?.flatten_all()?.to_vec1()?)
        };
        assert_eq!(smooth(CategoricalCrossentropy, &y)?, [0.95, 0.05]);
        assert_eq!(smooth(BinaryCrossentropy, &y.narrow(1, 0, 1)?)?, [0.95]);
        Ok(())
    }
}
