//! What a convolution computes, and its sizes.

use std::os::raw::c_int;

/// The sizes of a convolution: the key of its plan.
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
}

/// An algorithm, and the math type with which cuDNN offers it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) number: c_int,
    pub(super) math: c_int,
}

/// The algorithms of one direction.
pub(super) struct Algorithms {
    pub(super) current: Candidate,
    /// The workspace of the current one, in bytes.
    pub(super) workspace: usize,
    /// The others, from the last choice to the next.
    pub(super) others: Vec<Candidate>,
}
