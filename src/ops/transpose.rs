//! Transposition of matrices: converts feature maps between NCHW and NHWC.

use std::ops::Range;

use super::output_ptr::OutputPtr;
use super::thread_pool::parallel_for;

/// Columns of a task (256: enough work per task, and enough tasks for all threads).
const TASK_COLUMNS: usize = 256;
/// Rows per pass of the scalar loop (16: a cache line of f32 in the output).
const SCALAR_ROWS: usize = 16;

/// Transposes matrices: `[N, rows, columns]` to `[N, columns, rows]`.
pub(super) fn transpose(x: &[f32], [matrices, rows, columns]: [usize; 3]) -> Vec<f32> {
    assert_eq!(x.len(), matrices * rows * columns);
    let mut output = Vec::with_capacity(x.len());
    let target = OutputPtr(output.as_mut_ptr());
    let parts = columns.div_ceil(TASK_COLUMNS);
    parallel_for(matrices * parts, |task| {
        let matrix = task / parts * rows * columns;
        let first = task % parts * TASK_COLUMNS;
        let from = &x[matrix..matrix + rows * columns];
        // SAFETY: the matrix lies inside the buffer.
        let to = unsafe { target.at(matrix) };
        let transposition = Transposition { from, to, rows, columns };
        // SAFETY: no two tasks share a column.
        unsafe { transposition.transpose_columns(first..columns.min(first + TASK_COLUMNS)) };
    });
    // SAFETY: every row of every column was written.
    unsafe { output.set_len(x.len()) };
    output
}

/// One matrix to transpose.
struct Transposition<'a> {
    from: &'a [f32],
    /// A buffer of the same length.
    to: *mut f32,
    rows: usize,
    columns: usize,
}

impl Transposition<'_> {
    /// Transposes some columns with the widest vectors of the processor.
    ///
    /// # Safety
    /// No other thread writes these columns.
    unsafe fn transpose_columns(&self, columns: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor's features are checked; the rest is the caller's contract.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                return self.transpose_blocks::<16>(columns, |from, to| {
                    x86::transpose_16x16(from, self.columns, to, self.rows)
                });
            }
            if is_x86_feature_detected!("avx") {
                return self.transpose_blocks::<8>(columns, |from, to| {
                    x86::transpose_8x8(from, self.columns, to, self.rows)
                });
            }
        }
        // SAFETY: the caller's contract.
        unsafe { self.transpose_scalar(0..self.rows, columns) };
    }

    /// Transposes square blocks with `transpose_block`, and the remaining edges with the scalar loop.
    ///
    /// # Safety
    /// No other thread writes these columns, and `transpose_block` transposes `SIDE` x `SIDE` values.
    unsafe fn transpose_blocks<const SIDE: usize>(
        &self,
        columns: Range<usize>,
        transpose_block: impl Fn(*const f32, *mut f32),
    ) {
        let block_rows = self.rows - self.rows % SIDE;
        let block_end = columns.end - columns.len() % SIDE;
        for row in (0..block_rows).step_by(SIDE) {
            for column in (columns.start..block_end).step_by(SIDE) {
                let from = self.from[row * self.columns + column..].as_ptr();
                // SAFETY: the block lies inside the matrix.
                transpose_block(from, unsafe { self.to.add(column * self.rows + row) });
            }
        }
        // SAFETY: the caller's contract.
        unsafe {
            self.transpose_scalar(0..block_rows, block_end..columns.end);
            self.transpose_scalar(block_rows..self.rows, columns);
        }
    }

    /// Transposes value by value.
    ///
    /// # Safety
    /// No other thread writes these columns.
    unsafe fn transpose_scalar(&self, rows: Range<usize>, columns: Range<usize>) {
        for top in rows.clone().step_by(SCALAR_ROWS) {
            for column in columns.clone() {
                for row in top..rows.end.min(top + SCALAR_ROWS) {
                    let value = self.from[row * self.columns + column];
                    // SAFETY: the value lies inside the matrix.
                    unsafe { self.to.add(column * self.rows + row).write(value) };
                }
            }
        }
    }
}

