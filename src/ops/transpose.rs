//! Matrices turned, as maps are from planes to pixels and back.

use std::ops::Range;

use super::crew::each;
use super::slices::Shared;

/// Columns of a task.
const COLUMNS: usize = 256;
/// Rows that are read together where there is no better way.
const ROWS: usize = 16;

/// From `[N, rows, columns]` to `[N, columns, rows]`.
pub(super) fn turned(x: &[f32], [matrices, rows, columns]: [usize; 3]) -> Vec<f32> {
    assert_eq!(x.len(), matrices * rows * columns);
    let mut output = Vec::with_capacity(x.len());
    let target = Shared(output.as_mut_ptr());
    let parts = columns.div_ceil(COLUMNS);
    each(matrices * parts, |task| {
        let matrix = task / parts * rows * columns;
        let first = task % parts * COLUMNS;
        let from = &x[matrix..matrix + rows * columns];
        // SAFETY: inside.
        let to = unsafe { target.at(matrix) };
        let turn = Turn { from, to, rows, columns };
        // SAFETY: each task has columns of its own.
        unsafe { turn.of_columns(first..columns.min(first + COLUMNS)) };
    });
    // SAFETY: every row of every column was written.
    unsafe { output.set_len(x.len()) };
    output
}

struct Turn<'a> {
    from: &'a [f32],
    /// With room for as many.
    to: *mut f32,
    rows: usize,
    columns: usize,
}

