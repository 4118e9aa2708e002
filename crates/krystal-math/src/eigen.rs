//! Eigenvalues and eigenvectors of small symmetric matrices.

/// The decomposition `A = V diag(d) V^T` of a symmetric matrix, with room to compute it again without allocating.
///
/// `d` are the eigenvalues in ascending order and the columns of `V` the eigenvectors, orthonormal. Householder's reduction to
/// tridiagonal form is followed by the QL algorithm with implicit shifts (Bowdler, Martin, Reinsch and Wilkinson 1968,
/// doi:10.1007/BF02162161 and doi:10.1007/BF02165404): about `9 n^3` floating-point operations. Errors are of the order of
/// `eps |A|`, in small eigenvalues of a graded matrix too: relative accuracy is only that of the largest.
///
/// ```
/// use krystal_math::eigen::SymmetricEigen;
///
/// let mut eigen = SymmetricEigen::new(2);
/// assert!(eigen.compute(&[2.0, 1.0, 1.0, 2.0]));
/// assert!((eigen.values()[0] - 1.0).abs() < 1e-15 && (eigen.values()[1] - 3.0).abs() < 1e-15);
/// let v = eigen.vectors();
/// assert!((v[0] + v[2]).abs() < 1e-15, "the first column is (1, -1) / sqrt 2");
/// ```
#[derive(Debug, Clone)]
pub struct SymmetricEigen {
    n: usize,
    /// Rows are eigenvectors while computing: every inner loop then walks memory in order.
    transposed: Vec<f64>,
    vectors: Vec<f64>,
    values: Vec<f64>,
    off_diagonal: Vec<f64>,
    order: Vec<usize>,
    sorted: Vec<f64>,
}

/// More QL steps than this for one eigenvalue mean that the matrix is not finite.
const MAX_STEPS: usize = 60;

impl SymmetricEigen {
    /// Room for matrices of `n` rows.
    pub fn new(n: usize) -> Self {
        Self {
            n,
            transposed: vec![0.0; n * n],
            vectors: vec![0.0; n * n],
            values: vec![0.0; n],
            off_diagonal: vec![0.0; n],
            order: (0..n).collect(),
            sorted: vec![0.0; n],
        }
    }

    /// The eigenvalues of the last matrix, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The eigenvectors of the last matrix, one a column of `(n, n)` row-major.
    pub fn vectors(&self) -> &[f64] {
        &self.vectors
    }

    /// Decomposes the symmetric `matrix`, `(n, n)`, of which the lower triangle is read; `false` if it is not finite, and then
    /// values and vectors mean nothing.
    ///
    /// # Panics
    /// If `matrix` is not `n * n` long.
    pub fn compute(&mut self, matrix: &[f64]) -> bool {
        let n = self.n;
        assert_eq!(matrix.len(), n * n, "a matrix of {n} rows");
        if matrix.iter().any(|x| !x.is_finite()) {
            return false;
        }
        if n == 0 {
            return true;
        }
        for i in 0..n {
            for j in 0..=i {
                self.transposed[i * n + j] = matrix[i * n + j];
                self.transposed[j * n + i] = matrix[i * n + j];
            }
        }
        self.tridiagonalise();
        if !self.diagonalise() {
            return false;
        }
        self.sort();
        true
    }

    /// Leaves the diagonal in `values`, the elements below it in `off_diagonal[1..]`, and `Q^T` with `A = Q T Q^T`.
    fn tridiagonalise(&mut self) {
        let Self { n, transposed: a, values: d, off_diagonal: e, .. } = self;
        let n = *n;
        // Row i of `a` beyond the diagonal block still to be reduced holds the reflector u of step i, e.g. Q = prod (I - u u^T / h).
        for i in (1..n).rev() {
            let (above, row) = a.split_at_mut(i * n);
            let u = &mut row[..i];
            let scale: f64 = u.iter().map(|x| x.abs()).sum();
            if i == 1 || scale == 0.0 {
                e[i] = u[i - 1];
                d[i] = 0.0;
                continue;
            }
            u.iter_mut().for_each(|x| *x /= scale);
            let norm2: f64 = u.iter().map(|x| x * x).sum();
            let f = u[i - 1];
            let g = -norm2.sqrt().copysign(f);
            e[i] = scale * g;
            let h = norm2 - f * g;
            u[i - 1] = f - g;
            // p = A u / h, K = u.p / 2h, q = p - K u, A -= q u^T + u q^T.
            let mut dot = 0.0;
            for j in 0..i {
                let product: f64 = above[j * n..j * n + i].iter().zip(&*u).map(|(a, u)| a * u).sum();
                e[j] = product / h;
                dot += e[j] * u[j];
            }
            let k = dot / (2.0 * h);
            for j in 0..i {
                e[j] -= k * u[j];
            }
            for j in 0..i {
                let (uj, qj) = (u[j], e[j]);
                for ((a, u), q) in above[j * n..j * n + i].iter_mut().zip(&*u).zip(&e[..i]) {
                    *a -= uj * q + qj * u;
                }
            }
            d[i] = h;
        }
        e[0] = 0.0;
        d[0] = 0.0;
        for i in 0..n {
            let (above, row) = a.split_at_mut(i * n);
            let u = &row[..i];
            // The block above holds Q^T of the smaller problem: Q <- (I - u u^T / h) Q, row by row of Q^T.
            if d[i] != 0.0 {
                for j in 0..i {
                    let q = &mut above[j * n..j * n + i];
                    let dot: f64 = q.iter().zip(u).map(|(q, u)| q * u).sum();
                    let factor = dot / d[i];
                    q.iter_mut().zip(u).for_each(|(q, u)| *q -= factor * u);
                }
            }
            d[i] = row[i];
            row[..n].fill(0.0);
            row[i] = 1.0;
            for j in 0..i {
                above[j * n + i] = 0.0;
            }
        }
    }

