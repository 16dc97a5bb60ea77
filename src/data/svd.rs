//! Truncated singular value decomposition, for principal components and whitening.
//!
//! The symmetric eigenvalue problem is solved by Householder tridiagonalisation and implicit QR steps
//! (Golub and Van Loan, "Matrix Computations", 4th edition, algorithms 8.3.1 to 8.3.3). A linear algebra
//! crate would add a tenth to the metadata that rustc reads for each cell.

use candle_core::Tensor;

use crate::{Result, check_interrupt};

/// Singular values below this fraction of the largest count as zero: they are rounding errors.
const RELATIVE_TOLERANCE: f64 = 1e-7;
/// Maximum number of QR steps per eigenvalue, on average (60; two are typical). Only a matrix with NaN
/// reaches the limit.
const MAX_STEPS_PER_EIGENVALUE: usize = 60;
/// Rows of a matrix product between two looks at the interrupt (256: well below a second for 25,000 columns).
const PRODUCT_ROWS: usize = 256;

/// The largest singular values of an f64 matrix `[rows, columns]`, in descending order, each with its right
/// singular vector of length 1. At most `max_count`; singular values of zero are left out.
pub(crate) fn truncated_svd(rows: &Tensor, max_count: usize) -> Result<Vec<(f64, Vec<f64>)>> {
    let (height, width) = rows.dims2()?;
    // X'X and XX' have the same nonzero eigenvalues, the squared singular values; the smaller matrix is
    // decomposed.
    let is_wide = width > height;
    let columns = rows.t()?;
    let product = if is_wide { product(rows, &columns)? } else { product(&columns, rows)? };
    let (values, vectors) = symmetric_eigen(product)?;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let threshold =
        order.first().map_or(0.0, |&index| values[index]) * RELATIVE_TOLERANCE * RELATIVE_TOLERANCE;
    let kept = order.into_iter().take(max_count).filter(|&index| values[index] > threshold);
    let direction = |index: usize| -> Result<Vec<f64>> {
        if !is_wide {
            return Ok(vectors[index].clone());
        }
        let vector = Tensor::from_slice(&vectors[index], (height, 1), rows.device())?;
        let mut direction = columns.matmul(&vector)?.flatten_all()?.to_vec1::<f64>()?;
        let norm = dot(&direction, &direction).sqrt();
        direction.iter_mut().for_each(|value| *value /= norm);
        Ok(direction)
    };
    kept.map(|index| Ok((values[index].sqrt(), direction(index)?))).collect()
}

/// The rows of the product of two matrices.
fn product(left: &Tensor, right: &Tensor) -> Result<Vec<Vec<f64>>> {
    let height = left.dim(0)?;
    let mut rows = Vec::with_capacity(height);
    for start in (0..height).step_by(PRODUCT_ROWS) {
        check_interrupt()?;
        let part = left.narrow(0, start, PRODUCT_ROWS.min(height - start))?;
        rows.extend(part.matmul(right)?.to_vec2::<f64>()?);
    }
    Ok(rows)
}

/// The eigenvalues of a symmetric matrix, unordered, and for each its eigenvector of length 1.
fn symmetric_eigen(matrix: Vec<Vec<f64>>) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let (mut diagonal, mut off_diagonal, mut vectors) = tridiagonal(matrix)?;
    let mut last = diagonal.len().saturating_sub(1);
    let mut steps_left = MAX_STEPS_PER_EIGENVALUE * diagonal.len();
    let is_small = |diagonal: &[f64], off_diagonal: &[f64], index: usize| {
        off_diagonal[index].abs() <= f64::EPSILON * (diagonal[index].abs() + diagonal[index + 1].abs())
    };
    while last > 0 && steps_left > 0 {
        check_interrupt()?;
        if is_small(&diagonal, &off_diagonal, last - 1) {
            last -= 1;
            continue;
        }
        let first = (0..last - 1)
            .rev()
            .find(|&index| is_small(&diagonal, &off_diagonal, index))
            .map_or(0, |index| index + 1);
        qr_step(&mut diagonal, &mut off_diagonal, &mut vectors, first, last);
        steps_left -= 1;
    }
    Ok((diagonal, vectors))
}

/// The diagonal, the off-diagonal, and the columns of the orthogonal matrix.
type Tridiagonal = (Vec<f64>, Vec<f64>, Vec<Vec<f64>>);