impl Turn<'_> {
    /// # Safety
    /// Nobody else writes these columns.
    unsafe fn of_columns(&self, columns: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has what the block takes; the rest is the caller's promise.
        unsafe {
            if is_x86_feature_detected!("avx512f") {
                return self
                    .by_blocks::<16>(columns, |from, to| x86::sixteen(from, self.columns, to, self.rows));
            }
            if is_x86_feature_detected!("avx") {
                return self
                    .by_blocks::<8>(columns, |from, to| x86::eight(from, self.columns, to, self.rows));
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.one_by_one(0..self.rows, columns) };
    }

    /// # Safety
    /// Nobody else writes these columns, and `block` turns as many rows of as many columns.
    unsafe fn by_blocks<const SIDE: usize>(
        &self,
        columns: Range<usize>,
        block: impl Fn(*const f32, *mut f32),
    ) {
        let whole = self.rows - self.rows % SIDE;
        let end = columns.end - columns.len() % SIDE;
        for row in (0..whole).step_by(SIDE) {
            for column in (columns.start..end).step_by(SIDE) {
                let from = self.from[row * self.columns + column..].as_ptr();
                // SAFETY: inside.
                block(from, unsafe { self.to.add(column * self.rows + row) });
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.one_by_one(0..whole, end..columns.end);
            self.one_by_one(whole..self.rows, columns);
        }
    }

    /// # Safety
    /// Nobody else writes these.
    unsafe fn one_by_one(&self, rows: Range<usize>, columns: Range<usize>) {
        for top in rows.clone().step_by(ROWS) {
            for column in columns.clone() {
                for row in top..rows.end.min(top + ROWS) {
                    let value = self.from[row * self.columns + column];
                    // SAFETY: inside.
                    unsafe { self.to.add(column * self.rows + row).write(value) };
                }
            }
        }
    }
}

/// Blocks in registers: each number of four rows beside that of the next row, these pairs beside one
/// another, and then the fours of all rows.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Sixteen rows of sixteen columns; each row begins so far from the one before.
    ///
    /// # Safety
    /// They can be read, and written.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn sixteen(from: *const f32, apart: usize, to: *mut f32, apart_to: usize) {
        // Of four rows, the columns of each four.
        let mut fours = [[_mm512_setzero_ps(); 4]; 4];
        for (at, four) in fours.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let row = |row| unsafe { _mm512_loadu_ps(from.add((4 * at + row) * apart)) };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let low =
                [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)].map(|pairs| _mm512_castps_pd(pairs));
            let high =
                [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)].map(|pairs| _mm512_castps_pd(pairs));
            *four = [
                _mm512_unpacklo_pd(low[0], low[1]),
                _mm512_unpackhi_pd(low[0], low[1]),
                _mm512_unpacklo_pd(high[0], high[1]),
                _mm512_unpackhi_pd(high[0], high[1]),
            ]
            .map(|pairs| _mm512_castpd_ps(pairs));
        }
        const EVEN: i32 = 0x88;
        const ODD: i32 = 0xdd;
        for at in 0..4 {
            let [a, b, c, d] = fours.map(|four| four[at]);
            let even = [_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<EVEN>(c, d)];
            let odd = [_mm512_shuffle_f32x4::<ODD>(a, b), _mm512_shuffle_f32x4::<ODD>(c, d)];
            let columns = [
                _mm512_shuffle_f32x4::<EVEN>(even[0], even[1]),
                _mm512_shuffle_f32x4::<EVEN>(odd[0], odd[1]),
                _mm512_shuffle_f32x4::<ODD>(even[0], even[1]),
                _mm512_shuffle_f32x4::<ODD>(odd[0], odd[1]),
            ];
            for (four, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_ps(to.add((4 * four + at) * apart_to), column) };
            }
        }
    }

    /// The same of eight.
    ///
    /// # Safety
    /// They can be read, and written.
    #[target_feature(enable = "avx")]
    pub(super) unsafe fn eight(from: *const f32, apart: usize, to: *mut f32, apart_to: usize) {
        let mut fours = [[_mm256_setzero_ps(); 4]; 2];
        for (at, four) in fours.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let row = |row| unsafe { _mm256_loadu_ps(from.add((4 * at + row) * apart)) };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let low =
                [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)].map(|pairs| _mm256_castps_pd(pairs));
            let high =
                [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)].map(|pairs| _mm256_castps_pd(pairs));
            *four = [
                _mm256_unpacklo_pd(low[0], low[1]),
                _mm256_unpackhi_pd(low[0], low[1]),
                _mm256_unpacklo_pd(high[0], high[1]),
                _mm256_unpackhi_pd(high[0], high[1]),
            ]
            .map(|pairs| _mm256_castpd_ps(pairs));
        }
        for at in 0..4 {
            let [a, b] = fours.map(|four| four[at]);
            let columns = [_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)];
            for (four, column) in columns.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm256_storeu_ps(to.add((4 * four + at) * apart_to), column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By each of the ways that this processor has.
    #[test]
    fn columns_become_rows() {
        for [rows, columns] in [[1, 1], [16, 16], [40, 35], [7, 600], [64, 256], [0, 3], [3, 0]] {
            let x: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
            let expected: Vec<f32> =
                (0..columns).flat_map(|column| x.iter().skip(column).step_by(columns)).copied().collect();
            assert_eq!(turned(&x, [1, rows, columns]), expected);
            let found = |way: &dyn Fn(&Turn, Range<usize>)| {
                let mut to = vec![-1.0; x.len()];
                let turn = Turn { from: &x, to: to.as_mut_ptr(), rows, columns };
                way(&turn, 0..columns / 3);
                way(&turn, columns / 3..columns);
                assert_eq!(to, expected);
            };
            // SAFETY: nobody else has the numbers.
            found(&|turn, columns| unsafe { turn.one_by_one(0..rows, columns) });
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the same, and the processor is looked at.
            unsafe {
                if is_x86_feature_detected!("avx512f") {
                    found(&|turn, range| {
                        turn.by_blocks::<16>(range, |from, to| x86::sixteen(from, columns, to, rows))
                    });
                }
                if is_x86_feature_detected!("avx") {
                    found(&|turn, range| {
                        turn.by_blocks::<8>(range, |from, to| x86::eight(from, columns, to, rows))
                    });
                }
            }
        }
    }
}