    /// QL with implicit shifts on the tridiagonal matrix, rotating the rows of `Q^T` along.
    fn diagonalise(&mut self) -> bool {
        let Self { n, transposed: q, values: d, off_diagonal: e, .. } = self;
        let n = *n;
        e.rotate_left(1);
        e[n - 1] = 0.0;
        for l in 0..n {
            let mut steps = 0;
            loop {
                let small = |m: usize| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs());
                let m = (l..n - 1).find(|&m| small(m)).unwrap_or(n - 1);
                if m == l {
                    break;
                }
                steps += 1;
                if steps > MAX_STEPS {
                    return false;
                }
                let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
                let mut r = g.hypot(1.0);
                g = d[m] - d[l] + e[l] / (g + r.copysign(g));
                let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
                let mut underflow = false;
                for i in (l..m).rev() {
                    let f = s * e[i];
                    let b = c * e[i];
                    r = f.hypot(g);
                    e[i + 1] = r;
                    if r == 0.0 {
                        d[i + 1] -= p;
                        e[m] = 0.0;
                        underflow = true;
                        break;
                    }
                    s = f / r;
                    c = g / r;
                    g = d[i + 1] - p;
                    r = (d[i] - g) * s + 2.0 * c * b;
                    p = s * r;
                    d[i + 1] = g + p;
                    g = c * r - b;
                    let (low, high) = q[i * n..(i + 2) * n].split_at_mut(n);
                    for (low, high) in low.iter_mut().zip(high) {
                        let f = *high;
                        *high = s * *low + c * f;
                        *low = c * *low - s * f;
                    }
                }
                if !underflow {
                    d[l] -= p;
                    e[l] = g;
                    e[m] = 0.0;
                }
            }
        }
        true
    }

    fn sort(&mut self) {
        let Self { n, transposed, vectors, values, order, sorted, .. } = self;
        let n = *n;
        order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
        for (column, &from) in order.iter().enumerate() {
            sorted[column] = values[from];
            for i in 0..n {
                vectors[i * n + column] = transposed[from * n + i];
            }
        }
        std::mem::swap(values, sorted);
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::*;
    use crate::rng::{Purpose, SplitMix64};

    /// `V diag(d) V^T` and `V^T V` against the matrix and the identity, and `d` against nalgebra's, within `error * n * max |d|`.
    fn check(matrix: &[f64], n: usize, error: f64) {
        let mut eigen = SymmetricEigen::new(n);
        assert!(eigen.compute(matrix));
        let (d, v) = (eigen.values(), eigen.vectors());
        let mut expected: Vec<f64> =
            DMatrix::from_row_slice(n, n, matrix).symmetric_eigenvalues().iter().copied().collect();
        expected.sort_by(f64::total_cmp);
        let largest = expected.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let error = error * n as f64;
        for i in 0..n {
            assert!((d[i] - expected[i]).abs() <= error * largest, "{d:?} {expected:?}");
            for j in 0..n {
                let rebuilt: f64 = (0..n).map(|k| v[i * n + k] * d[k] * v[j * n + k]).sum();
                assert!((rebuilt - matrix[i * n + j]).abs() <= error * largest, "({i}, {j}): {rebuilt}");
                let dot: f64 = (0..n).map(|k| v[k * n + i] * v[k * n + j]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() <= error, "({i}, {j}): {dot}");
            }
        }
    }

    fn symmetric(n: usize, rng: &mut SplitMix64, scale: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let x = rng.normal() * scale(i) * scale(j);
                (a[i * n + j], a[j * n + i]) = (x, x);
            }
        }
        a
    }

    #[test]
    fn awkward_matrices() {
        check(&[3.0], 1, 1e-15);
        check(&[0.0; 9], 3, 1e-15);
        check(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], 3, 1e-15);
        check(&[0.0, 1.0, 1.0, 0.0], 2, 1e-15);
        check(&[1e300, 1e300, 1e300, 1e300], 2, 1e-15);
        check(&[1e-300, 1e-301, 1e-301, 1e-300], 2, 1e-15);
        check(&vec![1.0; 49], 7, 1e-15);
        assert!(SymmetricEigen::new(0).compute(&[]));
        let mut rng = SplitMix64::stream(1, Purpose::SelfCheck, 0, 0);
        check(&symmetric(12, &mut rng, |i| 10f64.powi(-(i as i32))), 12, 1e-15);
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let mut eigen = SymmetricEigen::new(2);
        assert!(!eigen.compute(&[1.0, f64::NAN, f64::NAN, 1.0]));
        assert!(!eigen.compute(&[f64::INFINITY, 0.0, 0.0, 1.0]));
        assert!(eigen.compute(&[1.0, 0.0, 0.0, 2.0]));
        assert_eq!(eigen.values(), [1.0, 2.0]);
    }

    #[test]
    fn random_matrices() {
        for n in 1..24 {
            for seed in 0..8 {
                let mut rng = SplitMix64::stream(seed, Purpose::SelfCheck, n as u64, 0);
                check(&symmetric(n, &mut rng, |_| 1.0), n, 4e-15);
            }
        }
    }
}
