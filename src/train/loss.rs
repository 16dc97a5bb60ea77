//! The library's losses, with Keras's formulas (`keras/src/losses/losses.py`).
#![allow(non_upper_case_globals)]

use candle_core::{D, DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::check::check;
use crate::nn::{Activation, ClassLayout};
use crate::{Error, Result};

/// Probabilities are clipped to this distance from 0 and 1, as in Keras.
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
    /// Whether targets are real numbers.
    fn is_regression(self) -> bool {
        matches!(self, Kind::MeanSquared | Kind::MeanAbsolute | Kind::Huber)
    }
}

/// Binary cross-entropy, for one sigmoid output and targets 0 or 1: `-y·ln p - (1-y)·ln(1-p)`.
pub const BinaryCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::Binary);
/// Categorical cross-entropy, for softmax outputs and one-hot targets: `-Σ y·ln p`.
///
/// For segmentation, outputs and targets are `[N, classes, height, width]`; for tokens, `[N, tokens, classes]`. The
/// loss is the mean over the pixels or tokens.
pub const CategoricalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::Categorical);
/// Categorical cross-entropy, for softmax outputs and integer class indices, counted from 0.
///
/// For segmentation, outputs are `[N, classes, height, width]` and targets `[N, height, width]`: the class of each
/// pixel. For tokens, they are `[N, tokens, classes]` and `[N, tokens]`. The loss is the mean over the pixels or
/// tokens.
pub const SparseCategoricalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::SparseCategorical);
/// Mean squared error, for regression: the mean of `(y - output)²`.
pub const MeanSquaredError: BuiltInLoss = BuiltInLoss::new(Kind::MeanSquared);
/// Mean absolute error, for regression: the mean of `|y - output|`.
pub const MeanAbsoluteError: BuiltInLoss = BuiltInLoss::new(Kind::MeanAbsolute);
/// Huber loss, for regression with outliers: `e²/2` for an absolute error `e` up to 1, and `e - 1/2`
/// beyond.
pub const Huber: BuiltInLoss = BuiltInLoss::new(Kind::Huber);
/// Focal loss, for one sigmoid output and rare classes: binary cross-entropy times `(1 - p)²`, where p
/// is the probability of the target (Lin et al. 2017).
pub const BinaryFocalCrossentropy: BuiltInLoss = BuiltInLoss::new(Kind::BinaryFocal);

/// The output of a model and, if known, the input of its last activation.
pub(crate) struct Output {
    pub(crate) values: Tensor,
    linear: Option<(Tensor, Activation)>,
}

impl Output {
    /// Creates an output without the input of the last activation.
    pub(crate) fn new(values: Tensor) -> Output {
        Output { values, linear: None }
    }

    /// Creates the output of a model. `linear` is the input of the last activation.
    pub(crate) fn of(linear: Tensor, activation: Activation) -> Result<Output> {
        Ok(Output { values: activation.apply(&linear)?, linear: Some((linear, activation)) })
    }

    /// The output with one row per position, `[N · positions, classes]`.
    fn rows(&self, layout: &ClassLayout) -> Result<Output> {
        let linear = match &self.linear {
            Some((linear, last)) => Some((layout.rows(linear)?, *last)),
            None => None,
        };
        Ok(Output { values: layout.rows(&self.values)?, linear })
    }

    /// Returns the input of the last activation, if that activation is `function`.
    fn before(&self, function: Activation) -> Option<&Tensor> {
        self.linear.as_ref().filter(|(_, last)| *last == function).map(|(linear, _)| linear)
    }
}

impl BuiltInLoss {
    const fn new(kind: Kind) -> BuiltInLoss {
        BuiltInLoss { kind, from_logits: false, label_smoothing: 0.0 }
    }

    /// Sets whether the outputs are logits, for a model that ends without `Sigmoid` or `Softmax`.
    /// Default: `false`.
    ///
    /// Logits are not needed for numerical stability: if the model ends with `Sigmoid` or `Softmax`,
    /// training uses the input of that activation.
    pub fn from_logits(self, from_logits: bool) -> BuiltInLoss {
        BuiltInLoss { from_logits, ..self }
    }

    /// Sets the label smoothing. With 0.1 and one output, targets 0 and 1 become 0.05 and 0.95. With
    /// several outputs, the amount is shared equally between all classes. Default: 0.
    pub fn label_smoothing(self, amount: f64) -> BuiltInLoss {
        BuiltInLoss { label_smoothing: amount, ..self }
    }

    /// Returns Keras's name of the loss.
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

