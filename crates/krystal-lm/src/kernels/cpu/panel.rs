//! Weights in the layout that the matrix kernel reads.
//!
//! A matrix `(n, k)`, row-major as Hugging Face stores `(out, in)`, becomes `ceil(n / 16)` panels. Panel `p` holds rows
//! `16 p .. 16 p + 16` as `k` steps of 16 lanes: lane `l` of step `i` is element `(16 p + l, i)`. Rows beyond `n` are zero.
//! The kernel then reads memory in order, one cache line a step.

use rayon::prelude::*;

use super::simd::{LANES, Lanes};

/// Values below which one thread packs a matrix faster than two.
const PARALLEL_VALUES: usize = 1 << 18;

/// A packed matrix, `(n, k)`.
#[derive(Debug, Clone)]
pub struct Panels {
    n: usize,
    k: usize,
    steps: Vec<Lanes>,
}

impl Panels {
    /// Packs a row-major `(n, k)` matrix.
    ///
    /// # Panics
    /// If `rows` does not hold `n * k` values.
    pub fn pack(rows: &[f32], n: usize, k: usize) -> Self {
        assert_eq!(rows.len(), n * k, "a ({n}, {k}) matrix has {} values, got {}", n * k, rows.len());
        let mut panels = Self { n, k, steps: vec![Lanes::ZERO; n.div_ceil(LANES) * k] };
        panels.repack(rows);
        panels
    }

    /// Replaces the values, keeping the shape.
    ///
    /// # Panics
    /// If `rows` does not hold `n * k` values.
    pub fn repack(&mut self, rows: &[f32]) {
        assert_eq!(rows.len(), self.n * self.k);
        if self.k == 0 {
            return;
        }
        let pack = |(panel, block): (&mut [Lanes], &[f32])| {
            for (lane, row) in block.chunks_exact(self.k).enumerate() {
                for (step, value) in panel.iter_mut().zip(row) {
                    step.0[lane] = *value;
                }
            }
        };
        if rows.len() < PARALLEL_VALUES {
            self.steps.chunks_exact_mut(self.k).zip(rows.chunks(LANES * self.k)).for_each(pack);
        } else {
            self.steps.par_chunks_exact_mut(self.k).zip(rows.par_chunks(LANES * self.k)).for_each(pack);
        }
    }

    /// Rows of the matrix (outputs).
    pub fn n(&self) -> usize {
        self.n
    }

    /// Columns of the matrix (inputs).
    pub fn k(&self) -> usize {
        self.k
    }

    /// Panel `p` as `k` steps.
    pub(crate) fn panel(&self, p: usize) -> &[Lanes] {
        &self.steps[p * self.k..(p + 1) * self.k]
    }

    /// All steps, panel after panel.
    pub(crate) fn steps(&self) -> &[Lanes] {
        &self.steps
    }

    /// Copies row `i` to `out`, `(k)`.
    pub(crate) fn row(&self, i: usize, out: &mut [f32]) {
        debug_assert!(i < self.n);
        for (value, step) in out.iter_mut().zip(self.panel(i / LANES)) {
            *value = step.0[i % LANES];
        }
    }

    /// The matrix again, row-major `(n, k)`.
    pub fn unpack(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.n * self.k];
        for i in 0..self.n {
            self.row(i, &mut rows[i * self.k..(i + 1) * self.k]);
        }
        rows
    }

    /// Writes the transposed strip of columns `16 c .. 16 c + 16` of panels `first .. first + out.len() / 16`: step `j` of
    /// `out` holds elements `(16 first + j, 16 c + lane)`. Columns beyond `k` are zero.
    pub(crate) fn transposed_strip(&self, c: usize, first: usize, out: &mut [Lanes]) {
        let width = LANES.min(self.k - c * LANES);
        for (p, block) in out.chunks_mut(LANES).enumerate() {
            let source = &self.panel(first + p)[c * LANES..c * LANES + width];
            if width == LANES && block.len() == LANES {
                let source: &[Lanes; LANES] = source.try_into().expect("a full block");
                let block: &mut [Lanes; LANES] = block.try_into().expect("a full block");
                for (l, step) in block.iter_mut().enumerate() {
                    for (value, source) in step.0.iter_mut().zip(source) {
                        *value = source.0[l];
                    }
                }
            } else {
                for (l, step) in block.iter_mut().enumerate() {
                    *step = Lanes::ZERO;
                    for (i, s) in source.iter().enumerate() {
                        step.0[i] = s.0[l];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_value_and_transposes() {
        for (n, k) in [(1, 1), (16, 16), (17, 5), (40, 33), (3, 70)] {
            let rows: Vec<f32> = (0..n * k).map(|i| i as f32 + 0.5).collect();
            let panels = Panels::pack(&rows, n, k);
            assert_eq!(panels.unpack(), rows);
            for c in 0..k.div_ceil(LANES) {
                let mut strip = vec![Lanes::ZERO; n];
                panels.transposed_strip(c, 0, &mut strip);
                for j in 0..n {
                    for l in 0..LANES {
                        let i = c * LANES + l;
                        let expected = if i < k { rows[j * k + i] } else { 0.0 };
                        assert_eq!(strip[j].0[l], expected);
                    }
                }
            }
        }
    }
}