/// Householder tridiagonalisation.
fn tridiagonal(mut a: Vec<Vec<f64>>) -> Result<Tridiagonal> {
    let n = a.len();
    let mut off_diagonal = vec![0.0; n.saturating_sub(1)];
    // Vectors `v` of the reflections `1 - vv'`; reflection `k` acts on the rows after `k`.
    let mut reflections = Vec::new();
    for k in 0..n.saturating_sub(1) {
        check_interrupt()?;
        let mut v: Vec<f64> = a[k + 1..].iter().map(|row| row[k]).collect();
        off_diagonal[k] = -dot(&v, &v).sqrt().copysign(v[0]);
        v[0] -= off_diagonal[k];
        let norm_squared = dot(&v, &v);
        if norm_squared > 0.0 {
            let scale = (2.0 / norm_squared).sqrt();
            v.iter_mut().for_each(|value| *value *= scale);
            let p: Vec<f64> = a[k + 1..].iter().map(|row| dot(&row[k + 1..], &v)).collect();
            let half = dot(&p, &v) / 2.0;
            let w: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - half * v).collect();
            for ((row, v_row), w_row) in a[k + 1..].iter_mut().zip(&v).zip(&w) {
                for ((value, v), w) in row[k + 1..].iter_mut().zip(&v).zip(&w) {
                    *value -= v_row * w + w_row * v;
                }
            }
        }
        reflections.push(v);
    }
    let diagonal = (0..n).map(|k| a[k][k]).collect();
    // The product of all reflections, accumulated from the last, by columns.
    let mut columns: Vec<Vec<f64>> =
        (0..n).map(|k| (0..n).map(|index| f64::from(index == k)).collect()).collect();
    for (k, v) in reflections.iter().enumerate().rev() {
        check_interrupt()?;
        for column in &mut columns[k + 1..] {
            let share = dot(&column[k + 1..], v);
            column[k + 1..].iter_mut().zip(v).for_each(|(value, v)| *value -= share * v);
        }
    }
    Ok((diagonal, off_diagonal, columns))
}

/// One implicit QR step with Wilkinson's shift on the rows `first..=last`, whose off-diagonal has no zero.
fn qr_step(
    diagonal: &mut [f64],
    off_diagonal: &mut [f64],
    vectors: &mut [Vec<f64>],
    first: usize,
    last: usize,
) {
    let half_gap = (diagonal[last - 1] - diagonal[last]) / 2.0;
    let corner = off_diagonal[last - 1];
    let shift = diagonal[last] - corner * corner / (half_gap + half_gap.hypot(corner).copysign(half_gap));
    let (mut x, mut z) = (diagonal[first] - shift, off_diagonal[first]);
    for k in first..last {
        let norm = x.hypot(z);
        let (c, s) = if norm > 0.0 { (x / norm, z / norm) } else { (1.0, 0.0) };
        if k > first {
            off_diagonal[k - 1] = norm;
        }
        let (upper, lower, off) = (diagonal[k], diagonal[k + 1], off_diagonal[k]);
        diagonal[k] = c * c * upper + 2.0 * c * s * off + s * s * lower;
        diagonal[k + 1] = s * s * upper - 2.0 * c * s * off + c * c * lower;
        off_diagonal[k] = c * s * (lower - upper) + (c * c - s * s) * off;
        if k + 1 < last {
            (x, z) = (off_diagonal[k], s * off_diagonal[k + 1]);
            off_diagonal[k + 1] *= c;
        }
        if let [above, below] = &mut vectors[k..k + 2] {
            for (a, b) in above.iter_mut().zip(below) {
                (*a, *b) = (c * *a + s * *b, c * *b - s * *a);
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn matrix<const WIDTH: usize>(rows: &[[f64; WIDTH]]) -> Tensor {
        Tensor::from_slice(&rows.concat(), (rows.len(), WIDTH), &Device::Cpu).unwrap()
    }

    fn magnitudes(vector: &[f64]) -> Vec<f64> {
        vector.iter().map(|value| value.abs()).collect()
    }

    #[test]
    fn wide_and_tall_matrices_have_the_same_singular_values() {
        let tall = matrix(&[[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]);
        let (of_tall, of_wide) = (
            truncated_svd(&tall, 9).unwrap(),
            truncated_svd(&tall.t().unwrap().contiguous().unwrap(), 9).unwrap(),
        );
        assert_eq!(of_tall.iter().map(|found| found.0).collect::<Vec<_>>(), [4.0, 3.0]);
        assert_eq!(of_wide.iter().map(|found| found.0).collect::<Vec<_>>(), [4.0, 3.0]);
        assert_eq!(magnitudes(&of_tall[0].1), [0.0, 1.0]);
        assert_eq!(magnitudes(&of_wide[0].1), [0.0, 1.0, 0.0]);
        assert_eq!(truncated_svd(&tall, 1).unwrap().len(), 1);
        assert_eq!(
            truncated_svd(&matrix(&[[1.0, 1.0], [1.0, 1.0]]), 9).unwrap().len(),
            1,
            "the second singular value is zero"
        );
        assert!(
            truncated_svd(&Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap(), 9).unwrap().is_empty()
        );
    }

    #[test]
    fn eigenvectors_reconstruct_the_matrix() {
        for n in [1, 2, 3, 10, 60] {
            // The Hilbert matrix: symmetric and nearly singular.
            let hilbert = |row: usize, column: usize| 1.0 / (row + column + 1) as f64;
            let a: Vec<Vec<f64>> =
                (0..n).map(|row| (0..n).map(|column| hilbert(row, column)).collect()).collect();
            let (values, vectors) = symmetric_eigen(a.clone()).unwrap();
            for row in 0..n {
                for column in 0..n {
                    let parts = values.iter().zip(&vectors);
                    let sum: f64 = parts.map(|(value, v)| value * v[row] * v[column]).sum();
                    assert!((sum - a[row][column]).abs() < 1e-14, "{n}: {sum} {}", a[row][column]);
                    let product = dot(&vectors[row], &vectors[column]);
                    assert!((product - f64::from(row == column)).abs() < 1e-13, "{n}: {product}");
                }
            }
        }
    }

    #[test]
    fn nan_terminates() {
        assert_eq!(symmetric_eigen(vec![vec![f64::NAN; 3]; 3]).unwrap().0.len(), 3);
    }
}