    /// Returns the activation that a model for this loss ends with, or `Linear` if the outputs are
    /// logits. `None` if any activation fits.
    pub(crate) fn last_activation(self) -> Option<Activation> {
        match self.kind {
            _ if self.from_logits => Some(Activation::Linear),
            Kind::Binary | Kind::BinaryFocal => Some(Activation::Sigmoid),
            Kind::Categorical | Kind::SparseCategorical => Some(Activation::Softmax),
            Kind::MeanSquared | Kind::MeanAbsolute | Kind::Huber => None,
        }
    }

    /// Converts targets of any number type to the form that this loss needs: `[N, columns]` in the order of the
    /// outputs, one-hot for classes.
    ///
    /// # Errors
    /// [`Error::Targets`] if the shape or a value does not fit.
    pub(crate) fn targets(self, targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
        let smoothing = self.label_smoothing;
        check("label_smoothing", smoothing, (0.0..=1.0).contains(&smoothing), "a share from 0 to 1")?;
        let targets = targets.to_dtype(DType::F32)?;
        let samples = targets.dims().first().copied().unwrap_or(0);
        if self.kind == Kind::SparseCategorical {
            return one_hot(self.name(), &targets, layout);
        }
        let columns = layout.columns();
        if !layout.has_outputs(targets.dims()) {
            let hint = match self.kind {
                _ if layout.is_channels_last(targets.dims()) => CHANNELS_LAST,
                Kind::Binary | Kind::BinaryFocal if columns == 1 => {
                    "the model has one output: use one number per sample, for one-hot rows `y.argmax(1)?`"
                }
                Kind::Binary | Kind::BinaryFocal => "end the model with `Dense::new(1).activation(Sigmoid)`",
                _ if self.kind.is_regression() => {
                    "the model's last layer has one output for each number of a target"
                }
                _ => "for class numbers use SparseCategoricalCrossentropy",
            };
            return Err(refuse(self.name(), &format!("{:?}", layout.output_shape(samples)), &targets, hint));
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
            return Err(refuse_value(self.name(), expected.into(), *value, hint.into()));
        }
        Ok(targets.reshape((samples, columns))?)
    }

    /// Applies the label smoothing to targets.
    fn smooth(self, targets: &Tensor) -> Result<Tensor> {
        let amount = self.label_smoothing;
        if amount == 0.0 || self.kind.is_regression() {
            return Ok(targets.clone());
        }
        let classes =
            if matches!(self.kind, Kind::Binary | Kind::BinaryFocal) { 2 } else { targets.dim(D::Minus1)? };
        Ok(targets.affine(1.0 - amount, amount / classes as f64)?)
    }

    /// Returns the loss of each position, `[N · positions]`, from outputs and prepared targets.
    pub(super) fn position_losses(
        self,
        output: &Output,
        targets: &Tensor,
        layout: &ClassLayout,
    ) -> Result<Tensor> {
        self.row_losses(&output.rows(layout)?, &self.smooth(&layout.rows(targets)?)?)
    }

