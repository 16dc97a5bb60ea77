//! Elementwise functions of one value, composed of an ONNX file's operators, and which activation each is.
//!
//! Exporters write activations in many forms: GELU as `0.5 · x · (1 + erf(x / √2))`, hard-swish as
//! `x · clip(x + 3, 0, 6) / 6`. A function is therefore recognised by its values, not by its form.

use std::fmt;
use std::rc::Rc;

use candle_core::cpu::erf::erf_f64;

use crate::nn::Activation;

/// Maximum number of operators of a function (24: GELU by tanh has about 10). A larger function becomes several layers.
pub(super) const MAX_OPERATORS: usize = 24;

/// A function of one number.
#[derive(Clone, Debug)]
pub(super) struct Function {
    term: Rc<Term>,
    /// Number of operators, without sharing.
    pub(super) operators: usize,
}

/// The outermost operator of a function, with its operands.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// The argument.
    Argument,
    Number(f64),
    Unary(Unary, Function),
    Binary(Binary, Function, Function),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unary {
    Activation(Activation),
    /// `max(0, min(1, alpha · x + beta))`.
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    Clip {
        min: f64,
        max: f64,
    },
    Erf,
    Exp,
    Negate,
    Reciprocal,
    Sqrt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
}

/// A function that one layer computes, or the identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ElementwiseFunction {
    Identity,
    /// `scale · x + offset`.
    Rescaling {
        scale: f64,
        offset: f64,
    },
    Activation(Activation),
}

/// Activations that are functions of one number.
const ACTIVATIONS: [Activation; 9] = [
    Activation::Relu,
    Activation::Relu6,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Tanh,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::HardSigmoid,
    Activation::HardSwish,
];

impl Function {
    /// The identity.
    pub(super) fn argument() -> Function {
        Function { term: Rc::new(Term::Argument), operators: 0 }
    }

    pub(super) fn number(value: f32) -> Function {
        Function { term: Rc::new(Term::Number(f64::from(value))), operators: 0 }
    }

    pub(super) fn unary(operator: Unary, operand: Function) -> Function {
        let operators = operand.operators.saturating_add(1);
        Function { term: Rc::new(Term::Unary(operator, operand)), operators }
    }

    pub(super) fn binary(operator: Binary, a: Function, b: Function) -> Function {
        let operators = a.operators.saturating_add(b.operators).saturating_add(1);
        Function { term: Rc::new(Term::Binary(operator, a, b)), operators }
    }

    pub(super) fn term(&self) -> &Term {
        &self.term
    }

    pub(super) fn is_identity(&self) -> bool {
        matches!(*self.term, Term::Argument)
    }

    fn at(&self, x: f64) -> f64 {
        match &*self.term {
            Term::Argument => x,
            Term::Number(value) => *value,
            Term::Unary(operator, operand) => operator.at(operand.at(x)),
            Term::Binary(operator, a, b) => operator.at(a.at(x), b.at(x)),
        }
    }

    /// Compares the function with the known ones at many points.
    pub(super) fn recognise(&self) -> Option<ElementwiseFunction> {
        let near = (-96..=96).map(|step| f64::from(step) * 0.127);
        let points: Vec<f64> = near.chain([-1e4, -300.0, -40.0, 40.0, 300.0, 1e4]).collect();
        let values: Vec<f64> = points.iter().map(|x| self.at(*x)).collect();
        let is = |known: &dyn Fn(f64) -> f64| {
            /// Largest difference (1e-5: constants are f32; GELU and its approximation differ by 4.7e-4).
            const TOLERANCE: f64 = 1e-5;
            let is_equal = |(x, y): (&f64, &f64)| (known(*x) - y).abs() <= TOLERANCE * (1.0 + y.abs());
            points.iter().zip(&values).all(is_equal)
        };
        if is(&|x| x) {
            return Some(ElementwiseFunction::Identity);
        }
        let offset = self.at(0.0);
        let scale = self.at(1.0) - offset;
        if is(&|x| scale * x + offset) {
            return Some(ElementwiseFunction::Rescaling { scale, offset });
        }
        let activation = ACTIVATIONS.into_iter().find(|activation| is(&|x| value_of(*activation, x)));
        activation.map(ElementwiseFunction::Activation)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.term() {
            Term::Argument => write!(f, "x"),
            Term::Number(value) => write!(f, "{value}"),
            Term::Unary(operator, operand) => write!(f, "{operator:?}({operand})"),
            Term::Binary(operator, a, b) => write!(f, "{operator:?}({a}, {b})"),
        }
    }
}

