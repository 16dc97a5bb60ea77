//! Conversion of a model's outputs to probabilities, a class and a confidence, as in `evaluate`.

use candle_core::{Device, Tensor};

use super::Activation;
use crate::Error;

/// Probability above which a single output means class 1, as in Keras's `BinaryAccuracy`.
pub(crate) const THRESHOLD: f32 = 0.5;

/// Class of one sample: index of the largest probability; for a single output, 1 above [`THRESHOLD`].
pub(crate) fn class_of(probabilities: &[f32]) -> usize {
    if let [one] = probabilities { usize::from(*one > THRESHOLD) } else { largest(probabilities) }
}

/// Index of the largest value; the first one if several are equal.
pub(crate) fn largest(row: &[f32]) -> usize {
    let best =
        |best: (usize, f32), (at, value): (usize, &f32)| if *value > best.1 { (at, *value) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), best).0
}

/// Probabilities of one sample, computed from its outputs by `function`.
pub(crate) fn probabilities(function: Activation, outputs: &[f32]) -> Vec<f32> {
    match function {
        Activation::Sigmoid => outputs.iter().map(|x| ((-x).exp() + 1.0).recip()).collect(),
        Activation::Softmax => {
            let max = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = outputs.iter().map(|x| (x - max).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
        Activation::Linear => outputs.to_vec(),
        // Of a loss of one's own.
        other => {
            let applied =
                Tensor::new(outputs, &Device::Cpu).map_err(Error::from).and_then(|x| other.apply(&x));
            let values = applied.and_then(|applied| Ok(applied.to_vec1()?));
            values.expect("functions of single values apply to a vector on the CPU")
        }
    }
}