    /// Returns the loss of each row, from outputs and targets of the same shape, `[rows, classes]`.
    fn row_losses(self, output: &Output, y: &Tensor) -> Result<Tensor> {
        let values = &output.values;
        let logits = |function| if self.from_logits { Some(values) } else { output.before(function) };
        Ok(match self.kind {
            Kind::MeanSquared => (values - y)?.sqr()?.mean(D::Minus1)?,
            Kind::MeanAbsolute => absolute(&(values - y)?)?.mean(D::Minus1)?,
            Kind::Huber => {
                let error = (values - y)?.abs()?;
                // Half the square of the part up to 1, plus the whole part above 1.
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
                    // ln(1 + eˣ) = (x + |x|)/2 + ln(1 + e^-|x|), which does not overflow.
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

    /// Whether each sample has a single class and the model has one output per class.
    pub(crate) fn counts_classes(self) -> bool {
        matches!(self.kind, Kind::Categorical | Kind::SparseCategorical)
    }

    /// Whether the targets are classes, not real numbers.
    pub(crate) fn has_classes(self) -> bool {
        !self.kind.is_regression()
    }

    /// Returns the activation that converts the model's outputs to probabilities: `Linear` unless they
    /// are logits.
    pub(crate) fn probability_function(self) -> Activation {
        match self.kind {
            Kind::Binary | Kind::BinaryFocal if self.from_logits => Activation::Sigmoid,
            Kind::Categorical | Kind::SparseCategorical if self.from_logits => Activation::Softmax,
            _ => Activation::Linear,
        }
    }

    /// The equivalent loss of the GPU path for a model with this last activation. `None` if there is none. Losses of
    /// logits take the values before that activation, [`headstart_gpu::Loss::SquaredError`] those after it.
    pub(crate) fn on_gpu(self, last: Activation) -> Option<headstart_gpu::Loss> {
        let label_smoothing = self.label_smoothing as f32;
        let has_logits = self.last_activation() == Some(last);
        Some(match self.kind {
            Kind::Binary if has_logits => headstart_gpu::Loss::SigmoidCrossEntropy { label_smoothing },
            Kind::Categorical | Kind::SparseCategorical if has_logits => {
                headstart_gpu::Loss::SoftmaxCrossEntropy { label_smoothing }
            }
            Kind::MeanSquared if last != Activation::Softmax => headstart_gpu::Loss::SquaredError,
            _ => return None,
        })
    }
}

/// The absolute value, with the gradient 0 at 0 as in Keras and PyTorch; that of candle's `abs` is 1.
fn absolute(error: &Tensor) -> Result<Tensor> {
    let fixed = error.detach();
    let [above, below] = [fixed.gt(0f32)?, fixed.lt(0f32)?];
    let sign = (above.to_dtype(DType::F32)? - below.to_dtype(DType::F32)?)?;
    Ok((error * sign)?)
}

/// What to do with targets whose classes or channels are last.
const CHANNELS_LAST: &str = "channels are first here: `y.permute((0, 3, 1, 2))?`";

/// Converts class indices, one per sample or position, to one-hot targets `[N, columns]` in the order of the outputs.
///
/// # Errors
/// [`Error::Targets`] if a value is not a class index.
pub(super) fn one_hot(loss: &str, targets: &Tensor, layout: &ClassLayout) -> Result<Tensor> {
    let numbers = targets.flatten_all()?.to_vec1::<f32>()?;
    let samples = targets.dims().first().copied().unwrap_or(0);
    let classes = layout.classes;
    if !layout.has_classes(targets.dims()) {
        let is_one_hot = classes > 1 && layout.has_outputs(targets.dims());
        let hint = match is_one_hot {
            true => "for one-hot targets take CategoricalCrossentropy",
            false if layout.positions > 1 => {
                "use the class of each pixel or token; for one class per sample, put `GlobalAveragePooling2D` or `Flatten` \
                 before the classes"
            }
            false => "use one class number per sample",
        };
        return Err(refuse(loss, &format!("{:?}", layout.class_shape(samples)), targets, hint));
    }
    let mut values = vec![0f32; samples * layout.columns()];
    for (position, number) in numbers.iter().enumerate() {
        if number.fract() != 0.0 || !(0.0..classes as f32).contains(number) {
            let hint = format!("the model's last layer has {classes} outputs: one for each class");
            let expected = format!("class numbers from 0 to {}", classes - 1);
            return Err(refuse_value(loss, expected, *number, hint));
        }
        values[layout.index(position, *number as usize)] = 1.0;
    }
    Ok(Tensor::from_vec(values, (samples, layout.columns()), targets.device())?)
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

    /// candle's own loss for logits returns NaN for large values.
    #[test]
    fn large_logits_have_finite_loss_and_gradient() -> Result<()> {
        let x = Var::new(&[[-200f32], [0.0], [200.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[1f32], [0.0], [1.0]], &Device::Cpu)?;
        let output = Output::of(x.as_tensor().clone(), Activation::Sigmoid)?;
        let loss = BinaryCrossentropy.row_losses(&output, &y)?.mean_all()?;
        assert!((loss.to_scalar::<f32>()? - (200.0 + 2f32.ln()) / 3.0).abs() < 1e-4);
        let gradient = (loss.backward()?.get(&x).unwrap() * 3.0)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gradient, [-1.0, 0.5, 0.0]);
        let found = candle_nn::loss::binary_cross_entropy_with_logit(&x, &y)?.to_scalar::<f32>()?;
        assert!(!found.is_finite(), "{found}: candle's own is safe now and may be used");
        Ok(())
    }

    #[test]
    fn label_smoothing_moves_targets_towards_each_other() -> Result<()> {
        let y = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
        let smooth = |loss: BuiltInLoss, y: &Tensor| -> Result<Vec<f32>> {
            Ok(loss.label_smoothing(0.1).smooth(y)?.flatten_all()?.to_vec1()?)
        };
        assert_eq!(smooth(CategoricalCrossentropy, &y)?, [0.95, 0.05]);
        assert_eq!(smooth(BinaryCrossentropy, &y.narrow(1, 0, 1)?)?, [0.95]);
        Ok(())
    }
}
