//! Short random projections that keep inner products: CountSketch of vectors, and its two-sided form for matrices that are
//! sums of outer products.
//!
//! Letters: `n` length of a vector, `k` length of its sketch; a matrix `G` is `(d_out, d_in)`, its sketch `(p, q)`, `T` rows.
//! All row-major.

use rand::Rng;

use crate::rng::{Purpose, stream_rng};

/// A CountSketch: every index of a vector goes to one of `k` buckets with a sign, `S(x)_b = sum_{i -> b} sign_i x_i`.
///
/// For any two vectors `E <S(x), S(y)> = <x, y>`, with a standard deviation of at most `sqrt(2 / k) |x| |y|`, and of about
/// `sqrt(1 / k) |x| |y|` where the vectors are unrelated. Applying it costs `n` additions.
///
/// Index `i` is drawn from the stream `(seed, Purpose::Sketch, stream, side)`, as the `i`th 64-bit word `w`: bucket
/// `floor((w >> 32) k / 2^32)`, sign minus if `w` is odd.
///
/// Reference: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", 2002.
///
/// ```
/// use krystal_math::sketch::CountSketch;
///
/// let sketch = CountSketch::new(100, 16, 7, 0);
/// let mut short = [0.0; 16];
/// sketch.add(&[0.5; 100], &mut short);
/// let mut bucket_0 = 0.0;
/// for i in (0..100).filter(|i| sketch.buckets()[*i] == 0) {
///     bucket_0 += 0.5 * sketch.signs()[i];
/// }
/// assert_eq!(short[0], bucket_0);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CountSketch {
    k: usize,
    buckets: Vec<u32>,
    signs: Vec<f32>,
}

impl CountSketch {
    /// The sketch of vectors of length `n` into `k` buckets at `(seed, stream)`.
    ///
    /// # Panics
    /// If `k` is 0 or beyond `u32`.
    pub fn new(n: usize, k: usize, seed: u64, stream: u64) -> Self {
        Self::of_side(n, k, seed, stream, 0)
    }

    fn of_side(n: usize, k: usize, seed: u64, stream: u64, side: u64) -> Self {
        assert!(k > 0 && u32::try_from(k).is_ok(), "a sketch of {k} buckets");
        let mut rng = stream_rng(seed, Purpose::Sketch, stream, side);
        let (buckets, signs) = (0..n)
            .map(|_| {
                let word = rng.next_u64();
                // Lemire's multiplication instead of a remainder; the bias of k / 2^32 is far below the sketch's noise.
                let bucket = ((word >> 32) * k as u64) >> 32;
                (bucket as u32, if word & 1 == 1 { -1.0 } else { 1.0 })
            })
            .unzip();
        Self { k, buckets, signs }
    }

    /// Length `k` of a sketch.
    pub fn width(&self) -> usize {
        self.k
    }

    /// Bucket of each index, `(n)`, each below [`width`](Self::width).
    pub fn buckets(&self) -> &[u32] {
        &self.buckets
    }

    /// Sign of each index, `(n)`, -1 or 1.
    pub fn signs(&self) -> &[f32] {
        &self.signs
    }

    /// `out += S(x)`, `x` being `(n)` and `out` `(k)`.
    ///
    /// # Panics
    /// If a length is another.
    pub fn add(&self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), self.buckets.len(), "length of the vector and of the sketch's tables");
        assert_eq!(out.len(), self.k, "length of the output and buckets");
        for ((value, bucket), sign) in x.iter().zip(&self.buckets).zip(&self.signs) {
            out[*bucket as usize] += sign * value;
        }
    }
}

/// A sketch of matrices `G (d_out, d_in)` into `p q` numbers: `S(G) = P G Q^T` with a CountSketch `P` of the rows and `Q` of
/// the columns.
///
/// Where `G = sum_t d_t x_t^T`, as every gradient of a linear layer is, `S(G) = sum_t (P d_t) (Q x_t)^T`: `G` is never
/// formed, and a row costs `d_out + d_in + p q`. Sketches of one seed and stream are comparable with each other; those of
/// several modules, each with its own stream, may be added into one vector, which is a sketch of the modules' concatenation.
///
/// `E <S(G), S(H)> = <G, H>`. The cosine's error is about `1 / sqrt(p q)` for matrices without structure; for two of rank one
/// that share a side it is that of the other side alone, up to `sqrt(2 / p)` or `sqrt(2 / q)`.
///
/// Reference: the factorised projection of FactGraSS (arXiv 2505.18976) with CountSketch on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct TwoSidedSketch {
    rows: CountSketch,
    columns: CountSketch,
}

