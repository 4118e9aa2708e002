//! Algebra of matrices that are given as a sum of a few outer products, without forming them.
//!
//! Letters: `r` terms, `m` and `n` the lengths of their left and right vectors, `M = sum_j b_j a_j^T` the `(m, n)` matrix.
//! Rows `j` of `b` `(r, m)` and of `a` `(r, n)` are the vectors of term `j`, row-major.

/// A gain of the diagonal below this share of the rounding of its vectors is none: the vector depends on those before it.
const DEPENDENT: f64 = 1e-13;
/// One-sided Jacobi converges quadratically: a dozen sweeps are many.
const MAX_SWEEPS: usize = 60;

/// The singular value decomposition of `M = sum_j b_j a_j^T`: `M = sum_i s_i u_i v_i^T`.
///
/// There are only as many terms as `M` has numerical rank; none for a zero matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LowRankSvd {
    /// `s`, descending, all positive.
    pub singular_values: Vec<f64>,
    /// Rows `u_i`, orthonormal, `(rank, m)`.
    pub left: Vec<Vec<f64>>,
    /// Rows `v_i`, orthonormal, `(rank, n)`.
    pub right: Vec<Vec<f64>>,
}

/// What is lost by keeping only the largest singular values (Eckart and Young 1936, doi:10.1007/BF02288367).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TruncationError {
    /// Largest singular value that is dropped.
    pub spectral: f64,
    /// Root of the sum of squares of those that are dropped.
    pub frobenius: f64,
}

impl LowRankSvd {
    /// Numerical rank.
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// `|M|_F`.
    pub fn frobenius_norm(&self) -> f64 {
        norm(&self.singular_values)
    }

    /// What keeping the first `rank` terms loses.
    pub fn truncation_error(&self, rank: usize) -> TruncationError {
        let tail = self.singular_values.get(rank..).unwrap_or_default();
        TruncationError { spectral: tail.first().copied().unwrap_or(0.0), frobenius: norm(tail) }
    }

    /// Term `i` as new factors `(b, a)` with `|a| = gauge`: `b = s_i u_i / gauge`, `a = gauge v_i`. The gauge moves nothing
    /// but how the factors train.
    ///
    /// # Panics
    /// Where `i` is not below [`LowRankSvd::rank`].
    pub fn term(&self, i: usize, gauge: f64) -> (Vec<f32>, Vec<f32>) {
        let scale = self.singular_values[i] / gauge;
        let b = self.left[i].iter().map(|u| (scale * u) as f32).collect();
        let a = self.right[i].iter().map(|v| (gauge * v) as f32).collect();
        (b, a)
    }
}

/// Decomposes `sum_j b_j a_j^T` in `O((m + n) r^2 + r^3)`.
///
/// Both factors are orthogonalised (Gram and Schmidt, twice), `M = Q_b^T (R_b R_a^T) Q_a`, and the small core is decomposed by
/// one-sided Jacobi rotations, which find small singular values to high relative accuracy. All in f64, in a fixed order.
/// Entries that are not finite make a result that is not finite or has no terms.
///
/// ```
/// use krystal_math::low_rank::low_rank_svd;
/// // diag(3, 2): two terms.
/// let svd = low_rank_svd(&[&[0.0, 2.0], &[3.0, 0.0]], &[&[0.0, 1.0], &[1.0, 0.0]]);
/// assert_eq!(svd.singular_values, [3.0, 2.0]);
/// assert_eq!(svd.truncation_error(1).spectral, 2.0);
/// ```
///
/// # Panics
/// Where there are not as many rows of `b` as of `a`, or rows of one factor differ in length.
pub fn low_rank_svd(b: &[&[f32]], a: &[&[f32]]) -> LowRankSvd {
    assert_eq!(b.len(), a.len(), "rows of b and rows of a");
    let (q_b, r_b) = orthogonal_rows(b);
    let (q_a, r_a) = orthogonal_rows(a);
    // core[i][k] = sum_j r_b[i][j] r_a[k][j]. The taller way round, so that columns can be orthogonal.
    let tall = q_b.len() >= q_a.len();
    let (rows, cols) = if tall { (&r_b, &r_a) } else { (&r_a, &r_b) };
    let columns: Vec<Vec<f64>> = cols.iter().map(|c| rows.iter().map(|r| dot(r, c)).collect()).collect();
    let (long, s, short) = jacobi(columns);
    let (left, right) = if tall { (long, short) } else { (short, long) };
    LowRankSvd {
        singular_values: s,
        left: left.iter().map(|w| combine(w, &q_b)).collect(),
        right: right.iter().map(|w| combine(w, &q_a)).collect(),
    }
}

