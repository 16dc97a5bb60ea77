//! The choice among cuDNN's algorithms for one direction of a convolution.

use std::os::raw::c_int;

use super::Direction;
use super::dnn::Dnn;
use super::dnn_plan::{Algorithms, Candidate, Choice, Plan};
use super::dnn_status::check;
use super::functions::AlgorithmChoice;
use crate::{Precision, Result};

/// `CUDNN_DEFAULT_MATH`, which permits TensorFloat-32 for float32 data; `CUDNN_TENSOR_OP_MATH`, which permits tensor
/// cores for bfloat16 data; and `CUDNN_FMA_MATH`, which permits neither.
const DEFAULT_MATH: c_int = 0;
const TENSOR_MATH: c_int = 1;
const FMA_MATH: c_int = 3;
/// `CUDNN_DETERMINISTIC`.
const DETERMINISTIC: c_int = 1;
/// Maximum number of algorithms that are requested from cuDNN for one direction.
const MAX_ALGORITHMS: usize = 10;

/// The math type of a precision.
fn math(precision: Precision) -> c_int {
    match precision {
        Precision::Float32 => FMA_MATH,
        Precision::TensorFloat32 => DEFAULT_MATH,
        Precision::BFloat16 => TENSOR_MATH,
    }
}

impl Dnn {
    /// The deterministic algorithms of a direction, in the order of cuDNN's heuristic.
    pub(super) fn choose(&self, plan: &Plan, direction: Direction) -> Result<Algorithms> {
        let f = &self.functions;
        let mut choices = [AlgorithmChoice::default(); MAX_ALGORITHMS];
        // Another direction may have left its own math type.
        self.set_math(plan, math(plan.precision))?;
        let (limit, mut found) = (MAX_ALGORITHMS as c_int, 0);
        let (name, get) = match direction {
            Direction::Forward => {
                ("cudnnGetConvolutionForwardAlgorithm_v7", f.cudnnGetConvolutionForwardAlgorithm_v7)
            }
            Direction::BackwardData => {
                ("cudnnGetConvolutionBackwardDataAlgorithm_v7", f.cudnnGetConvolutionBackwardDataAlgorithm_v7)
            }
            Direction::BackwardFilter => (
                "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
                f.cudnnGetConvolutionBackwardFilterAlgorithm_v7,
            ),
        };
        let [a, b, result] = plan.operands(direction);
        // SAFETY: the descriptors exist, and `choices` has `limit` elements.
        let status = unsafe {
            get(self.handle, a, b, plan.convolution, result, limit, &mut found, choices.as_mut_ptr())
        };
        check(name, status)?;
        let known = &choices[..(found.max(0) as usize).min(MAX_ALGORITHMS)];
        let is_right = |choice: &&AlgorithmChoice| choice.status == 0 && choice.determinism == DETERMINISTIC;
        let right = known.iter().filter(is_right).filter_map(|choice| {
            // With `FMA_MATH` in the descriptor no algorithm uses TensorFloat-32, whatever cuDNN calls its math type.
            let math = match plan.precision {
                Precision::Float32 if !matches!(choice.math_type, DEFAULT_MATH | FMA_MATH) => return None,
                Precision::Float32 => FMA_MATH,
                Precision::TensorFloat32 | Precision::BFloat16 => choice.math_type,
            };
            Some(Candidate { number: choice.algorithm, math })
        });
        let mut others: Vec<Candidate> = right.collect();
        let fallback = Candidate { number: direction.fallback(), math: math(plan.precision) };
        if !others.contains(&fallback) {
            others.push(fallback);
        }
        others.reverse();
        let mut algorithms = Algorithms { current: fallback, workspace: 0, others };
        if !self.advance(plan, direction, &mut algorithms) {
            algorithms.workspace = self.workspace(plan, direction, fallback)?;
        }
        Ok(algorithms)
    }

    /// Makes the next algorithm the current one. Returns whether there was one.
    pub(super) fn take_next(&self, plan: &mut Plan, direction: Direction) -> bool {
        let choice = std::mem::replace(&mut plan.choices[direction as usize], Choice::Unknown);
        let Choice::Algorithms(mut algorithms) = choice else { return false };
        let advanced = self.advance(plan, direction, &mut algorithms);
        plan.choices[direction as usize] = Choice::Algorithms(algorithms);
        advanced
    }

    /// Makes the next algorithm whose workspace is within the limit the current one. Returns whether there was one.
    fn advance(&self, plan: &Plan, direction: Direction, algorithms: &mut Algorithms) -> bool {
        while let Some(next) = algorithms.others.pop() {
            // The workspace in the answer of the heuristic can be too small for some versions of cuDNN.
            if let Ok(bytes) = self.workspace(plan, direction, next)
                && bytes <= self.workspace_limit
            {
                (algorithms.current, algorithms.workspace) = (next, bytes);
                return true;
            }
        }
        false
    }

    /// Sets the math type of a plan's next calls.
    pub(super) fn set_math(&self, plan: &Plan, math: c_int) -> Result<()> {
        // SAFETY: the descriptor exists.
        let status = unsafe { (self.functions.cudnnSetConvolutionMathType)(plan.convolution, math) };
        check("cudnnSetConvolutionMathType", status)
    }

    /// The workspace of an algorithm, in bytes.
    fn workspace(&self, plan: &Plan, direction: Direction, candidate: Candidate) -> Result<usize> {
        self.set_math(plan, candidate.math)?;
        let (f, mut bytes) = (&self.functions, 0);
        let (name, get) = match direction {
            Direction::Forward => {
                ("cudnnGetConvolutionForwardWorkspaceSize", f.cudnnGetConvolutionForwardWorkspaceSize)
            }
            Direction::BackwardData => (
                "cudnnGetConvolutionBackwardDataWorkspaceSize",
                f.cudnnGetConvolutionBackwardDataWorkspaceSize,
            ),
            Direction::BackwardFilter => (
                "cudnnGetConvolutionBackwardFilterWorkspaceSize",
                f.cudnnGetConvolutionBackwardFilterWorkspaceSize,
            ),
        };
        let [a, b, result] = plan.operands(direction);
        // SAFETY: the descriptors exist, and the function writes one integer.
        let status =
            unsafe { get(self.handle, a, b, plan.convolution, result, candidate.number, &mut bytes) };
        check(name, status)?;
        Ok(bytes)
    }
}