impl TwoSidedSketch {
    /// The sketch of `(d_out, d_in)` into `(p, q)` at `(seed, stream)`; `stream` is the module's index.
    ///
    /// # Panics
    /// If `p` or `q` is 0 or beyond `u32`.
    pub fn new((d_out, d_in): (usize, usize), (p, q): (usize, usize), seed: u64, stream: u64) -> Self {
        Self {
            rows: CountSketch::of_side(d_out, p, seed, stream, 1),
            columns: CountSketch::of_side(d_in, q, seed, stream, 2),
        }
    }

    /// Numbers in a sketch, `p q`.
    pub fn width(&self) -> usize {
        self.rows.k * self.columns.k
    }

    /// `P`: the sketch of outputs, `d_out` to `p`.
    pub fn rows(&self) -> &CountSketch {
        &self.rows
    }

    /// `Q`: the sketch of inputs, `d_in` to `q`.
    pub fn columns(&self) -> &CountSketch {
        &self.columns
    }

    /// `out += sum_t (P d_t)(Q x_t)^T`: `d` is `(T, d_out)`, `x` is `(T, d_in)`, `out` is `(p, q)`. Rows are added in order, so
    /// calls on parts of the rows give the same bits as one call on all of them.
    ///
    /// # Panics
    /// If a length is another, or `d` and `x` differ in their rows.
    pub fn add_rows(&self, d: &[f32], x: &[f32], out: &mut [f32]) {
        let (d_out, d_in) = (self.rows.buckets.len(), self.columns.buckets.len());
        assert_eq!(out.len(), self.width(), "length of the output and width of the sketch");
        if d_out == 0 || d_in == 0 {
            return;
        }
        assert_eq!(d.len() % d_out, 0, "{} numbers are no whole rows of {d_out}", d.len());
        assert_eq!(x.len() % d_in, 0, "{} numbers are no whole rows of {d_in}", x.len());
        assert_eq!(d.len() / d_out, x.len() / d_in, "rows of d and of x");
        let (mut short_d, mut short_x) = (vec![0.0_f32; self.rows.k], vec![0.0_f32; self.columns.k]);
        for (d, x) in d.chunks_exact(d_out).zip(x.chunks_exact(d_in)) {
            short_d.fill(0.0);
            short_x.fill(0.0);
            self.rows.add(d, &mut short_d);
            self.columns.add(x, &mut short_x);
            for (out, d) in out.chunks_exact_mut(self.columns.k).zip(&short_d) {
                for (out, x) in out.iter_mut().zip(&short_x) {
                    *out += d * x;
                }
            }
        }
    }

