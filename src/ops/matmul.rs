//! Single-threaded matrix products of strided operands, by the crate `gemm`. Callers run several of them
//! in parallel.

use std::ops::Range;

/// Splits channels into blocks of at most `size`, one task each.
pub(super) fn channel_blocks(channels: usize, size: usize) -> Vec<Range<usize>> {
    (0..channels).step_by(size.max(1)).map(|first| first..(first + size).min(channels)).collect()
}

/// `target = a · b`, or `target += a · b` if `accumulate`, for sizes `[rows, columns, inner]`.
///
/// Each operand is given with its row stride and column stride. The rows of the target are contiguous.
///
/// # Safety
/// The target has room for the product, and no other thread reads or writes it.
pub(super) unsafe fn matmul(
    sizes: [usize; 3],
    (target, target_row_stride, accumulate): (*mut f32, usize, bool),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
) {
    // SAFETY: the caller's contract.
    unsafe { checked_gemm(sizes, (target, target_row_stride, 1), accumulate, a, b) }
}

/// `target = a · b` for a target with any row and column stride.
///
/// # Safety
/// As for [`matmul`].
pub(super) unsafe fn matmul_strided(
    sizes: [usize; 3],
    target: (*mut f32, usize, usize),
    a: (&[f32], usize, usize),
    b: (&[f32], usize, usize),
) {
    // SAFETY: the caller's contract.
    unsafe { checked_gemm(sizes, target, false, a, b) }
}

/// # Safety
/// As for [`matmul`].
unsafe fn checked_gemm(
    [rows, columns, inner]: [usize; 3],
    (target, target_row_stride, target_column_stride): (*mut f32, usize, usize),
    accumulate: bool,
    (a, a_row_stride, a_column_stride): (&[f32], usize, usize),
    (b, b_row_stride, b_column_stride): (&[f32], usize, usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(inner > 0 && a.len() > (rows - 1) * a_row_stride + (inner - 1) * a_column_stride);
    assert!(b.len() > (inner - 1) * b_row_stride + (columns - 1) * b_column_stride);
    // SAFETY: the operands' lengths were checked; the caller guarantees the target's.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            target,
            target_column_stride as isize,
            target_row_stride as isize,
            accumulate,
            a.as_ptr(),
            a_column_stride as isize,
            a_row_stride as isize,
            b.as_ptr(),
            b_column_stride as isize,
            b_row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
