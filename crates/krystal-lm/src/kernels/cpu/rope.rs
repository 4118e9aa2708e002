//! Rotary positions in the rotate-half form (Su et al. 2021, arXiv:2104.09864; transformers' layout).

use super::simd::multiversion;
use crate::kernels::{RopeTable, Rotation};

multiversion! {
    /// Rotates `x (R, heads * head_dim)` in place.
    pub(super) fn rotate(x: &mut [f32], head_dim: usize, positions: &[u32], table: &RopeTable, rotation: Rotation) {
        if positions.is_empty() {
            return;
        }
        let width = x.len() / positions.len();
        for (row, position) in x.chunks_exact_mut(width).zip(positions) {
            let (cos, sin) = table.at(*position);
            for head in row.chunks_exact_mut(head_dim) {
                let (low, high) = head.split_at_mut(head_dim / 2);
                match rotation {
                    Rotation::Forward => {
                        for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                            (*a, *b) = (a.mul_add(*c, -(*b * s)), b.mul_add(*c, *a * s));
                        }
                    }
                    Rotation::Backward => {
                        for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                            (*a, *b) = (a.mul_add(*c, *b * s), b.mul_add(*c, -(*a * s)));
                        }
                    }
                }
            }
        }
    }
}