/// `<M, N> = sum_jk (b_j . d_k)(a_j . c_k)` of `M = sum_j b_j a_j^T` and `N = sum_k d_k c_k^T`: their inner product as vectors
/// of `m n` numbers. `O(r^2 (m + n))`.
///
/// # Panics
/// Where rows of the factors do not pair up or differ in length.
pub fn inner_product(b: &[&[f32]], a: &[&[f32]], d: &[&[f32]], c: &[&[f32]]) -> f64 {
    assert_eq!((b.len(), d.len()), (a.len(), c.len()), "rows of the left and of the right factors");
    let mut total = 0.0;
    for (b, a) in b.iter().zip(a) {
        for (d, c) in d.iter().zip(c) {
            total += dot_f32(b, d) * dot_f32(a, c);
        }
    }
    total
}

/// `sum x_i y_i` in f64, from first to last.
///
/// # Panics
/// Where the lengths differ.
pub fn dot_f32(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

/// `sum_i w_i q_i`.
fn combine(weights: &[f64], q: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; q.first().map_or(0, Vec::len)];
    for (w, q) in weights.iter().zip(q) {
        sum.iter_mut().zip(q).for_each(|(s, q)| *s += w * q);
    }
    sum
}

/// Orthonormal rows `q` and coefficients with `row_j = sum_i r[i][j] q_i`.
///
/// Rows that depend on those before them add no `q`: what rounding leaves of them is noise.
fn orthogonal_rows(rows: &[&[f32]]) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let length = rows.first().map_or(0, |row| row.len());
    let mut q: Vec<Vec<f64>> = Vec::new();
    let mut r: Vec<Vec<f64>> = Vec::new();
    for (j, row) in rows.iter().enumerate() {
        assert_eq!(row.len(), length, "lengths of rows 0 and {j}");
        let mut rest: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let size = norm(&rest);
        // Once leaves an error that grows with the condition of the rows; twice does not (Giraud et al. 2005,
        // doi:10.1007/s00211-005-0615-4).
        for _ in 0..2 {
            for (q, r) in q.iter().zip(&mut r) {
                let c = dot(q, &rest);
                r[j] += c;
                rest.iter_mut().zip(q).for_each(|(x, q)| *x -= c * q);
            }
        }
        let left = norm(&rest);
        if left > DEPENDENT * size && q.len() < length {
            rest.iter_mut().for_each(|x| *x /= left);
            q.push(rest);
            let mut coefficients = vec![0.0; rows.len()];
            coefficients[j] = left;
            r.push(coefficients);
        }
    }
    (q, r)
}

/// One-sided Jacobi (Hestenes 1958) of the matrix with these columns, at least as long as they are many: left vectors,
/// singular values, right vectors, for the values that are not rounding.
fn jacobi(mut columns: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<f64>, Vec<Vec<f64>>) {
    let n = columns.len();
    // v[i] is column i of V: columns_new = columns_old V.
    let mut v: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let alpha = dot(&columns[p], &columns[p]);
                let beta = dot(&columns[q], &columns[q]);
                let gamma = dot(&columns[p], &columns[q]);
                // Written so that NaN is orthogonal: there is nothing to rotate.
                let oblique = gamma.abs() > f64::EPSILON * (alpha * beta).sqrt();
                if !oblique {
                    continue;
                }
                rotated = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                rotate(&mut columns, p, q, c, c * t);
                rotate(&mut v, p, q, c, c * t);
            }
        }
        if !rotated {
            break;
        }
    }
    let sizes: Vec<f64> = columns.iter().map(|column| norm(column)).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|x, y| sizes[*y].total_cmp(&sizes[*x]));
    let floor = order.first().map_or(0.0, |first| DEPENDENT * sizes[*first]);
    order.retain(|i| sizes[*i] > floor);
    let left = order.iter().map(|i| columns[*i].iter().map(|x| x / sizes[*i]).collect()).collect();
    let right = order.iter().map(|i| v[*i].clone()).collect();
    (left, order.iter().map(|i| sizes[*i]).collect(), right)
}