    /// `out += P G Q^T` of a matrix that is there, `(d_out, d_in)`.
    ///
    /// # Panics
    /// If a length is another.
    pub fn add_matrix(&self, matrix: &[f32], out: &mut [f32]) {
        let (d_out, d_in) = (self.rows.buckets.len(), self.columns.buckets.len());
        assert_eq!(matrix.len(), d_out * d_in, "length of the matrix and {d_out} times {d_in}");
        assert_eq!(out.len(), self.width(), "length of the output and width of the sketch");
        let q = self.columns.k;
        for (row, values) in matrix.chunks_exact(d_in.max(1)).enumerate() {
            let out = &mut out[self.rows.buckets[row] as usize * q..][..q];
            let sign = self.rows.signs[row];
            for ((value, bucket), column_sign) in values.iter().zip(&self.columns.buckets).zip(&self.columns.signs) {
                out[*bucket as usize] += sign * column_sign * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(x: &[f32], y: &[f32]) -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    fn cosine(x: &[f32], y: &[f32]) -> f64 {
        dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
    }

    /// Uniform in [-1, 1).
    fn noise(n: usize, stream: u64) -> Vec<f32> {
        let mut rng = stream_rng(1, Purpose::Task, stream, 0);
        (0..n).map(|_| (rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    #[test]
    fn sketching_rows_is_sketching_their_matrix() {
        let (d_out, d_in, rows) = (13, 9, 5);
        let (d, x) = (noise(rows * d_out, 0), noise(rows * d_in, 1));
        let mut matrix = vec![0.0; d_out * d_in];
        for t in 0..rows {
            for (i, j) in (0..d_out).flat_map(|i| (0..d_in).map(move |j| (i, j))) {
                matrix[i * d_in + j] += d[t * d_out + i] * x[t * d_in + j];
            }
        }
        let sketch = TwoSidedSketch::new((d_out, d_in), (4, 3), 7, 2);
        let (mut by_rows, mut by_parts, mut by_matrix) = ([0.0; 12], [0.0; 12], [0.0; 12]);
        sketch.add_rows(&d, &x, &mut by_rows);
        sketch.add_rows(&d[..2 * d_out], &x[..2 * d_in], &mut by_parts);
        sketch.add_rows(&d[2 * d_out..], &x[2 * d_in..], &mut by_parts);
        sketch.add_matrix(&matrix, &mut by_matrix);
        assert_eq!(by_rows, by_parts);
        for (a, b) in by_rows.iter().zip(&by_matrix) {
            assert!((a - b).abs() < 1e-5, "{by_rows:?} {by_matrix:?}");
        }
        assert!(by_rows.iter().any(|value| value.abs() > 0.1));
    }

    #[test]
    fn the_cosine_is_unbiased_and_its_error_falls_with_the_root_of_the_width() {
        // Two gradients of 24 rows whose outputs share a part, so that their cosine is about .25.
        let (d_out, d_in, rows) = (48, 40, 24);
        let (shared, x) = (noise(rows * d_out, 10), noise(rows * d_in, 11));
        let (own_d, own_x) = (noise(rows * d_out, 12), noise(rows * d_in, 13));
        let other_x: Vec<f32> = x.iter().zip(&own_x).map(|(a, b)| a + b).collect();
        let other_d: Vec<f32> = shared.iter().zip(&own_d).map(|(a, b)| a + b).collect();
        let form = |d: &[f32], x: &[f32]| {
            let mut matrix = vec![0.0_f32; d_out * d_in];
            for (d, x) in d.chunks(d_out).zip(x.chunks(d_in)) {
                for (i, j) in (0..d_out).flat_map(|i| (0..d_in).map(move |j| (i, j))) {
                    matrix[i * d_in + j] += d[i] * x[j];
                }
            }
            matrix
        };
        let (g, h) = (form(&shared, &x), form(&other_d, &other_x));
        let exact = cosine(&g, &h);
        assert!(exact > 0.3 && exact < 0.7, "{exact}");
        let scale = (dot(&g, &g) * dot(&h, &h)).sqrt();
        let seeds = 400;
        for side in [8, 16, 32] {
            let (mut bias, mut squares) = (0.0, 0.0);
            for seed in 0..seeds {
                let sketch = TwoSidedSketch::new((d_out, d_in), (side, side), seed, 0);
                let (mut s, mut t) = (vec![0.0; side * side], vec![0.0; side * side]);
                sketch.add_rows(&shared, &x, &mut s);
                sketch.add_rows(&other_d, &other_x, &mut t);
                bias += (dot(&s, &t) / scale - exact) / seeds as f64;
                squares += (cosine(&s, &t) - exact).powi(2) / seeds as f64;
            }
            let expected = 1.0 / side as f64;
            // Four standard errors of a mean of 400; the inner product's own deviation is below twice 1 / sqrt(k).
            assert!(bias.abs() < 4.0 * 2.0 * expected / (seeds as f64).sqrt(), "k = {side}^2: bias {bias}");
            let rmse = squares.sqrt();
            assert!(rmse > 0.4 * expected && rmse < 1.5 * expected, "k = {side}^2: {rmse}, 1 / sqrt(k) is {expected}");
        }
    }

    #[test]
    fn tables_are_frozen() {
        let sketch = CountSketch::new(6, 1000, 7, 3);
        assert_eq!(sketch.buckets(), FROZEN_BUCKETS);
        assert_eq!(sketch.signs(), FROZEN_SIGNS);
        // Another side, stream or seed is another table.
        let two = TwoSidedSketch::new((6, 6), (1000, 1000), 7, 3);
        assert!(two.rows().buckets() != sketch.buckets() && two.rows() != two.columns());
        assert_ne!(CountSketch::new(6, 1000, 7, 4), sketch);
        assert_ne!(CountSketch::new(6, 1000, 8, 3), sketch);
        assert_eq!(CountSketch::new(3, 1000, 7, 3).buckets(), &sketch.buckets()[..3]);
    }

    const FROZEN_BUCKETS: [u32; 6] = [478, 720, 359, 54, 895, 179];
    const FROZEN_SIGNS: [f32; 6] = [-1.0, -1.0, -1.0, -1.0, -1.0, 1.0];
}
