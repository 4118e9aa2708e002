//! Symmetric positive definite matrices: Cholesky's factor and the inverse.
//!
//! Letters: `n` rows and columns, `M` `(n, n)`, row-major, `L` lower triangular with `L L^T = M`.
//!
//! Precondition of everything here: `M` is positive definite well beyond rounding, as a Gram matrix with something added to its
//! diagonal is. A pivot that is not above `1e-300` is taken to be that: for a matrix that is not positive definite nothing panics,
//! and the result says nothing.

/// Least pivot.
const LEAST_PIVOT: f64 = 1e-300;

/// Replaces the lower half of `matrix` by `L`. The upper half is neither read nor written. `O(n^3 / 6)`.
///
/// ```
/// use krystal_math::positive_definite::cholesky;
/// let mut matrix = [4.0, 0.0, 2.0, 10.0];
/// cholesky(&mut matrix, 2);
/// assert_eq!(matrix, [2.0, 0.0, 1.0, 3.0]);
/// ```
///
/// # Panics
/// Where `matrix` has other than `n * n` entries.
pub fn cholesky(matrix: &mut [f64], n: usize) {
    assert_eq!(matrix.len(), n * n, "entries of a matrix of {n} rows and columns");
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i * n + k] * matrix[j * n + k]).sum();
            let value = matrix[i * n + j] - sum;
            matrix[i * n + j] = if i == j { value.max(LEAST_PIVOT).sqrt() } else { value / matrix[j * n + j] };
        }
    }
}

/// `M^-1`, whole, from the lower half of `M`. `O(n^3)`.
///
/// # Panics
/// Where `matrix` has other than `n * n` entries.
pub fn inverse(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut lower = matrix.to_vec();
    cholesky(&mut lower, n);
    let mut inverse = vec![0.0; n * n];
    for column in 0..n {
        let mut x = vec![0.0; n];
        x[column] = 1.0;
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| lower[i * n + k] * x[k]).sum();
            x[i] = (x[i] - sum) / lower[i * n + i];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| lower[k * n + i] * x[k]).sum();
            x[i] = (x[i] - sum) / lower[i * n + i];
        }
        for i in 0..n {
            inverse[i * n + column] = x[i];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (i, (x, y)) in found.iter().zip(expected).enumerate() {
            assert!((x - y).abs() <= tolerance * (1.0 + y.abs()), "entry {i}: {x} instead of {y}");
        }
    }

    /// The matrix of second differences, whose inverse is known: `min(i, j) (n + 1 - max(i, j)) / (n + 1)`, from 1.
    #[test]
    fn the_inverse_of_second_differences_is_the_known_one() {
        for n in [1, 2, 7, 20] {
            let (mut matrix, mut known) = (vec![0.0; n * n], vec![0.0; n * n]);
            for i in 0..n {
                for j in 0..n {
                    let is_beside = i.abs_diff(j) == 1;
                    matrix[i * n + j] = if i == j { 2.0 } else { -f64::from(u8::from(is_beside)) };
                    known[i * n + j] = ((i.min(j) + 1) * (n - i.max(j))) as f64 / (n + 1) as f64;
                }
            }
            close(&inverse(&matrix, n), &known, 1e-12);
        }
    }

    /// The Hilbert matrix of four rows, of condition 15,514, whose inverse is a matrix of whole numbers.
    #[test]
    fn the_inverse_of_an_ill_conditioned_matrix_is_the_known_one() {
        let hilbert: Vec<f64> = (0..16).map(|at| 1.0 / (at / 4 + at % 4 + 1) as f64).collect();
        let known = [
            [16.0, -120.0, 240.0, -140.0],
            [-120.0, 1200.0, -2700.0, 1680.0],
            [240.0, -2700.0, 6480.0, -4200.0],
            [-140.0, 1680.0, -4200.0, 2800.0],
        ];
        close(&inverse(&hilbert, 4), known.as_flattened(), 1e-10);
    }

    /// Pascal's matrix is `L L^T` of his triangle.
    #[test]
    fn the_factor_of_pascals_matrix_is_his_triangle_and_the_upper_half_is_left_alone() {
        let mut matrix = [1.0, 9.0, 9.0, 9.0, 1.0, 2.0, 9.0, 9.0, 1.0, 3.0, 6.0, 9.0, 1.0, 4.0, 10.0, 20.0];
        cholesky(&mut matrix, 4);
        let triangle = [1.0, 9.0, 9.0, 9.0, 1.0, 1.0, 9.0, 9.0, 1.0, 2.0, 1.0, 9.0, 1.0, 3.0, 3.0, 1.0];
        assert_eq!(matrix, triangle);
    }

    #[test]
    fn what_is_not_positive_definite_stops_nothing() {
        assert_eq!(inverse(&[], 0), [0.0; 0]);
        assert_eq!(inverse(&[-1.0, 0.0, 0.0, -1.0], 2).len(), 4);
        assert_eq!(inverse(&[1.0, 1.0, 1.0, 1.0], 2).len(), 4);
    }
}