impl Unary {
    pub(super) fn at(self, x: f64) -> f64 {
        match self {
            Unary::Activation(activation) => value_of(activation, x),
            Unary::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Unary::Clip { min, max } => x.max(min).min(max),
            Unary::Erf => erf_f64(x),
            Unary::Exp => x.exp(),
            Unary::Negate => -x,
            Unary::Reciprocal => 1.0 / x,
            Unary::Sqrt => x.sqrt(),
        }
    }
}

impl Binary {
    fn at(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Subtract => a - b,
            Binary::Multiply => a * b,
            Binary::Divide => a / b,
            Binary::Power => a.powf(b),
        }
    }
}

fn value_of(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Gelu => 0.5 * x * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2)),
        Activation::GeluTanh => {
            let scale = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (scale * (x + 0.044_715 * x.powi(3))).tanh())
        }
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        // Softmax is not a function of one number, so it is never an operand.
        Activation::Linear | Activation::Softmax => x,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_recognised_in_any_form() {
        let x = Function::argument;
        let number = Function::number;
        let binary = Function::binary;
        let clip = |min: f64, max: f64, operand: Function| Function::unary(Unary::Clip { min, max }, operand);
        let cases = [
            (clip(0.0, f64::INFINITY, x()), Activation::Relu),
            (clip(0.0, 6.0, x()), Activation::Relu6),
            (
                binary(
                    Binary::Divide,
                    binary(Binary::Multiply, x(), clip(0.0, 6.0, binary(Binary::Add, x(), number(3.0)))),
                    number(6.0),
                ),
                Activation::HardSwish,
            ),
            (
                Function::unary(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x()),
                Activation::HardSigmoid,
            ),
            (
                binary(
                    Binary::Divide,
                    x(),
                    binary(
                        Binary::Add,
                        number(1.0),
                        Function::unary(Unary::Exp, Function::unary(Unary::Negate, x())),
                    ),
                ),
                Activation::Silu,
            ),
            (
                binary(
                    Binary::Multiply,
                    binary(Binary::Multiply, x(), number(0.5)),
                    binary(
                        Binary::Add,
                        Function::unary(
                            Unary::Erf,
                            binary(Binary::Divide, x(), number(std::f32::consts::SQRT_2)),
                        ),
                        number(1.0),
                    ),
                ),
                Activation::Gelu,
            ),
        ];
        for (function, expected) in cases {
            assert_eq!(function.recognise(), Some(ElementwiseFunction::Activation(expected)), "{function:?}");
        }
    }

    #[test]
    fn similar_functions_are_distinguished() {
        let x = Function::argument;
        let hard = Function::unary(Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, x());
        assert_eq!(hard.recognise(), None);
        assert_eq!(Function::unary(Unary::Clip { min: 0.0, max: 20.0 }, x()).recognise(), None);
        for activation in ACTIVATIONS {
            let function = Function::unary(Unary::Activation(activation), x());
            assert_eq!(function.recognise(), Some(ElementwiseFunction::Activation(activation)));
        }
        let scaled = Function::binary(Binary::Divide, x(), Function::number(255.0));
        let scaled = Function::binary(Binary::Subtract, scaled, Function::number(1.0));
        let Some(ElementwiseFunction::Rescaling { scale, offset }) = scaled.recognise() else {
            panic!("{scaled:?}")
        };
        assert!((scale - 1.0 / 255.0).abs() < 1e-9 && (offset + 1.0).abs() < 1e-9);
    }
}
