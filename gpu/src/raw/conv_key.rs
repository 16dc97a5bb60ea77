//! What a convolution computes, its sizes, and its precision.

use std::os::raw::c_int;

use crate::Precision;

/// The sizes and the precision of a convolution: the key of its plan.
///
/// In [`Precision::BFloat16`] the operands are bfloat16 in NHWC, else float32 in NCHW. The sizes have the order of NCHW
/// in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConvKey {
    /// `[N, C, H, W]`.
    pub(crate) input: [i32; 4],
    /// `[filters, C / groups, rows, columns]`.
    pub(crate) kernel: [i32; 4],
    /// `[N, filters, H, W]`.
    pub(crate) output: [i32; 4],
    /// Rows above and below, and columns left and right.
    pub(crate) padding: [i32; 2],
    pub(crate) stride: i32,
    pub(crate) dilation: i32,
    pub(crate) groups: i32,
    pub(crate) precision: Precision,
}

/// What a convolution computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The output, from input and kernel.
    Forward,
    /// The input's gradient, from kernel and output's gradient.
    BackwardData,
    /// The kernel's gradient, from input and output's gradient.
    BackwardFilter,
}

impl Direction {
    /// The deterministic algorithm that needs no heuristic: `IMPLICIT_GEMM`, `BWD_DATA_ALGO_1`, `BWD_FILTER_ALGO_1`.
    pub(super) fn fallback(self) -> c_int {
        if self == Direction::Forward { 0 } else { 1 }
    }

    /// The operands in the order of cuDNN's arguments, the result last. The operands are numbered input 0, kernel 1,
    /// output 2.
    pub(crate) fn order(self) -> [usize; 3] {
        match self {
            Direction::Forward => [0, 1, 2],
            Direction::BackwardData => [1, 2, 0],
            Direction::BackwardFilter => [0, 2, 1],
        }
    }
}