fn rotate(columns: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    let (head, tail) = columns.split_at_mut(q);
    for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;
    use rand::RngExt;

    use super::*;
    use crate::rng::{Purpose, stream_rng};

    fn rows(flat: &[f32], width: usize) -> Vec<&[f32]> {
        flat.chunks_exact(width).collect()
    }

    fn product(b: &[f32], a: &[f32], r: usize, m: usize, n: usize) -> DMatrix<f64> {
        let b = DMatrix::from_row_slice(r, m, b).map(f64::from);
        let a = DMatrix::from_row_slice(r, n, a).map(f64::from);
        b.transpose() * a
    }

    /// Against nalgebra's dense decomposition of the product.
    fn check(r: usize, m: usize, n: usize, index: u64, spread: f64) {
        let mut rng = stream_rng(11, Purpose::Weights, 0, index);
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect() };
        let (mut b, a) = (draw(r * m), draw(r * n));
        for (j, row) in b.chunks_exact_mut(m).enumerate() {
            row.iter_mut().for_each(|x| *x *= spread.powi(j as i32) as f32);
        }
        let dense = product(&b, &a, r, m, n);
        let mut expected: Vec<f64> = dense.clone().svd(false, false).singular_values.iter().copied().collect();
        expected.sort_by(|x, y| y.total_cmp(x));
        let svd = low_rank_svd(&rows(&b, m), &rows(&a, n));
        let size = expected[0];
        for (i, s) in expected.iter().enumerate() {
            let found = svd.singular_values.get(i).copied().unwrap_or(0.0);
            assert!((found - s).abs() <= 1e-11 * size, "({r},{m},{n}) value {i}: {found} for {s}");
        }
        for keep in 0..=svd.rank() {
            let mut rebuilt = DMatrix::<f64>::zeros(m, n);
            for i in 0..keep {
                for (row, u) in svd.left[i].iter().enumerate() {
                    for (col, v) in svd.right[i].iter().enumerate() {
                        rebuilt[(row, col)] += svd.singular_values[i] * u * v;
                    }
                }
            }
            let error = svd.truncation_error(keep);
            let tail: f64 = expected[keep.min(expected.len())..].iter().map(|s| s * s).sum::<f64>().sqrt();
            assert!(((&dense - rebuilt).norm() - tail).abs() <= 1e-11 * size, "({r},{m},{n}) keeping {keep}");
            assert!((error.frobenius - tail).abs() <= 1e-11 * size);
            assert!(error.spectral <= error.frobenius * (1.0 + 1e-15));
        }
        for i in 0..svd.rank() {
            for k in 0..=i {
                let one = f64::from(u8::from(i == k));
                assert!((dot(&svd.left[i], &svd.left[k]) - one).abs() < 1e-10);
                assert!((dot(&svd.right[i], &svd.right[k]) - one).abs() < 1e-10);
            }
        }
        let squared = inner_product(&rows(&b, m), &rows(&a, n), &rows(&b, m), &rows(&a, n));
        assert!((squared.sqrt() - dense.norm()).abs() <= 1e-10 * size);
    }

    #[test]
    fn agrees_with_a_dense_decomposition() {
        let sizes =
            [(1, 5, 7), (4, 16, 9), (8, 33, 20), (16, 24, 40), (12, 5, 30), (7, 40, 3), (3, 1, 1), (24, 48, 48)];
        for (index, (r, m, n)) in sizes.into_iter().enumerate() {
            check(r, m, n, index as u64, 1.0);
            check(r, m, n, 100 + index as u64, 0.3);
        }
    }

    #[test]
    fn terms_rebuild_the_matrix_at_any_gauge() {
        let (b, a) = ([1.0, -2.0, 0.5, 3.0], [0.25, 1.0, 4.0, -1.0, 2.0, 0.0]);
        let svd = low_rank_svd(&rows(&b, 2), &rows(&a, 3));
        for gauge in [0.577, 1.0, 10.0] {
            let terms: Vec<_> = (0..svd.rank()).map(|i| svd.term(i, gauge)).collect();
            for (_, a) in &terms {
                assert!((dot_f32(a, a).sqrt() - gauge).abs() < 1e-6 * gauge);
            }
            let flat_b: Vec<f32> = terms.iter().flat_map(|(b, _)| b.clone()).collect();
            let flat_a: Vec<f32> = terms.iter().flat_map(|(_, a)| a.clone()).collect();
            let gap = product(&flat_b, &flat_a, 2, 2, 3) - product(&b, &a, 2, 2, 3);
            assert!(gap.norm() < 1e-5, "{gauge}: {gap}");
        }
    }

    #[test]
    fn dependent_and_zero_terms_add_no_rank() {
        let b: [&[f32]; 3] = [&[1.0, 2.0], &[2.0, 4.0], &[0.0, 0.0]];
        let a: [&[f32]; 3] = [&[1.0, 0.0, 1.0], &[0.0, 1.0, 0.0], &[5.0, 5.0, 5.0]];
        // (1, 2)^T (1, 2, 1): rank 1, norm sqrt(5 * 6).
        let svd = low_rank_svd(&b, &a);
        assert_eq!(svd.rank(), 1);
        assert!((svd.frobenius_norm() - 30.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(low_rank_svd(&b[2..], &a[2..]), LowRankSvd::default());
        assert_eq!(low_rank_svd(&[], &[]), LowRankSvd::default());
        let bad = low_rank_svd(&[&[f32::NAN, 1.0]], &[&[1.0, 1.0]]);
        assert!(bad.rank() == 0 || !bad.frobenius_norm().is_finite());
    }
}