/// Transposition of blocks in vector registers: interleave pairs of rows, then pairs of these pairs,
/// then shuffle the groups of four rows.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Transposes 16 x 16 values. The strides are the distances between the starts of two rows.
    ///
    /// # Safety
    /// The source is valid for reads, the target for writes.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose_16x16(
        from: *const f32,
        row_stride: usize,
        to: *mut f32,
        target_row_stride: usize,
    ) {
        // For each group of four rows: its 4 x 4 blocks, transposed.
        let mut groups = [[_mm512_setzero_ps(); 4]; 4];
        for (index, group) in groups.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            let row = |row| unsafe { _mm512_loadu_ps(from.add((4 * index + row) * row_stride)) };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let low =
                [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)].map(|pairs| _mm512_castps_pd(pairs));
            let high =
                [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)].map(|pairs| _mm512_castps_pd(pairs));
            *group = [
                _mm512_unpacklo_pd(low[0], low[1]),
                _mm512_unpackhi_pd(low[0], low[1]),
                _mm512_unpacklo_pd(high[0], high[1]),
                _mm512_unpackhi_pd(high[0], high[1]),
            ]
            .map(|pairs| _mm512_castpd_ps(pairs));
        }
        // Select the 128-bit lanes 0 and 2 of each operand (even), or 1 and 3 (odd).
        const EVEN: i32 = 0x88;
        const ODD: i32 = 0xdd;
        for index in 0..4 {
            let [a, b, c, d] = groups.map(|group| group[index]);
            let even = [_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<EVEN>(c, d)];
            let odd = [_mm512_shuffle_f32x4::<ODD>(a, b), _mm512_shuffle_f32x4::<ODD>(c, d)];
            let columns = [
                _mm512_shuffle_f32x4::<EVEN>(even[0], even[1]),
                _mm512_shuffle_f32x4::<EVEN>(odd[0], odd[1]),
                _mm512_shuffle_f32x4::<ODD>(even[0], even[1]),
                _mm512_shuffle_f32x4::<ODD>(odd[0], odd[1]),
            ];
            for (group, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { _mm512_storeu_ps(to.add((4 * group + index) * target_row_stride), column) };
            }
        }
    }

    /// Transposes 8 x 8 values.
    ///
    /// # Safety
    /// The source is valid for reads, the target for writes.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn transpose_8x8(
        from: *const f32,
        row_stride: usize,
        to: *mut f32,
        target_row_stride: usize,
    ) {
        let mut groups = [[_mm256_setzero_ps(); 4]; 2];
        for (index, group) in groups.iter_mut().enumerate() {
            // SAFETY: the caller's contract.
            let row = |row| unsafe { _mm256_loadu_ps(from.add((4 * index + row) * row_stride)) };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let low =
                [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)].map(|pairs| _mm256_castps_pd(pairs));
            let high =
                [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)].map(|pairs| _mm256_castps_pd(pairs));
            *group = [
                _mm256_unpacklo_pd(low[0], low[1]),
                _mm256_unpackhi_pd(low[0], low[1]),
                _mm256_unpacklo_pd(high[0], high[1]),
                _mm256_unpackhi_pd(high[0], high[1]),
            ]
            .map(|pairs| _mm256_castpd_ps(pairs));
        }
        for index in 0..4 {
            let [a, b] = groups.map(|group| group[index]);
            let columns = [_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)];
            for (group, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { _mm256_storeu_ps(to.add((4 * group + index) * target_row_stride), column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every implementation that this processor supports.
    #[test]
    fn columns_become_rows() {
        for [rows, columns] in [[1, 1], [16, 16], [40, 35], [7, 600], [64, 256], [0, 3], [3, 0]] {
            let x: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
            let expected: Vec<f32> =
                (0..columns).flat_map(|column| x.iter().skip(column).step_by(columns)).copied().collect();
            assert_eq!(transpose(&x, [1, rows, columns]), expected);
            let check = |run: &dyn Fn(&Transposition, Range<usize>)| {
                let mut to = vec![-1.0; x.len()];
                let transposition = Transposition { from: &x, to: to.as_mut_ptr(), rows, columns };
                run(&transposition, 0..columns / 3);
                run(&transposition, columns / 3..columns);
                assert_eq!(to, expected);
            };
            // SAFETY: no other thread has the buffer.
            check(&|transposition, columns| unsafe { transposition.transpose_scalar(0..rows, columns) });
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, and the processor's features are checked.
            unsafe {
                if is_x86_feature_detected!("avx512f") {
                    check(&|transposition, range| {
                        transposition.transpose_blocks::<16>(range, |from, to| {
                            x86::transpose_16x16(from, columns, to, rows)
                        })
                    });
                }
                if is_x86_feature_detected!("avx") {
                    check(&|transposition, range| {
                        transposition.transpose_blocks::<8>(range, |from, to| {
                            x86::transpose_8x8(from, columns, to, rows)
                        })
                    });
                }
            }
        }
    }
}
