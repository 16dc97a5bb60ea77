//! In which directions rows of numbers vary most.

use nalgebra::linalg::SymmetricEigen;
use nalgebra::{DMatrix, DVector};

/// The largest singular values of a matrix, in falling order, each with its direction among the
/// columns (a right singular vector, of length 1); none for a direction in which nothing varies.
pub(crate) fn largest(rows: &DMatrix<f64>, most: usize) -> Vec<(f64, DVector<f64>)> {
    // Of X'X and XX' the smaller has the same eigenvalues, the squares.
    let is_wide = rows.ncols() > rows.nrows();
    let product = if is_wide { rows * rows.transpose() } else { rows.transpose() * rows };
    let SymmetricEigen { eigenvectors, eigenvalues } = product.symmetric_eigen();
    let mut order: Vec<usize> = (0..eigenvalues.len()).collect();
    order.sort_by(|a, b| eigenvalues[*b].total_cmp(&eigenvalues[*a]));
    let least = order.first().map_or(0.0, |&at| eigenvalues[at]) * NOTHING * NOTHING;
    let found = order.into_iter().take(most).filter(|&at| eigenvalues[at] > least);
    let direction = |at: usize| {
        let vector = eigenvectors.column(at);
        if is_wide { (rows.tr_mul(&vector)).normalize() } else { vector.into_owned() }
    };
    found.map(|at| (eigenvalues[at].sqrt(), direction(at))).collect()
}

/// A singular value this much smaller than the largest is rounding.
const NOTHING: f64 = 1e-7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_tall_matrices_have_the_same_singular_values() {
        let tall = DMatrix::from_row_slice(3, 2, &[3.0, 0.0, 0.0, 4.0, 0.0, 0.0]);
        let (of_tall, of_wide) = (largest(&tall, 9), largest(&tall.transpose(), 9));
        assert_eq!(of_tall.iter().map(|found| found.0).collect::<Vec<_>>(), [4.0, 3.0]);
        assert_eq!(of_wide.iter().map(|found| found.0).collect::<Vec<_>>(), [4.0, 3.0]);
        assert_eq!(of_tall[0].1.abs(), DVector::from_vec(vec![0.0, 1.0]));
        assert_eq!(of_wide[0].1.abs(), DVector::from_vec(vec![0.0, 1.0, 0.0]));
        assert_eq!(largest(&tall, 1).len(), 1);
        assert_eq!(largest(&DMatrix::from_element(2, 2, 1.0), 9).len(), 1, "the second is nothing");
        assert!(largest(&DMatrix::zeros(2, 2), 9).is_empty());
    }
}
